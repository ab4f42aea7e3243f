// SPDX-License-Identifier: LGPL-2.1-or-later
// What pcscd is shown of the card, and when.
//
// pcscd's event thread takes turns: it looks (IFDHICCPresence), acts on what it saw, and
// waits in the driver. It cannot see an exchange of cards between two looks, so after a card
// has gone the reader is shown empty until one whole turn has begun and ended with it empty.
// IFDHICCPresence is also called by clients' threads; counting turns does not mind them.
#pragma once

#include "wire.h"

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <time.h>

struct presence {
    pthread_mutex_t lock;
    pthread_cond_t changed;

    bool linked;         // whether the daemon has told us anything of what follows
    bool present;        // as the daemon says
    uint64_t generation; // as the daemon counts

    bool shown;           // what pcscd is shown
    bool absence_due;     // a whole turn with the reader empty must come first
    struct timespec hold; // and not end before this
    uint64_t edition;     // grows whenever pcscd has something to look at
    uint64_t turn;        // the edition when the event thread's turn began
    bool seen_due;        // the daemon has not been told what pcscd has seen
    bool stop;            // the event thread is wanted back
};

void presence_init(struct presence *presence);
void presence_destroy(struct presence *presence);

// The daemon says what is in the reader.
void presence_card(struct presence *presence, const struct wire_card *card);
// There is no daemon any more.
void presence_lost(struct presence *presence);
// A command found no card, whatever the daemon said last: pcscd has to start over.
void presence_start_over(struct presence *presence);

bool presence_shown(struct presence *presence);

// The event thread has ended its turn. True if the daemon must be told it saw *generation.
bool presence_turn_ended(struct presence *presence, uint64_t *generation);
// Waits until there is something to look at; the next turn begins when it returns.
void presence_wait(struct presence *presence, int timeout_ms);
// Ends the wait, or the next one if there is none.
void presence_stop(struct presence *presence);
