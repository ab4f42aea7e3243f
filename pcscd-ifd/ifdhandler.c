// SPDX-License-Identifier: LGPL-2.1-or-later
// pcscd's IFD handler API, version 3 (PCSC/ifdhandler.h), for readers of the vccid daemon.
#pragma GCC visibility push(default)
#include <ifdhandler.h>
#pragma GCC visibility pop
#include <reader.h>

#include "log.h"
#include "slots.h"

#include <stdio.h>
#include <string.h>

enum {
    APDU_MAX = 65548,   // MAX_BUFFER_SIZE_EXTENDED of pcscd
    ATR_TD_PRESENT = 8, // ISO/IEC 7816-3, 8.2.2: bit 8 of T0 and TDi, shifted down
    ATR_LAST_PROTOCOL = 1,
    DRIVER_VERSION = 0x00010000, // 0xMMmmbbbb
};

// ---- life of a reader

RESPONSECODE IFDHCreateChannelByName(DWORD lun, LPSTR device_name) {
    static const char prefix[] = "vccid:";
    const char *path = device_name;
    if (strncmp(path, prefix, strlen(prefix)) == 0)
        path += strlen(prefix);
    if (reader_open(lun, path))
        return IFD_SUCCESS;
    if (strlen(path) >= READER_PATH_MAX)
        LOG(LOG_PRIORITY_ERROR,
            "cannot open reader %lx with DEVICENAME %s: it is vccid:PATH of the daemon's socket, "
            "PATH at most %d bytes",
            lun, device_name, READER_PATH_MAX - 1);
    else
        LOG(LOG_PRIORITY_ERROR,
            "cannot open reader %lx with DEVICENAME %s: it is open, or there is no thread, file "
            "descriptor or memory left",
            lun, device_name);
    return IFD_COMMUNICATION_ERROR;
}

// CHANNELID n without a DEVICENAME is the n-th reader as the daemon names them by default.
RESPONSECODE IFDHCreateChannel(DWORD lun, DWORD channel) {
    char path[READER_PATH_MAX];
    snprintf(path, sizeof path, "/run/vccid/vccid%lu.ifd", channel);
    return IFDHCreateChannelByName(lun, path);
}

RESPONSECODE IFDHCloseChannel(DWORD lun) {
    return reader_close(lun) ? IFD_SUCCESS : IFD_NO_SUCH_DEVICE;
}

// ---- presence

RESPONSECODE IFDHICCPresence(DWORD lun) {
    struct reader *reader = reader_hold(lun);
    if (reader == NULL)
        return IFD_NO_SUCH_DEVICE;
    enum presence_look look = presence_look(&reader->presence);
    if (look == PRESENCE_EMPTY)
        reader_forget_atr(reader);
    reader_release(reader);
    switch (look) {
    case PRESENCE_CARD:
        return IFD_ICC_PRESENT;
    case PRESENCE_EMPTY:
        return IFD_ICC_NOT_PRESENT;
    default:
        return IFD_COMMUNICATION_ERROR;
    }
}

// TAG_IFD_POLLING_THREAD_WITH_TIMEOUT: called by the event thread at the end of each turn.
static RESPONSECODE wait_for_change(DWORD lun, int timeout_ms) {
    struct reader *reader = reader_hold(lun);
    if (reader == NULL)
        return IFD_NO_SUCH_DEVICE;
    uint64_t generation, epoch;
    if (presence_turn_ended(&reader->presence, &generation, &epoch))
        link_seen(&reader->link, generation, epoch);
    presence_wait(&reader->presence, timeout_ms);
    reader_release(reader);
    return IFD_SUCCESS;
}

// TAG_IFD_STOP_POLLING_THREAD
static RESPONSECODE stop_waiting(DWORD lun) {
    struct reader *reader = reader_hold(lun);
    if (reader == NULL)
        return IFD_NO_SUCH_DEVICE;
    presence_stop(&reader->presence);
    reader_release(reader);
    return IFD_SUCCESS;
}

// ---- commands

static RESPONSECODE response_code(struct reader *reader, int status) {
    switch (status) {
    case WIRE_OK:
        return IFD_SUCCESS;
    case LINK_LOST:
    case WIRE_CARD_REMOVED:
        presence_start_over(&reader->presence);
        return IFD_ICC_NOT_PRESENT;
    case WIRE_CARD_BUSY:
        return IFD_ERROR_POWER_ACTION;
    case WIRE_NOT_SUPPORTED:
        return IFD_NOT_SUPPORTED;
    default:
        return IFD_COMMUNICATION_ERROR;
    }
}

