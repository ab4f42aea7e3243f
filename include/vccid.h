/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The ioctls of /dev/vccid/READER; docs/device-node.md tells them with read and write. */
#ifndef VCCID_H
#define VCCID_H

#include <linux/ioctl.h>
#include <linux/types.h>

/* Answer to reset, ISO/IEC 7816-3, 8.2: 2 to 33 bytes. */
struct vccid_atr {
    __u8 length;
    __u8 bytes[33];
};

struct vccid_presence {
    __u32 present; /* 1 with a card in the reader, else 0 */
    __u32 changes; /* how often a card came or went so far */
};

/* The card's answer to reset. ENXIO: the card left. Opened read-only, ENOMEDIUM: no card. */
#define VCCID_GET_ATR _IOR(0xDC, 1, struct vccid_atr)

/* Power the card off and on: nothing selected, no PIN verified, no response unread. ENOMEDIUM: no
 * card. EBUSY: another host has it. EBADF: opened read-only. */
#define VCCID_RESET _IO(0xDC, 2)

/* Whether a card is in. Opened read-only, poll says POLLPRI once it has changed since. */
#define VCCID_GET_PRESENCE _IOR(0xDC, 3, struct vccid_presence)

#endif
