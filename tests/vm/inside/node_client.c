// SPDX-License-Identifier: LGPL-2.1-or-later
// What a C program sees of a device node: node_client NODE CHECK. Exit code 0: as it should be.
// With "wait" it reads until the read fails, and prints why: "reading" first, then the error.

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../../../include/vccid.h"

static const unsigned char SELECT_CCC[] = {0x00, 0xA4, 0x04, 0x00, 0x07, 0xA0,
                                           0x00, 0x00, 0x01, 0x16, 0xDB, 0x00};
static const unsigned char VERIFY_ASK[] = {0x00, 0x20, 0x00, 0x00, 0x00};
static const unsigned char VERIFY[] = {0x00, 0x20, 0x00, 0x00, 0x08, '1', '2',
                                       '3',  '4',  '5',  '6',  '7',  '8'};

static const char *node;

static int opened(int flags) {
    int file = open(node, flags);
    if (file < 0) {
        perror(node);
        exit(1);
    }
    return file;
}

// One command; its status word.
static int sent(int file, const void *command, size_t size) {
    unsigned char response[258];
    assert(write(file, command, size) == (ssize_t)size);
    ssize_t got = read(file, response, sizeof response);
    assert(got >= 2);
    return response[got - 2] << 8 | response[got - 1];
}

static short polled(int file, short events, int timeout) {
    struct pollfd poller = {.fd = file, .events = events};
    assert(poll(&poller, 1, timeout) >= 0);
    return poller.revents;
}

static void on_signal(int number) { (void)number; }

static void check_ioctls(void) {
    int file = opened(O_RDWR);
    struct vccid_atr atr;
    struct vccid_presence presence;
    assert(ioctl(file, VCCID_GET_ATR, &atr) == 0);
    assert(atr.length == 15 && atr.bytes[0] == 0x3B && atr.bytes[1] == 0x7A);
    assert(ioctl(file, VCCID_GET_PRESENCE, &presence) == 0);
    assert(presence.present == 1 && presence.changes > 0);
    assert(sent(file, VERIFY, sizeof VERIFY) == 0x9000);
    assert(sent(file, VERIFY_ASK, sizeof VERIFY_ASK) == 0x9000);
    assert(write(file, VERIFY_ASK, sizeof VERIFY_ASK) == sizeof VERIFY_ASK);
    assert(ioctl(file, VCCID_RESET) == 0);
    assert(sent(file, VERIFY_ASK, sizeof VERIFY_ASK) == 0x63C3);
    assert(ioctl(file, 0x5401, &atr) == -1 && errno == ENOTTY);
    assert(isatty(file) == 0);
    close(file);
}

static void check_poll(void) {
    int file = opened(O_RDWR | O_NONBLOCK);
    unsigned char response[258];
    assert(polled(file, POLLIN | POLLOUT, 0) == POLLOUT);
    assert(read(file, response, sizeof response) == -1 && errno == EAGAIN);
    assert(write(file, SELECT_CCC, sizeof SELECT_CCC) == sizeof SELECT_CCC);
    assert(polled(file, POLLIN | POLLOUT, 10000) == POLLIN);
    assert(write(file, SELECT_CCC, sizeof SELECT_CCC) == -1 && errno == EBUSY);
    assert(read(file, response, 1) == 1 && response[0] == 0x61);
    assert(polled(file, POLLIN | POLLOUT, 0) == POLLIN);
    assert(read(file, response, sizeof response) == 1 && response[0] == 0x0D);
    assert(polled(file, POLLIN | POLLOUT, 0) == POLLOUT);
    assert(read(file, response, 0) == 0 && write(file, response, 0) == 0);
    close(file);
}

// EINTR with SA_RESTART too: the kernel's FUSE cannot begin a read again.
static void check_signals(void) {
    int file = opened(O_RDWR);
    unsigned char response[258];
    for (int flags = 0; flags <= SA_RESTART; flags += SA_RESTART) {
        struct sigaction action = {.sa_handler = on_signal, .sa_flags = flags};
        sigaction(SIGALRM, &action, NULL);
        alarm(1);
        assert(read(file, response, sizeof response) == -1 && errno == EINTR);
        assert(sent(file, SELECT_CCC, sizeof SELECT_CCC) == 0x610D);
    }
    pid_t child = fork();
    if (child == 0) {
        read(file, response, sizeof response);
        _exit(0);
    }
    usleep(300000);
    kill(child, SIGKILL);
    int status;
    assert(waitpid(child, &status, 0) == child && WTERMSIG(status) == SIGKILL);
    close(file);
}

