// SPDX-License-Identifier: LGPL-2.1-or-later
// A PKCS#11 module for tests: one token that answers as it is told to, through the functions
// pretend_*. PKCS #11 base specification 2.40; what is not in the table is not called.

#include <stddef.h>
#include <stdlib.h>
#include <string.h>

typedef unsigned long ck_ulong;
typedef unsigned char ck_byte;

struct ck_version {
    ck_byte major, minor;
};

struct ck_token_info {
    ck_byte label[32], manufacturer[32], model[16], serial[16];
    ck_ulong flags, counts[10];
    struct ck_version hardware, firmware;
    ck_byte utc[16];
};

struct ck_slot_info {
    ck_byte description[64], manufacturer[32];
    ck_ulong flags;
    struct ck_version hardware, firmware;
};

struct ck_session_info {
    ck_ulong slot, state, flags, error;
};

struct ck_attribute {
    ck_ulong type;
    void *value;
    ck_ulong length;
};

enum {
    OK = 0,
    SLOT_ID_INVALID = 3,
    ATTRIBUTE_TYPE_INVALID = 0x12,
    PIN_INCORRECT = 0xA0,
    PIN_LOCKED = 0xA4,
    SESSION_HANDLE_INVALID = 0xB3,
    USER_ALREADY_LOGGED_IN = 0x100,
    USER_NOT_LOGGED_IN = 0x101,
};

enum { LOGIN_REQUIRED = 0x4, PIN_INITIALIZED = 0x8, TOKEN_INITIALIZED = 0x400 };
enum { COUNT_LOW = 0x10000, FINAL_TRY = 0x20000, LOCKED = 0x40000 };
enum { CLASS = 0, LABEL = 3, VALUE = 0x11, KEY_TYPE = 0x100, ID = 0x102, MODULUS = 0x120 };
enum { CERTIFICATE = 1, PRIVATE_KEY = 3, RSA = 0 };
enum { MAX_OBJECTS = 64, MAX_TRIES = 3 };

static const char PIN[] = "123456";

// What one object is: a certificate with a value, or a private key with a modulus.
static struct object {
    ck_ulong class;
    char label[64];
    ck_byte id[8];
    size_t id_length;
    ck_byte *value;
    size_t length;
} objects[MAX_OBJECTS];
static size_t object_count;

static struct {
    char function[40];
    ck_ulong rv;
} told;

static int tries = MAX_TRIES;
static int logged_in;
static int logins; // how many C_Login looked at a PIN
static ck_ulong first_session = 1, next_session = 1;
static ck_ulong matched[MAX_OBJECTS];
static size_t match_count, match_at;

void pretend_answer(const char *function, ck_ulong rv) {
    strncpy(told.function, function, sizeof told.function - 1);
    told.rv = rv;
}

void pretend_new(void) {
    while (object_count)
        free(objects[--object_count].value);
    told.function[0] = '\0';
    tries = MAX_TRIES;
    logged_in = logins = 0;
}

void pretend_object(ck_ulong class, const char *label, const ck_byte *id, size_t id_length,
                    const ck_byte *value, size_t length) {
    struct object *object = &objects[object_count++];
    object->class = class;
    strncpy(object->label, label, sizeof object->label - 1);
    memcpy(object->id, id, id_length);
    object->id_length = id_length;
    object->value = malloc(length);
    memcpy(object->value, value, length);
    object->length = length;
}

// The token is pulled and put back: its sessions and its login are gone.
void pretend_pulled(void) {
    first_session = next_session;
    logged_in = 0;
}

// Its own tools gave it all its tries back, or took them away.
void pretend_tries(int left) { tries = left; }

int pretend_logins(void) { return logins; }

static int is_told(const char *function) { return strcmp(told.function, function) == 0; }

#define ANSWER_AS_TOLD                                                                             \
    do {                                                                                           \
        if (is_told(__func__))                                                                     \
            return told.rv;                                                                        \
    } while (0)
#define NEED_SESSION(session)                                                                      \
    do {                                                                                           \
        ANSWER_AS_TOLD;                                                                            \
        if ((session) < first_session || (session) >= next_session)                                \
            return SESSION_HANDLE_INVALID;                                                         \
    } while (0)

