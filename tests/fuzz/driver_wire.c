// SPDX-License-Identifier: LGPL-2.1-or-later
// libFuzzer target: what the daemon may send to pcscd's driver, in pieces of any size.
//
// The input is a list of pieces, each a length byte and so many bytes. Besides what the sanitizer
// finds, a frame must lie inside the inbox and the same bytes must give the same frames whole.
#include "../../pcscd-ifd/wire.h"

#include <stdlib.h>
#include <string.h>

enum { INPUT_MAX = 1 << 17 };

struct outcome {
    unsigned frames;
    uint64_t digest;
    bool broken;
};

static void require(bool condition) {
    if (!condition)
        abort();
}

static void digest(struct outcome *outcome, const uint8_t *bytes, size_t length) {
    for (size_t i = 0; i < length; i++)
        outcome->digest = outcome->digest * 1099511628211u + bytes[i] + 1;
}

static void look_at(const struct wire_inbox *inbox, const struct wire_frame *frame) {
    require(frame->length <= WIRE_PAYLOAD_MAX);
    require(frame->payload >= inbox->bytes);
    require(frame->payload + frame->length <= inbox->bytes + sizeof inbox->bytes);
    uint16_t version;
    if (wire_parse_hello(frame, WIRE_EVENTS, &version))
        require(version == WIRE_VERSION);
    wire_parse_hello(frame, WIRE_COMMANDS, &version);
    struct wire_card card = {0};
    if (wire_parse_card(frame, &card)) {
        require(card.atr_length <= WIRE_ATR_MAX);
        require(card.present == (card.atr_length > 0));
    }
    for (int kind = WIRE_POWER_ON; kind <= WIRE_CONTROL; kind++)
        if (wire_is_answer(frame, (enum wire_kind)kind))
            require(frame->kind == kind && frame->length <= WIRE_CONTROL_MAX);
}

static void feed(struct wire_inbox *inbox, const uint8_t *bytes, size_t length,
                 struct outcome *outcome) {
    while (length > 0 && !outcome->broken) {
        size_t room;
        uint8_t *place = wire_inbox_room(inbox, &room);
        require(room > 0);
        size_t count = length < room ? length : room;
        memcpy(place, bytes, count);
        wire_inbox_filled(inbox, count);
        bytes += count;
        length -= count;
        struct wire_frame frame;
        enum wire_next next;
        while ((next = wire_next(inbox, &frame)) == WIRE_FRAME) {
            look_at(inbox, &frame);
            outcome->frames++;
            digest(outcome, &frame.kind, 1);
            digest(outcome, &frame.status, 1);
            digest(outcome, frame.payload, frame.length);
        }
        outcome->broken = next == WIRE_BROKEN;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static struct wire_inbox inbox;
    static uint8_t whole[INPUT_MAX];
    struct outcome pieces = {0}, at_once = {0};
    size_t length = 0;
    inbox = (struct wire_inbox){0};
    while (size > 0 && length + 255 <= INPUT_MAX) {
        size_t piece = data[0] < size - 1 ? data[0] : size - 1;
        feed(&inbox, data + 1, piece, &pieces);
        memcpy(whole + length, data + 1, piece);
        length += piece;
        data += piece + 1;
        size -= piece + 1;
    }
    inbox = (struct wire_inbox){0};
    feed(&inbox, whole, length, &at_once);
    require(pieces.frames == at_once.frames && pieces.broken == at_once.broken);
    require(pieces.digest == at_once.digest);
    return 0;
}
