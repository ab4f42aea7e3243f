// SPDX-License-Identifier: LGPL-2.1-or-later
// status_client READER
//
// Waits with SCardGetStatusChange and prints, each time it returns with a change, "present" or
// "empty" and the monotonic clock in nanoseconds; ends when nobody reads that any more.
#include <winscard.h>

#include <stdio.h>
#include <time.h>

int main(int count, char **words) {
    SCARDCONTEXT context;
    if (count != 2 ||
        SCardEstablishContext(SCARD_SCOPE_SYSTEM, NULL, NULL, &context) != SCARD_S_SUCCESS)
        return 2;
    SCARD_READERSTATE state = {.szReader = words[1], .dwCurrentState = SCARD_STATE_UNAWARE};
    while (SCardGetStatusChange(context, INFINITE, &state, 1) == SCARD_S_SUCCESS) {
        struct timespec time;
        clock_gettime(CLOCK_MONOTONIC, &time);
        printf("%s %lld\n", state.dwEventState & SCARD_STATE_PRESENT ? "present" : "empty",
               (long long)time.tv_sec * 1000000000 + time.tv_nsec);
        if (fflush(stdout) != 0)
            return 0;
        state.dwCurrentState = state.dwEventState & ~(DWORD)SCARD_STATE_CHANGED;
    }
    return 1;
}
