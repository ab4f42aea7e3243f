// SPDX-License-Identifier: LGPL-2.1-or-later
// The two connections to the daemon for one reader, and the thread that keeps them.
#pragma once

#include "presence.h"
#include "wire.h"

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>
#include <sys/un.h>

struct link {
    struct sockaddr_un address;
    struct presence *presence;
    pthread_t keeper;
    int wake_fd; // readable once the keeper has to leave

    pthread_mutex_t lock; // guards what follows; never held while waiting
    int events_fd;        // -1 while there is no link
    int commands_fd;
    uint64_t epoch; // which link this is

    // One command at a time. The keeper opens and closes under it, so a link that a command has
    // found stays the same until it is through. Comes before `lock`.
    pthread_mutex_t command_lock;
    struct wire_inbox events;
    struct wire_inbox commands;
    bool stranger_logged; // whether the log has heard of a peer that is not our daemon
};

enum {
    // What link_command returns where no answer came; the link is then given up.
    LINK_LOST = -1,
};

// Starts the keeper, which connects as soon as it can. False: no thread or descriptor left.
bool link_open(struct link *link, const char *path, struct presence *presence);
// Begins the end: a command that waits returns LINK_LOST, as every later one does.
void link_end(struct link *link);
// After link_end, once nobody uses the link any more.
void link_close(struct link *link);

// Tells the daemon that pcscd has seen `generation`, unless the link that told of it is gone.
void link_seen(struct link *link, uint64_t generation, uint64_t epoch);

// Asks one command and waits for its answer.
//
// `parts` is its payload in `count` pieces, at most 2. *length holds the room in `answer` and
// receives the whole length of the answer's payload; no more than the room is written.
// Returns an enum wire_status, or LINK_LOST; then there is no card any more.
int link_command(struct link *link, enum wire_kind kind, const struct iovec *parts, int count,
                 uint8_t *answer, size_t *length);