static void pad(ck_byte *field, size_t size, const char *text) {
    memset(field, ' ', size);
    memcpy(field, text, strlen(text));
}

static ck_ulong C_Initialize(void *arguments) {
    (void)arguments;
    ANSWER_AS_TOLD;
    return OK;
}

static ck_ulong C_Finalize(void *reserved) {
    (void)reserved;
    ANSWER_AS_TOLD;
    return OK;
}

static ck_ulong C_GetSlotList(ck_byte present, ck_ulong *slots, ck_ulong *count) {
    (void)present;
    ANSWER_AS_TOLD;
    if (slots)
        slots[0] = 0;
    *count = 1;
    return OK;
}

static ck_ulong C_GetSlotInfo(ck_ulong slot, struct ck_slot_info *info) {
    (void)slot;
    ANSWER_AS_TOLD;
    memset(info, 0, sizeof *info);
    pad(info->description, sizeof info->description, "pretend slot");
    pad(info->manufacturer, sizeof info->manufacturer, "vccid tests");
    return OK;
}

static ck_ulong C_GetTokenInfo(ck_ulong slot, struct ck_token_info *info) {
    if (slot)
        return SLOT_ID_INVALID;
    ANSWER_AS_TOLD;
    memset(info, 0, sizeof *info);
    pad(info->label, sizeof info->label, "pretend");
    pad(info->manufacturer, sizeof info->manufacturer, "vccid tests");
    pad(info->model, sizeof info->model, "one");
    pad(info->serial, sizeof info->serial, "1");
    info->flags = LOGIN_REQUIRED | PIN_INITIALIZED | TOKEN_INITIALIZED;
    info->flags |= tries < MAX_TRIES ? COUNT_LOW : 0;
    info->flags |= tries == 1 ? FINAL_TRY : tries == 0 ? LOCKED : 0;
    return OK;
}

static ck_ulong C_GetMechanismList(ck_ulong slot, ck_ulong *mechanisms, ck_ulong *count) {
    (void)slot;
    ANSWER_AS_TOLD;
    if (mechanisms)
        mechanisms[0] = 3; // CKM_RSA_X_509
    *count = 1;
    return OK;
}

static ck_ulong C_OpenSession(ck_ulong slot, ck_ulong flags, void *application, void *notify,
                              ck_ulong *session) {
    (void)slot, (void)flags, (void)application, (void)notify;
    ANSWER_AS_TOLD;
    *session = next_session++;
    return OK;
}

static ck_ulong C_CloseSession(ck_ulong session) {
    (void)session;
    ANSWER_AS_TOLD;
    return OK;
}

static ck_ulong C_GetSessionInfo(ck_ulong session, struct ck_session_info *info) {
    NEED_SESSION(session);
    info->slot = info->flags = info->error = 0;
    info->state = logged_in ? 1 : 0;
    return OK;
}

static ck_ulong judge(const ck_byte *pin, ck_ulong length) {
    if (!tries)
        return PIN_LOCKED;
    logins++;
    if (length != strlen(PIN) || memcmp(pin, PIN, length)) {
        tries--;
        return PIN_INCORRECT;
    }
    tries = MAX_TRIES;
    return OK;
}

static ck_ulong C_Login(ck_ulong session, ck_ulong user, const ck_byte *pin, ck_ulong length) {
    (void)user;
    NEED_SESSION(session);
    if (logged_in)
        return USER_ALREADY_LOGGED_IN;
    ck_ulong rv = judge(pin, length);
    logged_in = rv == OK;
    return rv;
}

static ck_ulong C_Logout(ck_ulong session) {
    NEED_SESSION(session);
    logged_in = 0;
    return OK;
}

static ck_ulong C_SetPIN(ck_ulong session, const ck_byte *old, ck_ulong old_length,
                         const ck_byte *new, ck_ulong new_length) {
    (void)new, (void)new_length;
    NEED_SESSION(session);
    return judge(old, old_length);
}

