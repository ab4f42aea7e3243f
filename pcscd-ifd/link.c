// SPDX-License-Identifier: LGPL-2.1-or-later
#include "link.h"
#include "log.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum {
    RETRY_MS = 200,   // between two attempts to connect
    HELLO_MS = 2000,  // a peer that has not said HELLO by then is not our daemon
    SILENCE_MS = 5000 // the daemon says BUSY each second, so it is gone by then
};

static int64_t now_ms(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (int64_t)time.tv_sec * 1000 + time.tv_nsec / 1000000;
}

// Receives what there is; 0 or less when the connection has ended or nothing came in time.
static ssize_t fill(int fd, struct wire_inbox *inbox, int flags) {
    size_t room;
    uint8_t *place = wire_inbox_room(inbox, &room);
    ssize_t count;
    do
        count = recv(fd, place, room, flags);
    while (count < 0 && errno == EINTR);
    if (count > 0)
        wire_inbox_filled(inbox, (size_t)count);
    return count;
}

// Both sides of the link see its end; the keeper then closes it.
static void link_shut(struct link *link) {
    pthread_mutex_lock(&link->lock);
    if (link->events_fd >= 0) {
        shutdown(link->events_fd, SHUT_RDWR);
        shutdown(link->commands_fd, SHUT_RDWR);
    }
    pthread_mutex_unlock(&link->lock);
}

// ---- the keeper's side: connecting, and listening to events

// False once the keeper has to leave.
static bool keeper_sleep(struct link *link, int milliseconds) {
    struct pollfd wake = {.fd = link->wake_fd, .events = POLLIN};
    return poll(&wake, 1, milliseconds) <= 0;
}

// Waits until fd is readable. False: not in time, or the keeper has to leave.
static bool keeper_wait(struct link *link, int fd, int timeout_ms) {
    struct pollfd both[2] = {{.fd = link->wake_fd, .events = POLLIN}, {.fd = fd, .events = POLLIN}};
    int ready;
    do
        ready = poll(both, 2, timeout_ms);
    while (ready < 0 && errno == EINTR);
    return ready > 0 && both[0].revents == 0;
}

static bool hear_hello(struct link *link, int fd, struct wire_inbox *inbox, enum wire_role role) {
    struct wire_frame frame;
    enum wire_next next;
    int64_t deadline = now_ms() + HELLO_MS;
    while ((next = wire_next(inbox, &frame)) == WIRE_INCOMPLETE) {
        int64_t left = deadline - now_ms();
        if (left <= 0 || !keeper_wait(link, fd, (int)left) || fill(fd, inbox, MSG_DONTWAIT) <= 0)
            return false;
    }
    uint16_t version = 0;
    if (next == WIRE_FRAME && wire_parse_hello(&frame, role, &version))
        return true;
    if (!link->stranger_logged) {
        link->stranger_logged = true;
        if (version != 0 && version != WIRE_VERSION)
            LOG(LOG_PRIORITY_ERROR,
                "the daemon at %s speaks version %d of the protocol and this driver %d; "
                "install the same release of both and restart pcscd",
                link->address.sun_path, version, WIRE_VERSION);
        else
            LOG(LOG_PRIORITY_ERROR, "what listens at %s is not the vccid daemon",
                link->address.sun_path);
    }
    return false;
}

static int connect_as(struct link *link, enum wire_role role) {
    // A stopped daemon's full backlog must not block: non-blocking until connected.
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return -1;
    uint8_t hello[WIRE_HEADER_SIZE + WIRE_HELLO_SIZE];
    wire_put_hello(hello, role);
    if (connect(fd, (const struct sockaddr *)&link->address, sizeof link->address) != 0 ||
        send(fd, hello, sizeof hello, MSG_NOSIGNAL) != sizeof hello) {
        close(fd);
        return -1;
    }
    return fd;
}

// Commands wait in the kernel rather than in poll: one system call less for each.
static bool make_waiting(int fd) {
    struct timeval silence = {.tv_sec = SILENCE_MS / 1000};
    return setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &silence, sizeof silence) == 0 &&
           setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &silence, sizeof silence) == 0 &&
           fcntl(fd, F_SETFL, 0) == 0;
}

static bool link_up(struct link *link) {
    int events_fd = connect_as(link, WIRE_EVENTS);
    if (events_fd < 0)
        return false;
    int commands_fd = connect_as(link, WIRE_COMMANDS);
    link->events = link->commands = (struct wire_inbox){0};
    if (commands_fd < 0 || !hear_hello(link, events_fd, &link->events, WIRE_EVENTS) ||
        !hear_hello(link, commands_fd, &link->commands, WIRE_COMMANDS) ||
        !make_waiting(commands_fd)) {
        close(events_fd);
        if (commands_fd >= 0)
            close(commands_fd);
        return false;
    }
    pthread_mutex_lock(&link->command_lock);
    pthread_mutex_lock(&link->lock);
    link->events_fd = events_fd;
    link->commands_fd = commands_fd;
    link->epoch++;
    pthread_mutex_unlock(&link->lock);
    pthread_mutex_unlock(&link->command_lock);
    return true;
}

static void link_follow(struct link *link) {
    for (;;) {
        struct wire_frame frame;
        enum wire_next next;
        while ((next = wire_next(&link->events, &frame)) == WIRE_FRAME) {
            struct wire_card card;
            if (!wire_parse_card(&frame, &card))
                return;
            presence_card(link->presence, &card, link->epoch);
        }
        if (next == WIRE_BROKEN || !keeper_wait(link, link->events_fd, -1) ||
            fill(link->events_fd, &link->events, MSG_DONTWAIT) <= 0)
            return;
    }
}