static bool is_powered(struct reader *reader) {
    uint8_t atr[WIRE_ATR_MAX];
    return reader_get_atr(reader, atr) > 0;
}

static RESPONSECODE power(struct reader *reader, enum wire_kind kind, UCHAR *atr, DWORD *length) {
    uint8_t answer[WIRE_ATR_MAX] = {0};
    size_t size = sizeof answer;
    reader_forget_atr(reader);
    int status = link_command(&reader->link, kind, NULL, 0, answer, &size);
    RESPONSECODE result = response_code(reader, status);
    if (result != IFD_SUCCESS || kind == WIRE_POWER_OFF)
        return result;
    reader_set_atr(reader, answer, size);
    memcpy(atr, answer, size);
    *length = size;
    return IFD_SUCCESS;
}

RESPONSECODE IFDHPowerICC(DWORD lun, DWORD action, PUCHAR atr, PDWORD atr_length) {
    struct reader *reader = reader_hold(lun);
    if (reader == NULL)
        return IFD_NO_SUCH_DEVICE;
    // pcscd passes no buffers when it powers down.
    if (atr_length != NULL)
        *atr_length = 0;
    bool client = presence_power_begins(&reader->presence);
    RESPONSECODE result = IFD_NOT_SUPPORTED;
    if (!presence_here(&reader->presence))
        result = IFD_ICC_NOT_PRESENT;
    else if (action == IFD_POWER_UP)
        result = power(reader, WIRE_POWER_ON, atr, atr_length);
    else if (action == IFD_POWER_DOWN)
        result = power(reader, WIRE_POWER_OFF, atr, atr_length);
    else if (action == IFD_RESET)
        result = power(reader, WIRE_RESET, atr, atr_length);
    presence_power_ends(&reader->presence, client);
    reader_release(reader);
    return result;
}

RESPONSECODE IFDHTransmitToICC(DWORD lun, SCARD_IO_HEADER send_pci, PUCHAR command,
                               DWORD command_length, PUCHAR response, PDWORD response_length,
                               PSCARD_IO_HEADER receive_pci) {
    size_t size = *response_length;
    *response_length = 0;
    struct reader *reader = reader_hold(lun);
    if (reader == NULL)
        return IFD_NO_SUCH_DEVICE;
    RESPONSECODE result = IFD_COMMUNICATION_ERROR;
    if (!presence_here(&reader->presence)) {
        presence_start_over(&reader->presence);
        result = IFD_ICC_NOT_PRESENT;
    } else if (!is_powered(reader)) {
        // As with any reader only this command fails: its card is still there.
        result = IFD_COMMUNICATION_ERROR;
    } else if (command_length > 0 && command_length <= APDU_MAX) {
        struct iovec part = {.iov_base = command, .iov_len = command_length};
        int status = link_command(&reader->link, WIRE_TRANSMIT, &part, 1, response, &size);
        result = response_code(reader, status);
        if (result == IFD_SUCCESS) {
            *response_length = size; // more than there was room for tells pcscd so
            if (receive_pci != NULL)
                receive_pci->Protocol = send_pci.Protocol;
        }
    }
    reader_release(reader);
    return result;
}

// ---- protocol

// Protocols the ATR offers, as SCARD_PROTOCOL_T0 and _T1 bits (ISO/IEC 7816-3, 8.2.3).
static DWORD offered_protocols(const uint8_t *atr, size_t length) {
    DWORD offered = 0;
    size_t at = 1;
    for (unsigned present = length > at ? atr[at] >> 4 : 0; present & ATR_TD_PRESENT;) {
        at += (size_t)__builtin_popcount(present);
        if (at >= length)
            break;
        unsigned protocol = atr[at] & 0x0f;
        if (protocol <= ATR_LAST_PROTOCOL)
            offered |= 1ul << protocol;
        present = atr[at] >> 4;
    }
    return offered != 0 ? offered : SCARD_PROTOCOL_T0; // no TD1: T=0 alone
}

