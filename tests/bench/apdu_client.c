// SPDX-License-Identifier: LGPL-2.1-or-later
// apdu_client ROUNDS COUNT READER...
//
// Sends SELECT COUNT times to each reader in turn, ROUNDS times over, so that whatever else the
// machine does falls on all of them alike. Prints for each reader its median and the median of its
// quickest round and the 99th percentile, in nanoseconds. A READER is pcscd's name of one, or the
// path of a device node.
#include <winscard.h>

#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { READERS_MAX = 8 };

// A reader with its card: pcscd's, or, where node is not negative, a device node.
struct reader {
    SCARDHANDLE card;
    DWORD protocol;
    int node;
};

static void must(LONG result, const char *what) {
    if (result != SCARD_S_SUCCESS) {
        fprintf(stderr, "%s: %s\n", what, pcsc_stringify_error(result));
        exit(1);
    }
}

static int64_t now_ns(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (int64_t)time.tv_sec * 1000000000 + time.tv_nsec;
}

static int ascending(const void *left, const void *right) {
    int64_t a = *(const int64_t *)left, b = *(const int64_t *)right;
    return (a > b) - (a < b);
}

static int64_t median(int64_t *times, size_t count) {
    qsort(times, count, sizeof *times, ascending);
    return times[count / 2];
}

static int64_t percentile_99(int64_t *times, size_t count) {
    qsort(times, count, sizeof *times, ascending);
    return times[count * 99 / 100];
}

static int64_t quickest_round(int64_t *times, int rounds, int each) {
    int64_t quickest = INT64_MAX;
    for (int round = 0; round < rounds; round++) {
        int64_t found = median(times + round * each, (size_t)each);
        quickest = found < quickest ? found : quickest;
    }
    return quickest;
}

static struct reader connected(SCARDCONTEXT context, const char *name) {
    struct reader reader = {.node = -1};
    if (name[0] == '/') {
        reader.node = open(name, O_RDWR);
        if (reader.node < 0) {
            perror(name);
            exit(1);
        }
    } else {
        must(SCardConnect(context, name, SCARD_SHARE_SHARED, SCARD_PROTOCOL_T0 | SCARD_PROTOCOL_T1,
                          &reader.card, &reader.protocol),
             name);
    }
    return reader;
}

static void disconnect(const struct reader *reader) {
    if (reader->node < 0)
        SCardDisconnect(reader->card, SCARD_LEAVE_CARD);
    else
        close(reader->node);
}

static DWORD transmit(const struct reader *reader, const BYTE *command, DWORD size, BYTE *answer,
                      DWORD room) {
    if (reader->node >= 0) {
        ssize_t length = -1;
        if (write(reader->node, command, size) == (ssize_t)size)
            length = read(reader->node, answer, room);
        if (length < 0) {
            perror("transmit");
            exit(1);
        }
        return (DWORD)length;
    }
    const SCARD_IO_REQUEST *pci =
        reader->protocol == SCARD_PROTOCOL_T1 ? SCARD_PCI_T1 : SCARD_PCI_T0;
    must(SCardTransmit(reader->card, pci, command, size, NULL, answer, &room), "transmit");
    return room;
}

static int64_t select_once(const struct reader *reader) {
    static const BYTE command[] = {0x00, 0xA4, 0x04, 0x00, 0x07, 0xA0,
                                   0x00, 0x00, 0x00, 0x79, 0x03, 0x00};
    BYTE answer[258];
    int64_t begin = now_ns();
    DWORD length = transmit(reader, command, sizeof command, answer, sizeof answer);
    int64_t end = now_ns();
    // 9000, or 61xx where the card speaks T=0
    if (length < 2 || (answer[length - 2] != 0x90 && answer[length - 2] != 0x61)) {
        fprintf(stderr, "SELECT was answered with %02x%02x\n", answer[length - 2],
                answer[length - 1]);
        exit(1);
    }
    return end - begin;
}

int main(int count, char **words) {
    int rounds = count > 3 ? atoi(words[1]) : 0, each = count > 3 ? atoi(words[2]) : 0;
    int readers = count - 3;
    if (rounds < 1 || each < 1 || readers > READERS_MAX) {
        fprintf(stderr, "usage: apdu_client ROUNDS COUNT READER...\n");
        return 2;
    }
    SCARDCONTEXT context;
    struct reader opened[READERS_MAX];
    int64_t *times[READERS_MAX];
    must(SCardEstablishContext(SCARD_SCOPE_SYSTEM, NULL, NULL, &context), "context");
    for (int i = 0; i < readers; i++) {
        opened[i] = connected(context, words[3 + i]);
        times[i] = calloc((size_t)rounds * (size_t)each, sizeof *times[i]);
        if (times[i] == NULL)
            return 1;
    }
    for (int round = 0; round < rounds; round++)
        for (int i = 0; i < readers; i++)
            for (int n = 0; n < each; n++)
                times[i][round * each + n] = select_once(&opened[i]);
    for (int i = 0; i < readers; i++) {
        int64_t quickest = quickest_round(times[i], rounds, each);
        size_t all = (size_t)rounds * (size_t)each;
        printf("%lld %lld %lld\n", (long long)median(times[i], all), (long long)quickest,
               (long long)percentile_99(times[i], all));
        free(times[i]);
        disconnect(&opened[i]);
    }
    SCardReleaseContext(context);
    return 0;
}
