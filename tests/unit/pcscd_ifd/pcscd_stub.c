// SPDX-License-Identifier: LGPL-2.1-or-later
// Calls the driver as pcscd does, by lines on standard input, for tests under a sanitizer.
//
//     open LUN PATH · channel LUN N · close LUN · presence LUN · power LUN ACTION
//     transmit LUN HEX ROOM · control LUN CODE HEX ROOM · get LUN TAG ROOM · set LUN TAG
//     protocol LUN N · events LUN · halt LUN · late MILLISECONDS
//
// Each line is answered by one line, "RESULT" or "RESULT LENGTH HEX". A line that begins with &
// runs in a thread of its own, and its answer begins with "& ". `events` starts an event thread
// as pcscd's; it prints "* LUN empty", "* LUN card ATR", and "* LUN unknown". After `late` its
// thread and those that call the driver are so late wherever they have heard from the daemon, or
// are about to tell it something.
#include "../../../pcscd-ifd/link.h"

#include <ifdhandler.h>

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { ROOM_MAX = 65548, WORDS_MAX = 5, LUNS_MAX = 4 };

static pthread_mutex_t output = PTHREAD_MUTEX_INITIALIZER;
static pthread_mutex_t readers[LUNS_MAX] = {
    PTHREAD_MUTEX_INITIALIZER,
    PTHREAD_MUTEX_INITIALIZER,
    PTHREAD_MUTEX_INITIALIZER,
    PTHREAD_MUTEX_INITIALIZER,
};
static pthread_t threads[LUNS_MAX];
static atomic_bool halting[LUNS_MAX];

static atomic_uint lateness; // milliseconds
static _Thread_local bool calls_driver;

static void be_late(void) {
    if (calls_driver)
        usleep(lateness * 1000);
}

// The linker puts these before the driver's own (--wrap).
void __real_presence_lost(struct presence *presence);
void __wrap_presence_lost(struct presence *presence);
void __real_link_seen(struct link *link, uint64_t generation, uint64_t epoch);
void __wrap_link_seen(struct link *link, uint64_t generation, uint64_t epoch);

void __wrap_presence_lost(struct presence *presence) {
    be_late();
    __real_presence_lost(presence);
}

void __wrap_link_seen(struct link *link, uint64_t generation, uint64_t epoch) {
    be_late();
    __real_link_seen(link, generation, epoch);
}

static void say(const char *prefix, const char *what, const UCHAR *data, DWORD length, DWORD room) {
    pthread_mutex_lock(&output);
    printf("%s%s", prefix, what);
    if (data != NULL) {
        printf(" %lu ", length);
        for (DWORD i = 0; i < length && i < room; i++)
            printf("%02x", data[i]);
    }
    printf("\n");
    fflush(stdout);
    pthread_mutex_unlock(&output);
}

static void say_result(const char *prefix, RESPONSECODE result, const UCHAR *data, DWORD length,
                       DWORD room) {
    char text[24];
    snprintf(text, sizeof text, "%ld", result);
    say(prefix, text, data, length, room);
}

static DWORD from_hex(const char *text, UCHAR *bytes) {
    DWORD length = 0;
    for (; text[0] != '\0' && text[1] != '\0' && length < ROOM_MAX + 4; text += 2, length++) {
        unsigned value;
        sscanf(text, "%2x", &value);
        bytes[length] = (UCHAR)value;
    }
    return length;
}

// One slot's event thread, as pcscd's: look, act, wait.
static void *events(void *argument) {
    DWORD lun = (DWORD)(uintptr_t)argument << 16;
    calls_driver = true;
    pthread_mutex_t *reader = &readers[lun >> 16];
    RESPONSECODE (*wait)(DWORD, int) = NULL;
    DWORD size = sizeof wait;
    if (IFDHGetCapabilities(lun, TAG_IFD_POLLING_THREAD_WITH_TIMEOUT, &size, (PUCHAR)&wait) != 0)
        return NULL;
    char name[32];
    snprintf(name, sizeof name, "%lu ", lun);
    bool present = false;
    while (!halting[lun >> 16]) {
        pthread_mutex_lock(reader);
        RESPONSECODE look = IFDHICCPresence(lun);
        pthread_mutex_unlock(reader);
        bool seen = look == IFD_ICC_PRESENT;
        if (!seen && look != IFD_ICC_NOT_PRESENT) {
            say("* ", strcat(name, "unknown"), NULL, 0, 0);
            snprintf(name, sizeof name, "%lu ", lun);
        }
        if (present && !seen)
            say("* ", strcat(name, "empty"), NULL, 0, 0);
        if (!present && seen) {
            UCHAR atr[MAX_ATR_SIZE];
            DWORD length = sizeof atr;
            pthread_mutex_lock(reader);
            RESPONSECODE result = IFDHPowerICC(lun, IFD_POWER_UP, atr, &length);
            pthread_mutex_unlock(reader);
            say("* ", strcat(name, result == IFD_SUCCESS ? "card" : "mute"), atr, length,
                sizeof atr);
        }
        snprintf(name, sizeof name, "%lu ", lun);
        present = seen;
        wait(lun, 600000);
    }
    return NULL;
}

static RESPONSECODE start_events(DWORD lun) {
    halting[lun >> 16] = false;
    return pthread_create(&threads[lun >> 16], NULL, events, (void *)(uintptr_t)(lun >> 16));
}