static void link_down(struct link *link) {
    presence_lost(link->presence);
    link_shut(link);
    pthread_mutex_lock(&link->command_lock);
    pthread_mutex_lock(&link->lock);
    close(link->events_fd);
    close(link->commands_fd);
    link->events_fd = link->commands_fd = -1;
    pthread_mutex_unlock(&link->lock);
    pthread_mutex_unlock(&link->command_lock);
}

static void *keep(void *argument) {
    struct link *link = argument;
    do {
        if (!link_up(link))
            continue;
        link->stranger_logged = false;
        LOG(LOG_PRIORITY_INFO, "connected to the daemon at %s", link->address.sun_path);
        link_follow(link);
        link_down(link);
        LOG(LOG_PRIORITY_INFO, "lost the daemon at %s", link->address.sun_path);
    } while (keeper_sleep(link, RETRY_MS));
    return NULL;
}

// ---- commands

static bool send_whole(int fd, struct iovec *parts, size_t count) {
    struct msghdr message = {.msg_iov = parts, .msg_iovlen = count};
    int64_t deadline = now_ms() + SILENCE_MS;
    while (message.msg_iovlen > 0) {
        ssize_t sent = sendmsg(fd, &message, MSG_NOSIGNAL);
        if (sent < 0 && errno == EINTR)
            continue;
        if (sent <= 0)
            return false;
        while (message.msg_iovlen > 0 && (size_t)sent >= message.msg_iov->iov_len) {
            sent -= (ssize_t)message.msg_iov->iov_len;
            message.msg_iov++;
            message.msg_iovlen--;
        }
        if (message.msg_iovlen == 0)
            return true;
        message.msg_iov->iov_base = (uint8_t *)message.msg_iov->iov_base + sent;
        message.msg_iov->iov_len -= (size_t)sent;
        if (now_ms() > deadline)
            return false;
    }
    return true;
}

static bool receive_frame(int fd, struct wire_inbox *inbox, struct wire_frame *frame) {
    int64_t deadline = 0;
    for (;;) {
        enum wire_next next = wire_next(inbox, frame);
        if (next != WIRE_INCOMPLETE)
            return next == WIRE_FRAME;
        if (deadline == 0)
            deadline = now_ms() + SILENCE_MS;
        else if (now_ms() > deadline)
            return false; // a trickle is silence too
        if (fill(fd, inbox, 0) <= 0)
            return false;
    }
}

static int exchange(struct link *link, enum wire_kind kind, const struct iovec *parts, int count,
                    uint8_t *answer, size_t *length) {
    uint8_t header[WIRE_HEADER_SIZE];
    struct iovec all[3] = {{.iov_base = header, .iov_len = sizeof header}};
    size_t payload = 0;
    for (int i = 0; i < count; i++) {
        all[i + 1] = parts[i];
        payload += parts[i].iov_len;
    }
    wire_put_header(header, kind, (uint32_t)payload);
    int fd = link->commands_fd;
    // Bytes nobody asked for would pass as the next answer.
    if (fd < 0 || link->commands.begin != link->commands.end ||
        !send_whole(fd, all, (size_t)count + 1))
        return LINK_LOST;
    struct wire_frame frame;
    do {
        if (!receive_frame(fd, &link->commands, &frame))
            return LINK_LOST;
    } while (frame.kind == WIRE_BUSY && frame.status == WIRE_OK && frame.length == 0);
    if (!wire_is_answer(&frame, kind))
        return LINK_LOST;
    memcpy(answer, frame.payload, frame.length < *length ? frame.length : *length);
    *length = frame.length;
    return frame.status;
}

int link_command(struct link *link, enum wire_kind kind, const struct iovec *parts, int count,
                 uint8_t *answer, size_t *length) {
    pthread_mutex_lock(&link->command_lock);
    int status = exchange(link, kind, parts, count, answer, length);
    if (status == LINK_LOST && link->commands_fd >= 0) {
        // While the lock is held: once it is not, there may be another link.
        presence_lost(link->presence);
        link_shut(link);
    }
    pthread_mutex_unlock(&link->command_lock);
    return status;
}

void link_seen(struct link *link, uint64_t generation, uint64_t epoch) {
    uint8_t frame[WIRE_HEADER_SIZE + WIRE_SEEN_SIZE];
    wire_put_seen(frame, generation);
    pthread_mutex_lock(&link->lock);
    // A daemon that leaves its end full for so long is not worth waiting for.
    if (link->events_fd >= 0 && link->epoch == epoch &&
        send(link->events_fd, frame, sizeof frame, MSG_NOSIGNAL | MSG_DONTWAIT) != sizeof frame)
        shutdown(link->events_fd, SHUT_RDWR);
    pthread_mutex_unlock(&link->lock);
}

// ---- life

bool link_open(struct link *link, const char *path, struct presence *presence) {
    link->address.sun_family = AF_UNIX;
    strncpy(link->address.sun_path, path, sizeof link->address.sun_path - 1);
    link->presence = presence;
    link->events_fd = link->commands_fd = -1;
    link->wake_fd = eventfd(0, EFD_CLOEXEC);
    if (link->wake_fd < 0)
        return false;
    pthread_mutex_init(&link->lock, NULL);
    pthread_mutex_init(&link->command_lock, NULL);
    // pcscd handles signals in a thread of its own; the keeper inherits an empty set of them.
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int failed = pthread_create(&link->keeper, NULL, keep, link);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (failed)
        close(link->wake_fd);
    return !failed;
}

void link_end(struct link *link) {
    eventfd_write(link->wake_fd, 1);
    link_shut(link);
}

void link_close(struct link *link) {
    pthread_join(link->keeper, NULL);
    close(link->wake_fd);
    pthread_mutex_destroy(&link->command_lock);
    pthread_mutex_destroy(&link->lock);
}