static int fits(const struct object *object, const struct ck_attribute *wanted) {
    switch (wanted->type) {
    case CLASS:
        return object->class == *(ck_ulong *)wanted->value;
    case KEY_TYPE:
        return object->class == PRIVATE_KEY && *(ck_ulong *)wanted->value == RSA;
    case ID:
        return wanted->length == object->id_length &&
               !memcmp(wanted->value, object->id, object->id_length);
    case MODULUS:
        return wanted->length == object->length &&
               !memcmp(wanted->value, object->value, object->length);
    default:
        return 0;
    }
}

static ck_ulong C_FindObjectsInit(ck_ulong session, const struct ck_attribute *wanted,
                                  ck_ulong count) {
    NEED_SESSION(session);
    match_count = match_at = 0;
    for (size_t i = 0; i < object_count; i++) {
        int all = objects[i].class == CERTIFICATE || logged_in;
        for (ck_ulong n = 0; n < count; n++)
            all = all && fits(&objects[i], &wanted[n]);
        if (all)
            matched[match_count++] = i + 1;
    }
    return OK;
}

static ck_ulong C_FindObjects(ck_ulong session, ck_ulong *found, ck_ulong most, ck_ulong *count) {
    NEED_SESSION(session);
    for (*count = 0; *count < most && match_at < match_count; ++*count)
        found[*count] = matched[match_at++];
    return OK;
}

static ck_ulong C_FindObjectsFinal(ck_ulong session) {
    NEED_SESSION(session);
    return OK;
}

static ck_ulong give(struct ck_attribute *wanted, const void *value, size_t length) {
    if (wanted->value)
        memcpy(wanted->value, value, length);
    wanted->length = length;
    return OK;
}

static ck_ulong give_one(struct object *object, struct ck_attribute *wanted) {
    switch (wanted->type) {
    case LABEL:
        return give(wanted, object->label, strlen(object->label));
    case ID:
        return give(wanted, object->id, object->id_length);
    case VALUE:
        if (object->class == CERTIFICATE)
            return give(wanted, object->value, object->length);
        break;
    case MODULUS:
        if (object->class == PRIVATE_KEY)
            return give(wanted, object->value, object->length);
        break;
    }
    wanted->length = (ck_ulong)-1;
    return ATTRIBUTE_TYPE_INVALID;
}

static ck_ulong C_GetAttributeValue(ck_ulong session, ck_ulong handle, struct ck_attribute *wanted,
                                    ck_ulong count) {
    NEED_SESSION(session);
    ck_ulong rv = OK;
    for (ck_ulong n = 0; n < count; n++)
        rv = give_one(&objects[handle - 1], &wanted[n]) == OK ? rv : ATTRIBUTE_TYPE_INVALID;
    return rv;
}

static ck_ulong C_SignInit(ck_ulong session, void *mechanism, ck_ulong key) {
    (void)mechanism, (void)key;
    NEED_SESSION(session);
    return logged_in ? OK : USER_NOT_LOGGED_IN;
}

// No signature: what it was given, which a test can tell again.
static ck_ulong C_Sign(ck_ulong session, const ck_byte *data, ck_ulong length, ck_byte *signature,
                       ck_ulong *size) {
    NEED_SESSION(session);
    memcpy(signature, data, length);
    *size = length;
    return OK;
}

// CK_FUNCTION_LIST (6.4): each at its place, the rest missing.
static struct {
    struct ck_version version;
    void *functions[68];
} list = {
    .version = {2, 40},
    .functions =
        {
            [0] = C_Initialize,
            [1] = C_Finalize,
            [4] = C_GetSlotList,
            [5] = C_GetSlotInfo,
            [6] = C_GetTokenInfo,
            [7] = C_GetMechanismList,
            [11] = C_SetPIN,
            [12] = C_OpenSession,
            [13] = C_CloseSession,
            [15] = C_GetSessionInfo,
            [18] = C_Login,
            [19] = C_Logout,
            [24] = C_GetAttributeValue,
            [26] = C_FindObjectsInit,
            [27] = C_FindObjects,
            [28] = C_FindObjectsFinal,
            [42] = C_SignInit,
            [43] = C_Sign,
        },
};

ck_ulong C_GetFunctionList(void **table) {
    *table = &list;
    return OK;
}
