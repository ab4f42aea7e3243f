// SPDX-License-Identifier: LGPL-2.1-or-later
// pcscd's own floor: a driver whose card answers 90 00 to anything, without leaving pcscd.
#include <ifdhandler.h>
#include <reader.h>

#include <string.h>

static const UCHAR floor_atr[] = {0x3B, 0x00};

RESPONSECODE IFDHCreateChannelByName(DWORD lun, LPSTR name) {
    (void)lun, (void)name;
    return IFD_SUCCESS;
}

RESPONSECODE IFDHCreateChannel(DWORD lun, DWORD channel) {
    (void)lun, (void)channel;
    return IFD_SUCCESS;
}

RESPONSECODE IFDHCloseChannel(DWORD lun) {
    (void)lun;
    return IFD_SUCCESS;
}

RESPONSECODE IFDHGetCapabilities(DWORD lun, DWORD tag, PDWORD length, PUCHAR value) {
    (void)lun, (void)tag, (void)length, (void)value;
    return IFD_ERROR_TAG;
}

RESPONSECODE IFDHSetCapabilities(DWORD lun, DWORD tag, DWORD length, PUCHAR value) {
    (void)lun, (void)tag, (void)length, (void)value;
    return IFD_ERROR_TAG;
}

RESPONSECODE IFDHSetProtocolParameters(DWORD lun, DWORD protocol, UCHAR flags, UCHAR pts1,
                                       UCHAR pts2, UCHAR pts3) {
    (void)lun, (void)protocol, (void)flags, (void)pts1, (void)pts2, (void)pts3;
    return IFD_SUCCESS;
}

RESPONSECODE IFDHPowerICC(DWORD lun, DWORD action, PUCHAR atr, PDWORD length) {
    (void)lun;
    if (action == IFD_POWER_DOWN)
        return IFD_SUCCESS;
    memcpy(atr, floor_atr, sizeof floor_atr);
    *length = sizeof floor_atr;
    return IFD_SUCCESS;
}

RESPONSECODE IFDHTransmitToICC(DWORD lun, SCARD_IO_HEADER send, PUCHAR command, DWORD size,
                               PUCHAR answer, PDWORD length, PSCARD_IO_HEADER received) {
    (void)lun, (void)command, (void)size;
    answer[0] = 0x90;
    answer[1] = 0x00;
    *length = 2;
    received->Protocol = send.Protocol;
    return IFD_SUCCESS;
}

RESPONSECODE IFDHControl(DWORD lun, DWORD code, PUCHAR data, DWORD size, PUCHAR room,
                         DWORD room_size, LPDWORD returned) {
    (void)lun, (void)code, (void)data, (void)size, (void)room, (void)room_size;
    *returned = 0;
    return IFD_NOT_SUPPORTED;
}

RESPONSECODE IFDHICCPresence(DWORD lun) {
    (void)lun;
    return IFD_ICC_PRESENT;
}