RESPONSECODE IFDHSetProtocolParameters(DWORD lun, DWORD protocol, UCHAR flags, UCHAR pts1,
                                       UCHAR pts2, UCHAR pts3) {
    // Speed means nothing here, so PTS1 to PTS3 are taken and change nothing.
    (void)flags, (void)pts1, (void)pts2, (void)pts3;
    struct reader *reader = reader_hold(lun);
    if (reader == NULL)
        return IFD_NO_SUCH_DEVICE;
    uint8_t atr[WIRE_ATR_MAX];
    size_t length = reader_get_atr(reader, atr);
    reader_release(reader);
    bool one = protocol == SCARD_PROTOCOL_T0 || protocol == SCARD_PROTOCOL_T1;
    if (!one || (offered_protocols(atr, length) & protocol) == 0)
        return IFD_PROTOCOL_NOT_SUPPORTED;
    return IFD_SUCCESS;
}

// ---- what the daemon is asked by a control code

// Not a feature: the reader's serial number.
enum { GET_SERIAL = SCARD_CTL_CODE(0x7663) };

static RESPONSECODE forward(struct reader *reader, DWORD code, PUCHAR data, DWORD data_length,
                            PUCHAR room, DWORD room_length, LPDWORD returned) {
    uint8_t number[4] = {code >> 24 & 0xff, code >> 16 & 0xff, code >> 8 & 0xff, code & 0xff};
    struct iovec parts[2] = {
        {.iov_base = number, .iov_len = sizeof number},
        {.iov_base = data, .iov_len = data_length},
    };
    size_t size = room_length;
    int status = link_command(&reader->link, WIRE_CONTROL, parts, 2, room, &size);
    RESPONSECODE result = response_code(reader, status);
    if (result != IFD_SUCCESS)
        return result;
    if (size > room_length)
        return IFD_ERROR_INSUFFICIENT_BUFFER;
    *returned = size;
    return IFD_SUCCESS;
}

// ---- capabilities

static RESPONSECODE give(const void *value, size_t size, PDWORD length, PUCHAR room) {
    if (*length < size)
        return IFD_ERROR_INSUFFICIENT_BUFFER;
    memcpy(room, value, size);
    *length = size;
    return IFD_SUCCESS;
}

static RESPONSECODE give_byte(UCHAR value, PDWORD length, PUCHAR room) {
    return give(&value, sizeof value, length, room);
}

static RESPONSECODE give_number(uint32_t value, PDWORD length, PUCHAR room) {
    return give(&value, sizeof value, length, room);
}

// Empty where no card is powered, as libccid's.
static RESPONSECODE give_atr(struct reader *reader, PDWORD length, PUCHAR room) {
    uint8_t atr[WIRE_ATR_MAX];
    size_t size = reader_get_atr(reader, atr);
    return give(atr, size, length, room);
}

// Text has its NUL, and counts it, as libccid's: programs print it as it comes.
static RESPONSECODE give_text(const char *text, PDWORD length, PUCHAR room) {
    return give(text, strlen(text) + 1, length, room);
}

// The daemon's word: a program tells by it whose reader this is. None that answers: no number.
static RESPONSECODE give_serial(struct reader *reader, PDWORD length, PUCHAR room) {
    char serial[MAX_BUFFER_SIZE];
    DWORD size = 0;
    RESPONSECODE result =
        forward(reader, GET_SERIAL, NULL, 0, (PUCHAR)serial, sizeof serial - 1, &size);
    if (result == IFD_ERROR_INSUFFICIENT_BUFFER)
        return result;
    if (result != IFD_SUCCESS || size == 0)
        return IFD_ERROR_TAG;
    serial[size] = '\0';
    return give_text(serial, length, room);
}

// What is asked of one reader (PC/SC part 3, 3.1.2; values in PCSC/reader.h).
static RESPONSECODE attribute(struct reader *reader, DWORD tag, PDWORD length, PUCHAR value) {
    bool here = presence_here(&reader->presence);
    switch (tag) {
    case TAG_IFD_ATR:
    case SCARD_ATTR_ATR_STRING:
        return give_atr(reader, length, value);
    case SCARD_ATTR_ICC_PRESENCE: // 0 none, 2 present and not swallowed
        return give_byte(here ? 2 : 0, length, value);
    case SCARD_ATTR_ICC_INTERFACE_STATUS:
        return give_byte(here && is_powered(reader), length, value);
    case SCARD_ATTR_ICC_TYPE_PER_ATR: // 1: ISO/IEC 7816, asynchronous
        return give_byte(here ? 1 : 0, length, value);
    case SCARD_ATTR_VENDOR_NAME:
        return give_text("vccid", length, value);
    case SCARD_ATTR_VENDOR_IFD_VERSION:
        return give_number(DRIVER_VERSION, length, value);
    case SCARD_ATTR_VENDOR_IFD_SERIAL_NO:
        return give_serial(reader, length, value);
    case SCARD_ATTR_MAXINPUT:
        return give_number(APDU_MAX, length, value);
    default:
        return IFD_ERROR_TAG;
    }
}