static void check_two_opens(void) {
    int one = opened(O_RDWR), two = opened(O_RDWR);
    assert(sent(one, VERIFY, sizeof VERIFY) == 0x9000);
    assert(sent(one, VERIFY_ASK, sizeof VERIFY_ASK) == 0x9000);
    assert(sent(two, VERIFY_ASK, sizeof VERIFY_ASK) == 0x63C3);
    close(one);
    assert(sent(two, SELECT_CCC, sizeof SELECT_CCC) == 0x610D);
    close(two);
}

static void *read_one(void *argument) {
    unsigned char response[258];
    return (void *)read(*(int *)argument, response, sizeof response);
}

// Each response goes to one of the threads that read.
static void check_threads(void) {
    int file = opened(O_RDWR);
    pthread_t readers[3];
    for (int at = 0; at < 3; at++)
        pthread_create(&readers[at], NULL, read_one, &file);
    for (int at = 0; at < 3; at++) {
        while (write(file, SELECT_CCC, sizeof SELECT_CCC) != sizeof SELECT_CCC)
            assert(errno == EBUSY);
    }
    for (int at = 0; at < 3; at++) {
        void *got;
        pthread_join(readers[at], &got);
        assert((ssize_t)got == 2);
    }
    close(file);
}

static void check_access(void) {
    assert(open(node, O_WRONLY) == -1 && errno == EINVAL);
    int file = opened(O_RDONLY);
    struct vccid_atr atr;
    unsigned char response[258];
    assert(ioctl(file, VCCID_GET_ATR, &atr) == 0 && atr.length == 15);
    assert(ioctl(file, VCCID_RESET) == -1 && errno == EBADF);
    assert(read(file, response, sizeof response) == -1 && errno == EINVAL);
    assert(write(file, SELECT_CCC, sizeof SELECT_CCC) == -1 && errno == EBADF);
    close(file);
}

static void check_empty(void) {
    assert(open(node, O_RDWR) == -1 && errno == ENOMEDIUM);
    int file = opened(O_RDONLY);
    struct vccid_presence presence;
    assert(ioctl(file, VCCID_GET_PRESENCE, &presence) == 0 && presence.present == 0);
    close(file);
}

// Until a card comes, is gone, and has come again; says so.
static void check_presence(void) {
    int file = opened(O_RDONLY);
    struct vccid_presence presence;
    do {
        assert(ioctl(file, VCCID_GET_PRESENCE, &presence) == 0);
        printf("present %u\n", presence.present);
        fflush(stdout);
        assert(polled(file, POLLPRI, 60000) == POLLPRI);
    } while (presence.present == 0);
    close(file);
}

static void check_wait(void) {
    int file = opened(O_RDWR);
    unsigned char response[258];
    printf("reading\n");
    fflush(stdout);
    assert(read(file, response, sizeof response) == -1);
    printf("%s, then %hx, ", strerrorname_np(errno), polled(file, POLLIN, 0));
    assert(write(file, SELECT_CCC, sizeof SELECT_CCC) == -1);
    printf("%s\n", strerrorname_np(errno));
    fflush(stdout);
    close(file);
}

static void check_wait_in_poll(void) {
    int file = opened(O_RDWR);
    printf("polling\n");
    fflush(stdout);
    printf("%hx\n", polled(file, POLLIN, 60000));
    close(file);
}

static const struct {
    const char *name;
    void (*check)(void);
} CHECKS[] = {
    {"ioctls", check_ioctls},   {"poll", check_poll},
    {"signals", check_signals}, {"two-opens", check_two_opens},
    {"threads", check_threads}, {"access", check_access},
    {"empty", check_empty},     {"presence", check_presence},
    {"wait", check_wait},       {"wait-in-poll", check_wait_in_poll},
};

int main(int argc, char **argv) {
    assert(argc == 3);
    node = argv[1];
    for (size_t at = 0; at < sizeof CHECKS / sizeof *CHECKS; at++) {
        if (strcmp(argv[2], CHECKS[at].name) == 0) {
            CHECKS[at].check();
            return 0;
        }
    }
    fprintf(stderr, "no check %s\n", argv[2]);
    return 2;
}
