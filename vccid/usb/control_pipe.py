# SPDX-License-Identifier: LGPL-2.1-or-later
"""The default control pipe (USB 2.0, 9.4; USB 3.2, 9.4; CCID rev 1.1, 5.3)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from vccid.ccid.interface import Interface
from vccid.usb.descriptors import BULK_IN, BULK_OUT, INTERRUPT_IN, Descriptors, Speed
from vccid.usb.transfers import Completion, Setup, Status, Transfer

ENDPOINTS: Final = (BULK_OUT, BULK_IN, INTERRUPT_IN)

_INTERFACE: Final = 0
_ENDPOINT_HALT: Final = 0
_FUNCTION_SUSPEND: Final = 0
#: U1_ENABLE and U2_ENABLE -> their bit of GET_STATUS (USB 3.2, table 9-8 and 9.4.5)
_SUPER_FEATURES: Final = {48: 0x04, 49: 0x08}


class ControlPipe:
    """Answers control requests.

    Attributes:
        configuration: bConfigurationValue in force, 0 or 1.
        halted: addresses of the endpoints that stall: all, while there is no configuration.
    """

    def __init__(
        self, descriptors: Descriptors, function: Interface, forget: Callable[[], None]
    ) -> None:
        self.configuration = 0
        self.halted = set(ENDPOINTS)
        self._descriptors = descriptors
        self._function = function
        self._forget = forget
        self._super_features = 0
        #: (bmRequestType, bRequest) -> answer; None is a request error (9.2.7)
        self._requests: dict[tuple[int, int], Callable[[Setup], bytes | None]] = {
            (0x80, 0x00): lambda setup: bytes((self._super_features, 0)),
            (0x81, 0x00): self._interface_status,
            (0x82, 0x00): self._endpoint_status,
            (0x00, 0x01): lambda setup: self._device_feature(setup, on=False),
            (0x00, 0x03): lambda setup: self._device_feature(setup, on=True),
            (0x01, 0x01): self._interface_feature,
            (0x01, 0x03): self._interface_feature,
            (0x02, 0x01): self._clear_halt,
            (0x02, 0x03): self._set_halt,
            (0x80, 0x06): self._get_descriptor,
            (0x80, 0x08): lambda setup: bytes((self.configuration,)),
            (0x00, 0x09): self._set_configuration,
            (0x81, 0x0A): lambda setup: bytes(1) if self._is_interface(setup) else None,
            (0x01, 0x0B): self._set_interface,
            (0x00, 0x30): self._super_only,
            (0x00, 0x31): self._super_only,
            (0x21, 0x01): self._abort,
            (0xA1, 0x02): lambda setup: self._of_interface(setup, function.clock_frequencies()),
            (0xA1, 0x03): lambda setup: self._of_interface(setup, function.data_rates()),
        }

    def execute(self, transfer: Transfer) -> Completion:
        """Answer one control transfer; it never waits."""
        setup = Setup.parse(transfer.setup)
        request = self._requests.get((setup.request_type, setup.request))
        answer = None if request is None else request(setup)
        if answer is None:
            return Completion(transfer, Status.STALL)
        if not setup.is_in:
            return Completion(transfer, Status.DONE, len(transfer.data))
        # A peer may call the transfer OUT where the request says IN: there is no room then.
        data = answer[: min(setup.length, transfer.length if transfer.is_in else 0)]
        return Completion(transfer, Status.DONE, len(data), data)

    def reset(self) -> None:
        """Back to the state after a port reset: unconfigured (9.1.1.3)."""
        self._super_features = 0
        self._configure(0)

    def _configure(self, value: int) -> None:
        """Begin with a configuration, or with none; again where it is the same."""
        self.configuration = value
        self.halted.clear()
        if not value:
            self.halted.update(ENDPOINTS)
        self._function.reset()
        self._forget()

    # --- standard requests ---------------------------------------------------------------

    def _interface_status(self, setup: Setup) -> bytes | None:
        return bytes(2) if self._is_interface(setup) else None

    def _endpoint_status(self, setup: Setup) -> bytes | None:
        if not self._is_endpoint(setup):
            return None
        return bytes((setup.index in self.halted, 0))

    def _device_feature(self, setup: Setup, *, on: bool) -> bytes | None:
        """Remote wake-up is not announced, TEST_MODE not offered: both are refused (9.4.9)."""
        bit = _SUPER_FEATURES.get(setup.value)
        if bit is None or self._descriptors.speed is not Speed.SUPER or not self.configuration:
            return None
        self._super_features = self._super_features | bit if on else self._super_features & ~bit
        return b""

    def _interface_feature(self, setup: Setup) -> bytes | None:
        """FUNCTION_SUSPEND (USB 3.2, 9.4.9): there is nothing to suspend."""
        is_super = self._descriptors.speed is Speed.SUPER
        known = setup.value == _FUNCTION_SUSPEND and setup.index & 0xFF == _INTERFACE
        return b"" if is_super and known and self.configuration else None

    def _clear_halt(self, setup: Setup) -> bytes | None:
        if setup.value != _ENDPOINT_HALT or not self._is_endpoint(setup):
            return None
        self.halted.discard(setup.index)
        return b""

    def _set_halt(self, setup: Setup) -> bytes | None:
        if setup.value != _ENDPOINT_HALT or not self._is_endpoint(setup):
            return None
        if setup.index in ENDPOINTS:  # halting endpoint 0 ends with the next setup (8.5.3.4)
            self.halted.add(setup.index)
        return b""

    def _get_descriptor(self, setup: Setup) -> bytes | None:
        return self._descriptors.get(setup.value >> 8, setup.value & 0xFF, setup.index)

    def _set_configuration(self, setup: Setup) -> bytes | None:
        if setup.value > 1:
            return None
        self._configure(setup.value)
        return b""

    def _set_interface(self, setup: Setup) -> bytes | None:
        if setup.value != 0 or not self._is_interface(setup):
            return None
        self._configure(self.configuration)
        return b""

    def _super_only(self, setup: Setup) -> bytes | None:
        """SET_SEL and SET_ISOCH_DELAY (USB 3.2, 9.4.11, 9.4.12): heard and not needed."""
        return b"" if self._descriptors.speed is Speed.SUPER else None

    # --- class requests (CCID rev 1.1, 5.3) ----------------------------------------------

    def _abort(self, setup: Setup) -> bytes | None:
        """wValue: bSlot in the low byte, bSeq in the high one."""
        known = self._is_interface(setup) and self._function.abort(
            setup.value & 0xFF, setup.value >> 8
        )
        return b"" if known else None

    def _of_interface(self, setup: Setup, data: bytes) -> bytes | None:
        return data if self._is_interface(setup) else None

    # --- who is meant --------------------------------------------------------------------

    def _is_interface(self, setup: Setup) -> bool:
        return setup.index == _INTERFACE and self.configuration != 0

    def _is_endpoint(self, setup: Setup) -> bool:
        known = setup.index in ENDPOINTS and self.configuration != 0
        return known or setup.index in (0x00, 0x80)
