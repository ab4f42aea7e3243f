// SPDX-License-Identifier: LGPL-2.1-or-later
// The readers pcscd has opened, by its Lun.
#pragma once

#include "link.h"
#include "presence.h"
#include "wire.h"

#include <stdbool.h>
#include <stdint.h>

enum {
    READERS_MAX = 255, // a Lun's upper half counts this library's readers from 0
    READER_PATH_MAX = sizeof(((struct sockaddr_un *)0)->sun_path),
};

struct reader {
    struct presence presence;
    struct link link;
    unsigned users; // calls that hold it now

    pthread_mutex_t atr_lock;
    uint8_t atr[WIRE_ATR_MAX]; // of the last power-up, none while powered down
    size_t atr_length;
};

// Opens the reader whose daemon listens at `path`; false if `lun` cannot be had.
bool reader_open(unsigned long lun, const char *path);
// Ends every call that waits on it, then frees it; false if there is none.
bool reader_close(unsigned long lun);

// Holds a reader until reader_release; NULL if there is none.
struct reader *reader_hold(unsigned long lun);
void reader_release(struct reader *reader);

void reader_forget_atr(struct reader *reader);
void reader_set_atr(struct reader *reader, const uint8_t *atr, size_t length);
// Returns the length; `atr` has WIRE_ATR_MAX bytes.
size_t reader_get_atr(struct reader *reader, uint8_t *atr);
