// SPDX-License-Identifier: LGPL-2.1-or-later
// The frames between this driver and the daemon, as docs/ifd-protocol.md has them.
// Bytes in, messages out: no socket, no clock, no allocation.
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    WIRE_VERSION = 1,
    WIRE_HEADER_SIZE = 6,
    WIRE_HELLO_SIZE = 11,
    WIRE_SEEN_SIZE = 8,
    WIRE_PAYLOAD_MAX = 65552,
    WIRE_ATR_MIN = 2,
    WIRE_ATR_MAX = 33,
    WIRE_RESPONSE_MIN = 2,
    WIRE_RESPONSE_MAX = 65538,
    WIRE_CONTROL_MAX = 65548,
};

enum wire_kind {
    WIRE_HELLO = 0x01,
    WIRE_CARD = 0x02,
    WIRE_SEEN = 0x03,
    WIRE_BUSY = 0x04,
    WIRE_POWER_ON = 0x10,
    WIRE_POWER_OFF = 0x11,
    WIRE_RESET = 0x12,
    WIRE_TRANSMIT = 0x13,
    WIRE_CONTROL = 0x14,
};

enum wire_role {
    WIRE_EVENTS = 1,
    WIRE_COMMANDS = 2,
};

enum wire_status {
    WIRE_OK = 0,
    WIRE_CARD_REMOVED = 1,
    WIRE_CARD_BUSY = 2,
    WIRE_NOT_SUPPORTED = 3,
    WIRE_FAILED = 4,
};

struct wire_frame {
    uint8_t kind;
    uint8_t status;
    const uint8_t *payload; // inside the inbox, good until it is filled again
    uint32_t length;
};

struct wire_card {
    bool present;
    uint64_t generation;
    uint8_t atr[WIRE_ATR_MAX];
    size_t atr_length;
};

// What was received and not yet taken out. All zero is empty.
struct wire_inbox {
    size_t begin;
    size_t end;
    uint8_t bytes[WIRE_HEADER_SIZE + WIRE_PAYLOAD_MAX];
};

enum wire_next {
    WIRE_INCOMPLETE,
    WIRE_FRAME,
    WIRE_BROKEN, // this connection can only be closed
};

// Where the next bytes go; *room is never 0 while wire_next says WIRE_INCOMPLETE.
uint8_t *wire_inbox_room(struct wire_inbox *inbox, size_t *room);
void wire_inbox_filled(struct wire_inbox *inbox, size_t count);

// Takes out the next whole frame of the daemon.
enum wire_next wire_next(struct wire_inbox *inbox, struct wire_frame *frame);

// The daemon's HELLO; *version is set whenever the magic is right.
bool wire_parse_hello(const struct wire_frame *frame, enum wire_role role, uint16_t *version);
bool wire_parse_card(const struct wire_frame *frame, struct wire_card *card);

// Whether this is an answer to a command of `kind`, of a size such an answer may have.
bool wire_is_answer(const struct wire_frame *frame, enum wire_kind kind);

void wire_put_header(uint8_t header[WIRE_HEADER_SIZE], enum wire_kind kind, uint32_t length);
void wire_put_hello(uint8_t frame[WIRE_HEADER_SIZE + WIRE_HELLO_SIZE], enum wire_role role);
void wire_put_seen(uint8_t frame[WIRE_HEADER_SIZE + WIRE_SEEN_SIZE], uint64_t generation);
