// SPDX-License-Identifier: LGPL-2.1-or-later
#include "presence.h"

#include <string.h>

enum {
    // After IFD_ICC_NOT_PRESENT pcscd's client thread marks the reader empty without a lock.
    // A new card is shown only when it surely has, or the mark would stay (milliseconds).
    HOLD_MS = 50,
};

static struct timespec from_now(int milliseconds) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    time.tv_sec += milliseconds / 1000;
    time.tv_nsec += milliseconds % 1000 * 1000000L;
    if (time.tv_nsec >= 1000000000L) {
        time.tv_sec++;
        time.tv_nsec -= 1000000000L;
    }
    return time;
}

static bool earlier(struct timespec left, struct timespec right) {
    return left.tv_sec != right.tv_sec ? left.tv_sec < right.tv_sec : left.tv_nsec < right.tv_nsec;
}

void presence_init(struct presence *presence) {
    memset(presence, 0, sizeof *presence);
    pthread_condattr_t attributes;
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&presence->changed, &attributes);
    pthread_condattr_destroy(&attributes);
    pthread_mutex_init(&presence->lock, NULL);
}

void presence_destroy(struct presence *presence) {
    pthread_mutex_destroy(&presence->lock);
    pthread_cond_destroy(&presence->changed);
}

static void show_empty(struct presence *presence) {
    if (presence->shown) {
        presence->shown = false;
        presence->absence_due = true;
    }
}

static void look_again(struct presence *presence) {
    presence->edition++;
    pthread_cond_broadcast(&presence->changed);
}

void presence_card(struct presence *presence, const struct wire_card *card) {
    pthread_mutex_lock(&presence->lock);
    if (!card->present || card->generation != presence->generation)
        show_empty(presence);
    presence->linked = true;
    presence->present = card->present;
    presence->generation = card->generation;
    presence->seen_due = true;
    if (card->present && !presence->absence_due)
        presence->shown = true;
    look_again(presence);
    pthread_mutex_unlock(&presence->lock);
}

void presence_lost(struct presence *presence) {
    pthread_mutex_lock(&presence->lock);
    show_empty(presence);
    presence->linked = presence->present = presence->seen_due = false;
    look_again(presence);
    pthread_mutex_unlock(&presence->lock);
}

void presence_start_over(struct presence *presence) {
    pthread_mutex_lock(&presence->lock);
    show_empty(presence);
    if (presence->absence_due) {
        presence->hold = from_now(HOLD_MS);
        look_again(presence);
    }
    pthread_mutex_unlock(&presence->lock);
}

bool presence_shown(struct presence *presence) {
    pthread_mutex_lock(&presence->lock);
    bool shown = presence->shown;
    pthread_mutex_unlock(&presence->lock);
    return shown;
}

bool presence_turn_ended(struct presence *presence, uint64_t *generation) {
    bool seen = false;
    pthread_mutex_lock(&presence->lock);
    bool whole = presence->turn == presence->edition;
    if (whole && presence->absence_due && !earlier(from_now(0), presence->hold)) {
        presence->absence_due = false;
        if (presence->present) {
            presence->shown = true;
            look_again(presence);
            whole = false;
        }
    }
    if (whole && presence->seen_due && !presence->absence_due) {
        presence->seen_due = false;
        *generation = presence->generation;
        seen = true;
    }
    pthread_mutex_unlock(&presence->lock);
    return seen;
}

void presence_wait(struct presence *presence, int timeout_ms) {
    struct timespec deadline = from_now(timeout_ms > 0 ? timeout_ms : 0);
    pthread_mutex_lock(&presence->lock);
    if (presence->absence_due && earlier(presence->hold, deadline))
        deadline = presence->hold;
    while (!presence->stop && presence->turn == presence->edition) {
        if (pthread_cond_timedwait(&presence->changed, &presence->lock, &deadline) != 0)
            break;
    }
    presence->stop = false;
    presence->turn = presence->edition;
    pthread_mutex_unlock(&presence->lock);
}

void presence_stop(struct presence *presence) {
    pthread_mutex_lock(&presence->lock);
    presence->stop = true;
    pthread_cond_broadcast(&presence->changed);
    pthread_mutex_unlock(&presence->lock);
}
