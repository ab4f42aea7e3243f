// SPDX-License-Identifier: LGPL-2.1-or-later
#include "wire.h"

#include <string.h>

static const char magic[8] = {'V', 'C', 'C', 'I', 'D', 'I', 'F', 'D'};

static uint64_t get_big_endian(const uint8_t *bytes, size_t size) {
    uint64_t value = 0;
    for (size_t i = 0; i < size; i++)
        value = value << 8 | bytes[i];
    return value;
}

static void put_big_endian(uint8_t *bytes, size_t size, uint64_t value) {
    for (size_t i = 0; i < size; i++)
        bytes[i] = (uint8_t)(value >> 8 * (size - 1 - i));
}

uint8_t *wire_inbox_room(struct wire_inbox *inbox, size_t *room) {
    if (inbox->begin == inbox->end) {
        inbox->begin = inbox->end = 0;
    } else if (inbox->begin > 0) {
        memmove(inbox->bytes, inbox->bytes + inbox->begin, inbox->end - inbox->begin);
        inbox->end -= inbox->begin;
        inbox->begin = 0;
    }
    *room = sizeof inbox->bytes - inbox->end;
    return inbox->bytes + inbox->end;
}

void wire_inbox_filled(struct wire_inbox *inbox, size_t count) { inbox->end += count; }

enum wire_next wire_next(struct wire_inbox *inbox, struct wire_frame *frame) {
    const uint8_t *bytes = inbox->bytes + inbox->begin;
    size_t available = inbox->end - inbox->begin;
    if (available < WIRE_HEADER_SIZE)
        return WIRE_INCOMPLETE;
    uint32_t length = (uint32_t)get_big_endian(bytes + 2, 4);
    if (length > WIRE_PAYLOAD_MAX)
        return WIRE_BROKEN;
    if (available - WIRE_HEADER_SIZE < length)
        return WIRE_INCOMPLETE;
    *frame = (struct wire_frame){
        .kind = bytes[0],
        .status = bytes[1],
        .payload = bytes + WIRE_HEADER_SIZE,
        .length = length,
    };
    inbox->begin += WIRE_HEADER_SIZE + length;
    return WIRE_FRAME;
}

bool wire_parse_hello(const struct wire_frame *frame, enum wire_role role, uint16_t *version) {
    if (frame->kind != WIRE_HELLO || frame->status != WIRE_OK || frame->length != WIRE_HELLO_SIZE)
        return false;
    if (memcmp(frame->payload, magic, sizeof magic) != 0)
        return false;
    *version = (uint16_t)get_big_endian(frame->payload + 8, 2);
    return *version == WIRE_VERSION && frame->payload[10] == role;
}

bool wire_parse_card(const struct wire_frame *frame, struct wire_card *card) {
    if (frame->kind != WIRE_CARD || frame->status != WIRE_OK || frame->length < 9)
        return false;
    size_t atr_length = frame->length - 9;
    uint8_t flag = frame->payload[0];
    if (flag > 1)
        return false;
    if (flag == 0 && atr_length != 0)
        return false;
    if (flag == 1 && (atr_length < WIRE_ATR_MIN || atr_length > WIRE_ATR_MAX))
        return false;
    card->present = flag == 1;
    card->generation = get_big_endian(frame->payload + 1, 8);
    memcpy(card->atr, frame->payload + 9, atr_length);
    card->atr_length = atr_length;
    return true;
}

bool wire_is_answer(const struct wire_frame *frame, enum wire_kind kind) {
    if (frame->kind != kind || frame->status > WIRE_FAILED)
        return false;
    if (frame->status != WIRE_OK)
        return frame->length == 0;
    switch (kind) {
    case WIRE_POWER_ON:
    case WIRE_RESET:
        return frame->length >= WIRE_ATR_MIN && frame->length <= WIRE_ATR_MAX;
    case WIRE_TRANSMIT:
        return frame->length >= WIRE_RESPONSE_MIN && frame->length <= WIRE_RESPONSE_MAX;
    case WIRE_CONTROL:
        return frame->length <= WIRE_CONTROL_MAX;
    default:
        return frame->length == 0;
    }
}

void wire_put_header(uint8_t header[WIRE_HEADER_SIZE], enum wire_kind kind, uint32_t length) {
    header[0] = (uint8_t)kind;
    header[1] = WIRE_OK;
    put_big_endian(header + 2, 4, length);
}

void wire_put_hello(uint8_t frame[WIRE_HEADER_SIZE + WIRE_HELLO_SIZE], enum wire_role role) {
    wire_put_header(frame, WIRE_HELLO, WIRE_HELLO_SIZE);
    memcpy(frame + WIRE_HEADER_SIZE, magic, sizeof magic);
    put_big_endian(frame + WIRE_HEADER_SIZE + 8, 2, WIRE_VERSION);
    frame[WIRE_HEADER_SIZE + 10] = (uint8_t)role;
}

void wire_put_seen(uint8_t frame[WIRE_HEADER_SIZE + WIRE_SEEN_SIZE], uint64_t generation) {
    wire_put_header(frame, WIRE_SEEN, WIRE_SEEN_SIZE);
    put_big_endian(frame + WIRE_HEADER_SIZE, 8, generation);
}