static RESPONSECODE halt_events(DWORD lun) {
    RESPONSECODE (*stop)(DWORD) = NULL;
    DWORD size = sizeof stop;
    halting[lun >> 16] = true;
    RESPONSECODE result =
        IFDHGetCapabilities(lun, TAG_IFD_STOP_POLLING_THREAD, &size, (PUCHAR)&stop);
    if (result == IFD_SUCCESS)
        stop(lun);
    pthread_join(threads[lun >> 16], NULL);
    return result;
}

static void transmit(const char *prefix, DWORD lun, char **words, UCHAR *data, UCHAR *room) {
    DWORD size = strtoul(words[3], NULL, 0), length = size;
    DWORD data_length = from_hex(words[2], data);
    SCARD_IO_HEADER send = {.Protocol = 0}, received = {.Protocol = 77};
    RESPONSECODE result = IFDHTransmitToICC(lun, send, data, data_length, room, &length, &received);
    say_result(prefix, result, room, length, size);
}

static void control(const char *prefix, DWORD lun, char **words, UCHAR *data, UCHAR *room) {
    DWORD size = strtoul(words[4], NULL, 0), length = 0;
    DWORD data_length = from_hex(words[3], data);
    RESPONSECODE result =
        IFDHControl(lun, strtoul(words[2], NULL, 0), data, data_length, room, size, &length);
    say_result(prefix, result, room, length, size);
}

// The calls that pcscd makes with the reader's mutex held.
static void locked_call(const char *prefix, DWORD lun, char **words, UCHAR *data, UCHAR *room) {
    DWORD number = strtoul(words[2], NULL, 0), length = 0;
    if (strcmp(words[0], "presence") == 0) {
        say_result(prefix, IFDHICCPresence(lun), NULL, 0, 0);
    } else if (strcmp(words[0], "power") == 0 && number == IFD_POWER_DOWN) {
        say_result(prefix, IFDHPowerICC(lun, number, NULL, NULL), NULL, 0, 0);
    } else if (strcmp(words[0], "power") == 0) {
        length = MAX_ATR_SIZE;
        RESPONSECODE result = IFDHPowerICC(lun, number, room, &length);
        say_result(prefix, result, room, length, MAX_ATR_SIZE);
    } else if (strcmp(words[0], "transmit") == 0) {
        transmit(prefix, lun, words, data, room);
    } else if (strcmp(words[0], "control") == 0) {
        control(prefix, lun, words, data, room);
    } else if (strcmp(words[0], "get") == 0) {
        length = strtoul(words[3], NULL, 0);
        RESPONSECODE result = IFDHGetCapabilities(lun, number, &length, room);
        say_result(prefix, result, room, result == IFD_SUCCESS ? length : 0, ROOM_MAX);
    } else if (strcmp(words[0], "protocol") == 0) {
        say_result(prefix, IFDHSetProtocolParameters(lun, number, 0, 0, 0, 0), NULL, 0, 0);
    } else {
        say(prefix, "what?", NULL, 0, 0);
    }
}

static void call(const char *prefix, char *line) {
    char *words[WORDS_MAX] = {"", "0", "", "0", "0"};
    char *rest = NULL;
    int count = 0;
    for (char *word = strtok_r(line, " \n", &rest); word != NULL && count < WORDS_MAX;
         word = strtok_r(NULL, " \n", &rest))
        words[count++] = word;
    DWORD lun = strtoul(words[1], NULL, 0);
    calls_driver = true;
    UCHAR *data = malloc(ROOM_MAX + 4);
    UCHAR *room = malloc(ROOM_MAX);
    if (strcmp(words[0], "open") == 0) {
        say_result(prefix, IFDHCreateChannelByName(lun, words[2]), NULL, 0, 0);
    } else if (strcmp(words[0], "channel") == 0) {
        say_result(prefix, IFDHCreateChannel(lun, strtoul(words[2], NULL, 0)), NULL, 0, 0);
    } else if (strcmp(words[0], "close") == 0) {
        say_result(prefix, IFDHCloseChannel(lun), NULL, 0, 0);
    } else if (strcmp(words[0], "set") == 0) {
        say_result(prefix, IFDHSetCapabilities(lun, strtoul(words[2], NULL, 0), 0, NULL), NULL, 0,
                   0);
    } else if (strcmp(words[0], "events") == 0) {
        say_result(prefix, start_events(lun), NULL, 0, 0);
    } else if (strcmp(words[0], "late") == 0) {
        lateness = (unsigned)lun;
        say(prefix, "0", NULL, 0, 0);
    } else if (strcmp(words[0], "halt") == 0) {
        say_result(prefix, halt_events(lun), NULL, 0, 0);
    } else {
        pthread_mutex_lock(&readers[(lun >> 16) % LUNS_MAX]);
        locked_call(prefix, lun, words, data, room);
        pthread_mutex_unlock(&readers[(lun >> 16) % LUNS_MAX]);
    }
    free(data);
    free(room);
}

static void *call_in_thread(void *line) {
    call("& ", line);
    free(line);
    return NULL;
}

int main(void) {
    char *line = NULL;
    size_t size = 0;
    while (getline(&line, &size, stdin) > 0) {
        if (line[0] != '&') {
            call("", line);
            continue;
        }
        pthread_t thread;
        if (pthread_create(&thread, NULL, call_in_thread, strdup(line + 1)) == 0)
            pthread_detach(thread);
    }
    free(line);
    return 0;
}