RESPONSECODE IFDHGetCapabilities(DWORD lun, DWORD tag, PDWORD length, PUCHAR value) {
    RESPONSECODE (*const waiter)(DWORD, int) = wait_for_change;
    RESPONSECODE (*const stopper)(DWORD) = stop_waiting;
    switch (tag) {
    case TAG_IFD_SIMULTANEOUS_ACCESS:
        return give_byte(READERS_MAX, length, value);
    case TAG_IFD_THREAD_SAFE:
    case TAG_IFD_SLOT_THREAD_SAFE:
    case TAG_IFD_SLOTS_NUMBER:
        return give_byte(1, length, value);
    case TAG_IFD_POLLING_THREAD_KILLABLE:
        return give_byte(0, length, value);
    case TAG_IFD_POLLING_THREAD_WITH_TIMEOUT:
        return give(&waiter, sizeof waiter, length, value);
    case TAG_IFD_STOP_POLLING_THREAD:
        return give(&stopper, sizeof stopper, length, value);
    default:
        break;
    }
    struct reader *reader = reader_hold(lun);
    if (reader == NULL)
        return IFD_NO_SUCH_DEVICE;
    RESPONSECODE result = attribute(reader, tag, length, value);
    reader_release(reader);
    return result;
}

RESPONSECODE IFDHSetCapabilities(DWORD lun, DWORD tag, DWORD length, PUCHAR value) {
    (void)lun, (void)tag, (void)length, (void)value;
    return IFD_ERROR_TAG; // nothing can be set
}

// ---- control

// PC/SC part 10, 2.3: the features every reader has, each with the control code that asks for
// it. Those of a PIN pad come from the daemon, as do the answers to their codes.
enum { GET_TLV_PROPERTIES = SCARD_CTL_CODE(0x330000 + FEATURE_GET_TLV_PROPERTIES) };

static const uint8_t features[] = {
    FEATURE_GET_TLV_PROPERTIES,
    4, // length; the code is big-endian
    GET_TLV_PROPERTIES >> 24,
    GET_TLV_PROPERTIES >> 16 & 0xff,
    GET_TLV_PROPERTIES >> 8 & 0xff,
    GET_TLV_PROPERTIES & 0xff,
};

// PC/SC part 10, 2.6.14: values are little-endian.
static const uint8_t properties[] = {
    PCSCv2_PART10_PROPERTY_dwMaxAPDUDataSize, 4, 0x00, 0x00, 0x01, 0x00, // 65,536: extended
};

// Our own list, and behind it what the daemon adds for this reader. None that answers: nothing.
static RESPONSECODE describe(struct reader *reader, DWORD code, const uint8_t *own, size_t own_size,
                             PUCHAR room, DWORD room_length, LPDWORD returned) {
    DWORD size = room_length, added = 0;
    if (give(own, own_size, &size, room) != IFD_SUCCESS)
        return IFD_ERROR_INSUFFICIENT_BUFFER;
    RESPONSECODE result = forward(reader, code, NULL, 0, room + size, room_length - size, &added);
    if (result == IFD_ERROR_INSUFFICIENT_BUFFER)
        return result;
    *returned = size + added;
    return IFD_SUCCESS;
}

RESPONSECODE IFDHControl(DWORD lun, DWORD code, PUCHAR data, DWORD data_length, PUCHAR room,
                         DWORD room_length, LPDWORD returned) {
    *returned = 0;
    struct reader *reader = reader_hold(lun);
    if (reader == NULL)
        return IFD_NO_SUCH_DEVICE;
    RESPONSECODE result = IFD_COMMUNICATION_ERROR;
    if (code == CM_IOCTL_GET_FEATURE_REQUEST)
        result = describe(reader, code, features, sizeof features, room, room_length, returned);
    else if (code == GET_TLV_PROPERTIES)
        result = describe(reader, code, properties, sizeof properties, room, room_length, returned);
    else if (data_length <= APDU_MAX)
        result = forward(reader, code, data, data_length, room, room_length, returned);
    reader_release(reader);
    return result;
}
