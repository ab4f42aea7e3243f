// SPDX-License-Identifier: LGPL-2.1-or-later
// What pcscd is shown of the card, and when.
//
// pcscd's event thread takes turns: it looks (IFDHICCPresence), acts on what it saw, and
// waits in the driver. It cannot see an exchange of cards between two looks, so after a card
// has gone the reader is shown empty until one whole turn has begun and ended with it empty.
//
// The threads that serve clients write the same reader state, after a call of ours has returned
// and with no lock: "present" behind IFDHPowerICC, however it ended, and "absent" behind an
// IFDHICCPresence or IFDHTransmitToICC that found no card. The event thread writes only when
// what it sees changes, so a mark that comes behind its own stays. Hence it is shown a change
// only once such a mark has surely been made; the other threads are told at once.
#pragma once

#include "wire.h"

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <time.h>

enum presence_look {
    PRESENCE_EMPTY,
    PRESENCE_CARD,
    PRESENCE_UNKNOWN, // makes pcscd forget what it believes
};

struct presence {
    pthread_mutex_t lock;
    pthread_cond_t changed;

    uint64_t epoch;      // of the link that told what follows
    bool present;        // as the daemon says
    uint64_t generation; // as the daemon counts

    pthread_t event_thread;
    bool event_thread_known; // from its first wait on

    bool shown;                  // what the event thread is shown
    bool absence_due;            // a whole turn with the reader empty must come first
    unsigned powering;           // power calls of clients under way
    struct timespec leave_at;    // a card is not shown to leave before this,
    struct timespec come_at;     // and none to come before this
    struct timespec empty_since; // the reader is shown so; where a card waits, since it does
    bool doubtful;               // a client may have marked an empty reader as not empty
    bool unknown;                // so for this turn the event thread is told we do not know

    uint64_t edition; // grows whenever pcscd has something to look at
    uint64_t turn;    // the edition when the event thread's turn began
    bool seen_due;    // the daemon has not been told what pcscd has seen
    bool stop;        // the event thread is wanted back
};

void presence_init(struct presence *presence);
void presence_destroy(struct presence *presence);

// The daemon says by the link of this epoch what is in the reader.
void presence_card(struct presence *presence, const struct wire_card *card, uint64_t epoch);
// There is no daemon any more.
void presence_lost(struct presence *presence);
// A command found no card, whatever the daemon said last: pcscd has to start over.
void presence_start_over(struct presence *presence);

// Whether a command may be asked of the card.
bool presence_here(struct presence *presence);
// IFDHICCPresence, by whichever thread calls.
enum presence_look presence_look(struct presence *presence);
// A power call is about to be made, and has been made; true if by a client's thread.
bool presence_power_begins(struct presence *presence);
void presence_power_ends(struct presence *presence, bool client);

// The event thread, which calls, has ended its turn. True if the daemon of the link of *epoch
// must be told it saw *generation.
bool presence_turn_ended(struct presence *presence, uint64_t *generation, uint64_t *epoch);
// Waits until there is something to look at; the next turn begins when it returns.
void presence_wait(struct presence *presence, int timeout_ms);
// Ends the wait, or the next one if there is none.
void presence_stop(struct presence *presence);
