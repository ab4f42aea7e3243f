// SPDX-License-Identifier: LGPL-2.1-or-later
// pcscd's own log, which it offers to its drivers; silent where there is no pcscd.
#pragma once

enum log_priority { LOG_PRIORITY_INFO = 1, LOG_PRIORITY_ERROR = 2 };

__attribute__((weak, format(printf, 2, 3))) void log_msg(const int priority, const char *format,
                                                         ...);

#define LOG(priority, ...)                                                                         \
    do {                                                                                           \
        if (log_msg != NULL)                                                                       \
            log_msg((priority), "vccid: " __VA_ARGS__);                                            \
    } while (0)
