// SPDX-License-Identifier: LGPL-2.1-or-later
#include "slots.h"

#include <stdlib.h>
#include <string.h>

static pthread_mutex_t table_lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t released = PTHREAD_COND_INITIALIZER;
static struct reader *table[READERS_MAX];

// NULL for a Lun we never gave out: readers have one slot, slot 0.
static struct reader **place_of(unsigned long lun) {
    unsigned long number = lun >> 16;
    return number < READERS_MAX && (lun & 0xffff) == 0 ? &table[number] : NULL;
}

bool reader_open(unsigned long lun, const char *path) {
    if (place_of(lun) == NULL || strlen(path) >= READER_PATH_MAX)
        return false;
    struct reader *reader = calloc(1, sizeof *reader);
    if (reader == NULL)
        return false;
    presence_init(&reader->presence);
    pthread_mutex_init(&reader->atr_lock, NULL);
    pthread_mutex_lock(&table_lock);
    bool opened = *place_of(lun) == NULL && link_open(&reader->link, path, &reader->presence);
    if (opened)
        *place_of(lun) = reader;
    pthread_mutex_unlock(&table_lock);
    if (!opened)
        free(reader);
    return opened;
}

bool reader_close(unsigned long lun) {
    struct reader **place = place_of(lun);
    if (place == NULL)
        return false;
    pthread_mutex_lock(&table_lock);
    struct reader *reader = *place;
    *place = NULL;
    // pcscd closes even while a call runs; what makes that call wait is ended here.
    if (reader != NULL)
        link_end(&reader->link);
    while (reader != NULL && reader->users > 0) {
        presence_stop(&reader->presence);
        pthread_cond_wait(&released, &table_lock);
    }
    pthread_mutex_unlock(&table_lock);
    if (reader == NULL)
        return false;
    link_close(&reader->link);
    presence_destroy(&reader->presence);
    pthread_mutex_destroy(&reader->atr_lock);
    free(reader);
    return true;
}

struct reader *reader_hold(unsigned long lun) {
    struct reader **place = place_of(lun);
    if (place == NULL)
        return NULL;
    pthread_mutex_lock(&table_lock);
    struct reader *reader = *place;
    if (reader != NULL)
        reader->users++;
    pthread_mutex_unlock(&table_lock);
    return reader;
}

void reader_release(struct reader *reader) {
    pthread_mutex_lock(&table_lock);
    if (--reader->users == 0)
        pthread_cond_broadcast(&released);
    pthread_mutex_unlock(&table_lock);
}

void reader_forget_atr(struct reader *reader) {
    pthread_mutex_lock(&reader->atr_lock);
    reader->atr_length = 0;
    pthread_mutex_unlock(&reader->atr_lock);
}

void reader_set_atr(struct reader *reader, const uint8_t *atr, size_t length) {
    pthread_mutex_lock(&reader->atr_lock);
    memcpy(reader->atr, atr, length);
    reader->atr_length = length;
    pthread_mutex_unlock(&reader->atr_lock);
}

size_t reader_get_atr(struct reader *reader, uint8_t *atr) {
    pthread_mutex_lock(&reader->atr_lock);
    size_t length = reader->atr_length;
    memcpy(atr, reader->atr, length);
    pthread_mutex_unlock(&reader->atr_lock);
    return length;
}
