// SPDX-License-Identifier: LGPL-2.1-or-later
#include "presence.h"

#include <string.h>

enum {
    // A client's thread has made its mark by then, in milliseconds: a few instructions, and now
    // and then a turn of all other threads.
    MARK_MS = 50,
    // Clients that keep looking at an empty reader do not keep a card from being shown longer.
    COME_MS = 200,
};

static struct timespec later(struct timespec time, int milliseconds) {
    time.tv_sec += milliseconds / 1000;
    time.tv_nsec += milliseconds % 1000 * 1000000L;
    if (time.tv_nsec >= 1000000000L) {
        time.tv_sec++;
        time.tv_nsec -= 1000000000L;
    }
    return time;
}

static struct timespec from_now(int milliseconds) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return later(time, milliseconds);
}

static bool earlier(struct timespec left, struct timespec right) {
    return left.tv_sec != right.tv_sec ? left.tv_sec < right.tv_sec : left.tv_nsec < right.tv_nsec;
}

static bool is_past(struct timespec time) { return !earlier(from_now(0), time); }

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

// Until its first wait the event thread is the only one there is.
static bool is_client(const struct presence *presence) {
    return presence->event_thread_known && !pthread_equal(presence->event_thread, pthread_self());
}

static void look_again(struct presence *presence) {
    presence->edition++;
    pthread_cond_broadcast(&presence->changed);
}

// When the event thread may be shown what it is not shown yet; NULL: nothing waits for a time.
static const struct timespec *next_show(const struct presence *presence) {
    if (presence->absence_due && presence->shown)
        return presence->powering == 0 ? &presence->leave_at : NULL;
    bool card_waits = presence->present && !presence->absence_due && !presence->shown;
    return card_waits && !presence->doubtful ? &presence->come_at : NULL;
}

// What has become due is shown from now on. By the event thread alone, and with all that the
// daemon has told in place.
static void show(struct presence *presence) {
    const struct timespec *due = next_show(presence);
    if (due == NULL || !is_past(*due))
        return;
    presence->shown = !presence->shown;
    presence->empty_since = from_now(0);
    look_again(presence);
}

static void show_empty_next(struct presence *presence) {
    if (presence->shown)
        presence->absence_due = true;
}

static bool is_here(const struct presence *presence) {
    return presence->present && presence->shown && !presence->absence_due;
}

// The client's thread that calls is told there is no card, and marks the reader so.
static void told_absent(struct presence *presence) {
    presence->come_at = from_now(MARK_MS);
    struct timespec latest = later(presence->empty_since, COME_MS);
    if (presence->present && !presence->shown && earlier(latest, presence->come_at))
        presence->come_at = latest;
}

void presence_card(struct presence *presence, const struct wire_card *card, uint64_t epoch) {
    pthread_mutex_lock(&presence->lock);
    if (!card->present || card->generation != presence->generation)
        show_empty_next(presence);
    presence->epoch = epoch;
    presence->present = card->present;
    presence->generation = card->generation;
    if (!presence->shown)
        presence->empty_since = from_now(0);
    presence->seen_due = true;
    look_again(presence);
    pthread_mutex_unlock(&presence->lock);
}

void presence_lost(struct presence *presence) {
    pthread_mutex_lock(&presence->lock);
    presence->present = presence->seen_due = false;
    show_empty_next(presence);
    look_again(presence);
    pthread_mutex_unlock(&presence->lock);
}

void presence_start_over(struct presence *presence) {
    pthread_mutex_lock(&presence->lock);
    told_absent(presence);
    show_empty_next(presence);
    pthread_cond_broadcast(&presence->changed);
    pthread_mutex_unlock(&presence->lock);
}

bool presence_here(struct presence *presence) {
    pthread_mutex_lock(&presence->lock);
    bool here = is_here(presence);
    pthread_mutex_unlock(&presence->lock);
    return here;
}

enum presence_look presence_look(struct presence *presence) {
    enum presence_look look;
    pthread_mutex_lock(&presence->lock);
    if (!is_client(presence)) {
        show(presence);
        look = presence->shown ? PRESENCE_CARD : PRESENCE_EMPTY;
        if (presence->unknown)
            look = PRESENCE_UNKNOWN;
    } else if (is_here(presence)) {
        look = PRESENCE_CARD;
        presence->leave_at = from_now(MARK_MS); // it asks in order to call IFDHPowerICC
    } else {
        look = PRESENCE_EMPTY;
        told_absent(presence);
    }
    pthread_mutex_unlock(&presence->lock);
    return look;
}

bool presence_power_begins(struct presence *presence) {
    pthread_mutex_lock(&presence->lock);
    bool client = is_client(presence);
    if (client)
        presence->powering++;
    pthread_mutex_unlock(&presence->lock);
    return client;
}

void presence_power_ends(struct presence *presence, bool client) {
    pthread_mutex_lock(&presence->lock);
    if (client) {
        presence->powering--;
        presence->leave_at = from_now(MARK_MS);
        if (!presence->shown) {
            told_absent(presence);
            presence->doubtful = true;
        }
        pthread_cond_broadcast(&presence->changed);
    }
    pthread_mutex_unlock(&presence->lock);
}

bool presence_turn_ended(struct presence *presence, uint64_t *generation, uint64_t *epoch) {
    bool seen = false;
    pthread_mutex_lock(&presence->lock);
    presence->event_thread = pthread_self();
    presence->event_thread_known = true;
    if (presence->unknown) {
        presence->unknown = false;
        look_again(presence);
    }
    bool whole = presence->turn == presence->edition;
    if (whole && !presence->shown)
        presence->absence_due = false;
    if (whole && presence->seen_due && presence->shown == presence->present &&
        !presence->absence_due && !presence->doubtful) {
        presence->seen_due = false;
        *generation = presence->generation;
        *epoch = presence->epoch;
        seen = true;
    }
    pthread_mutex_unlock(&presence->lock);
    return seen;
}

static bool doubt_is_due(const struct presence *presence) {
    return presence->doubtful && is_past(presence->leave_at);
}

void presence_wait(struct presence *presence, int timeout_ms) {
    struct timespec end = from_now(timeout_ms > 0 ? timeout_ms : 0);
    pthread_mutex_lock(&presence->lock);
    show(presence);
    while (!presence->stop && presence->turn == presence->edition && !doubt_is_due(presence) &&
           !is_past(end)) {
        const struct timespec *due = presence->doubtful ? &presence->leave_at : next_show(presence);
        struct timespec until = due != NULL && earlier(*due, end) ? *due : end;
        pthread_cond_timedwait(&presence->changed, &presence->lock, &until);
        show(presence);
    }
    if (doubt_is_due(presence)) {
        presence->doubtful = false;
        presence->unknown = true; // for the whole of this turn: it may look more than once
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
