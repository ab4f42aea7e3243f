// SPDX-License-Identifier: LGPL-2.1-or-later
// apdu_client ROUNDS COUNT READER...
//
// Sends SELECT COUNT times to each reader in turn, ROUNDS times over, so that whatever else the
// machine does falls on all of them alike. Prints each reader's median in nanoseconds.
#include <winscard.h>

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { READERS_MAX = 8 };

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

static int64_t select_once(SCARDHANDLE card, DWORD protocol) {
    static const BYTE command[] = {0x00, 0xA4, 0x04, 0x00, 0x07, 0xA0,
                                   0x00, 0x00, 0x00, 0x79, 0x03, 0x00};
    const SCARD_IO_REQUEST *pci = protocol == SCARD_PROTOCOL_T1 ? SCARD_PCI_T1 : SCARD_PCI_T0;
    BYTE answer[258];
    DWORD length = sizeof answer;
    int64_t begin = now_ns();
    must(SCardTransmit(card, pci, command, sizeof command, NULL, answer, &length), "transmit");
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
    SCARDHANDLE cards[READERS_MAX];
    DWORD protocols[READERS_MAX];
    int64_t *times[READERS_MAX];
    must(SCardEstablishContext(SCARD_SCOPE_SYSTEM, NULL, NULL, &context), "context");
    for (int i = 0; i < readers; i++) {
        must(SCardConnect(context, words[3 + i], SCARD_SHARE_SHARED,
                          SCARD_PROTOCOL_T0 | SCARD_PROTOCOL_T1, &cards[i], &protocols[i]),
             words[3 + i]);
        times[i] = calloc((size_t)rounds * (size_t)each, sizeof *times[i]);
        if (times[i] == NULL)
            return 1;
    }
    for (int round = 0; round < rounds; round++)
        for (int i = 0; i < readers; i++)
            for (int n = 0; n < each; n++)
                times[i][round * each + n] = select_once(cards[i], protocols[i]);
    for (int i = 0; i < readers; i++) {
        qsort(times[i], (size_t)(rounds * each), sizeof *times[i], ascending);
        printf("%lld\n", (long long)times[i][rounds * each / 2]);
        free(times[i]);
        SCardDisconnect(cards[i], SCARD_LEAVE_CARD);
    }
    SCardReleaseContext(context);
    return 0;
}
