# SPDX-License-Identifier: LGPL-2.1-or-later
"""The PIV card application as one host sees it (SP 800-73-5 part 2, section 3).

Whole commands come in, whole answers go out: chaining either way is done before and after.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final

from vccid.card.piv import authentication
from vccid.card.piv.access import Access
from vccid.card.piv.commands import (
    GeneralAuthenticate,
    GetData,
    Refused,
)
from vccid.card.piv.contents import ManagementKey
from vccid.card.piv.data_model import (
    AID,
    BARE,
    DATA,
    SHORTEST_AID,
    application_properties,
)
from vccid.card.piv.indicators import Indicators
from vccid.card.piv.key_establishment import establish
from vccid.card.piv.keys import CardKey
from vccid.card.piv.management_states import Event
from vccid.card.piv.parts import PivParts, WaitFor, report
from vccid.card.piv.reference_data import ReferenceData
from vccid.card.piv.references import CARD_MANAGEMENT, SECURE_MESSAGING
from vccid.card.processors import Answer
from vccid.card.touch import TouchMode
from vccid.errors import KeyOperationError, KeySourceError, StateError
from vccid.iso7816 import ber, status
from vccid.iso7816.apdu import (
    INS_CHANGE_REFERENCE_DATA,
    INS_GENERAL_AUTHENTICATE,
    INS_GENERATE_KEY_PAIR,
    INS_GET_DATA_BY_TAG_LIST,
    INS_PUT_DATA_BY_TAG_LIST,
    INS_RESET_RETRY_COUNTER,
    INS_SELECT,
    INS_VERIFY,
    Command,
)

_SELECT_BY_NAME, _SELECT_BY_PATH = 0x04, 0x09

#: Yubico's touch policies that are looked at.
_TOUCH_NEVER, _TOUCH_CACHED = 1, 3

# Yubico's instructions.
INS_MOVE_KEY: Final = 0xF6
INS_GET_METADATA: Final = 0xF7
INS_GET_SERIAL: Final = 0xF8
INS_ATTEST: Final = 0xF9
INS_SET_RETRIES: Final = 0xFA
INS_RESET: Final = 0xFB
INS_GET_VERSION: Final = 0xFD
INS_IMPORT_KEY: Final = 0xFE
INS_SET_MANAGEMENT_KEY: Final = 0xFF


class PivApplication:
    """One session's application.

    Attributes:
        indicators: what the host has proved.
    """

    def __init__(self, parts: PivParts, wait_for: WaitFor, *, contactless: bool = False) -> None:
        self.indicators = Indicators()
        self._access = Access(parts.memory, self.indicators, contactless=contactless)
        self._parts = parts
        self._resets = parts.memory.resets
        self._wait_for = wait_for
        make = parts.personalisation
        reference_data = ReferenceData(parts, self.indicators, self._access, wait_for)
        self._handlers: Final[dict[int, Callable[[Command], Answer]]] = {
            INS_SELECT: self.select,
            INS_GET_DATA_BY_TAG_LIST: self.get_data,
            INS_VERIFY: reference_data.verify,
            INS_CHANGE_REFERENCE_DATA: reference_data.change,
            INS_RESET_RETRY_COUNTER: reference_data.reset_retry_counter,
            INS_GENERAL_AUTHENTICATE: self.general_authenticate,
            INS_PUT_DATA_BY_TAG_LIST: self._managed(make.put_data),
            INS_GENERATE_KEY_PAIR: self._managed(make.generate),
            INS_IMPORT_KEY: self._managed(make.import_key),
            INS_SET_MANAGEMENT_KEY: self._managed(make.set_management_key),
            INS_SET_RETRIES: self.set_retries,
            INS_RESET: self.reset,
            INS_GET_METADATA: make.metadata,
            INS_ATTEST: make.attest,
            INS_GET_SERIAL: make.serial,
            INS_GET_VERSION: lambda command: parts.profile.version + status.SUCCESS,
        }
        if parts.profile.moves:
            self._handlers[INS_MOVE_KEY] = self._managed(make.move_key)

    def process(self, command: Command) -> Answer:
        """Answer a whole command."""
        handler = self._handlers.get(command.ins)
        if self._resets != self._parts.memory.resets:
            self._resets = self._parts.memory.resets
            self.indicators.clear()
        self._notice_abandoned(command)
        if handler is None:
            return status.INSTRUCTION_NOT_SUPPORTED
        try:
            return handler(command)
        except Refused as refused:
            return refused.answer

    def deselect(self) -> None:
        """Another application of the card was selected (2.4.2)."""
        self.indicators.clear()

    # -- data access (3.1) -----------------------------------------------------------------

    def select(self, command: Command) -> bytes:
        """SELECT (3.1.1): an unknown name leaves everything as it is."""
        if command.p1 <= _SELECT_BY_PATH and command.p1 != _SELECT_BY_NAME:
            return status.NOT_FOUND  # there are no files
        if command.p1 != _SELECT_BY_NAME or command.p2 & 0xF3:
            return status.INCORRECT_P1_P2
        if not is_piv(command.data):
            return status.NOT_FOUND
        if self._parts.profile.is_double:
            self.indicators.clear()
        held = self._parts.memory.contents.secure_messaging
        properties = application_properties(None if held is None else held.suite.identifier)
        return (b"" if command.p2 == 0x0C else properties) + status.SUCCESS

    def get_data(self, command: Command) -> bytes:
        """GET DATA (3.1.2): the read rule, then whether the object is there."""
        tag = GetData.parse(command).tag
        if not self._access.may_read(tag):
            return status.SECURITY_STATUS_NOT_SATISFIED
        content = self._parts.objects.read(self._parts.memory.contents, tag)
        if content is None:
            return status.NOT_FOUND
        return ber.encode(tag if tag in BARE else DATA, content) + status.SUCCESS

    # -- authentication (3.2.4) --------------------------------------------------------------

    def general_authenticate(self, command: Command) -> Answer:
        """GENERAL AUTHENTICATE (3.2.4)."""
        memory = self._parts.memory
        if command.p2 == SECURE_MESSAGING:
            return self._establish(command)
        asked = GeneralAuthenticate.parse(command)
        if asked.reference == CARD_MANAGEMENT:
            if self._access.contactless:
                return status.FUNCTION_NOT_SUPPORTED
            return self._prove_management(memory.contents.management, asked)
        key = memory.key(asked.reference)
        if key is None or key.algorithm is not asked.algorithm:
            double = self._parts.profile.is_double
            return status.INCORRECT_DATA if double else status.INCORRECT_P1_P2
        if not self._access.may_use(asked.reference, key):
            return status.SECURITY_STATUS_NOT_SATISFIED
        operation = authentication.operation(key, asked, self._parts.profile.agreeing)
        if operation is None:
            return status.INCORRECT_DATA
        self.indicators.pin.key_used()
        return self._operate(operation, key)

    def _establish(self, command: Command) -> bytes:
        """Key establishment with key 04 (4.1); what came before is over, whatever comes of it."""
        held, indicators = self._parts.memory.contents.secure_messaging, self.indicators
        if held is None or command.p1 != held.suite.identifier or indicators.protected:
            return status.INCORRECT_P1_P2
        indicators.session = None
        indicators.session, answer = establish(held, command.data)
        return answer

    def _prove_management(self, key: ManagementKey, asked: GeneralAuthenticate) -> Answer:
        begun = self.indicators.random
        if key.touch != _TOUCH_NEVER and begun and self._parts.touch.mode is not TouchMode.ALWAYS:
            return self._prove_touched(key, asked)
        return authentication.prove_management(key, asked, self.indicators)

    async def _prove_touched(self, key: ManagementKey, asked: GeneralAuthenticate) -> bytes:
        if not await self._touched(key.touch):
            self.indicators.move(Event.FELL)
            return status.CONDITIONS_NOT_SATISFIED
        try:
            return authentication.prove_management(key, asked, self.indicators)
        except Refused as refused:
            return refused.answer

    async def _touched(self, policy: int) -> bool:
        """Whether a key that wants a touch gets it in time."""
        if policy == _TOUCH_NEVER:
            return True
        remembered = policy == _TOUCH_CACHED
        return await self._wait_for(self._parts.touch.wait(remembered=remembered))

    async def _operate(self, operation: Callable[[], bytes], key: CardKey) -> bytes:
        if not await self._touched(key.touch_policy):
            return status.CONDITIONS_NOT_SATISFIED
        try:
            response = await self._wait_for(self._parts.memory.offload(operation))
        except (KeyOperationError, KeySourceError) as error:
            return authentication.failure(error, key, self._parts.serial)
        return authentication.result(response)

    def _notice_abandoned(self, command: Command) -> None:
        """2.4.2: an authentication that is not gone on with falls, as one that failed."""
        if self.indicators.random and (
            command.ins != INS_GENERAL_AUTHENTICATE or command.p2 != CARD_MANAGEMENT
        ):
            self.indicators.move(Event.FELL)

    # -- card management (3.3) ------------------------------------------------------------------

    def _managed(
        self, handler: Callable[[Command], Awaitable[bytes]]
    ) -> Callable[[Command], Answer]:
        """A command for who has proved the management key."""

        def handle(command: Command) -> Answer:
            if self._access.contactless:
                return status.FUNCTION_NOT_SUPPORTED
            if not self.indicators.may_manage:
                return status.SECURITY_STATUS_NOT_SATISFIED
            return self._written(handler(command))

        return handle

    def set_retries(self, command: Command) -> Answer:
        """Yubico's SET RETRIES, which wants the PIN as well."""
        if self._access.contactless:
            return status.FUNCTION_NOT_SUPPORTED
        if not (self.indicators.may_manage and self.indicators.pin.is_verified):
            return status.SECURITY_STATUS_NOT_SATISFIED
        return self._written(self._parts.personalisation.set_retries(command))

    def reset(self, command: Command) -> Answer:
        """Yubico's RESET."""
        if self._access.contactless:
            return status.FUNCTION_NOT_SUPPORTED
        return self._reset(command)

    async def _reset(self, command: Command) -> bytes:
        answer = await self._written(self._parts.personalisation.reset(command))
        if answer == status.SUCCESS:
            self._parts.memory.resets += 1
        return answer

    async def _written(self, work: Awaitable[bytes]) -> bytes:
        try:
            return await self._wait_for(work)
        except Refused as refused:
            return refused.answer
        except StateError as error:
            return report(error, status.MEMORY_FAILURE, self._parts.serial)


def is_piv(name: bytes) -> bool:
    """Whether a DF name selects the application: its AID, or the beginning of it."""
    return len(name) >= SHORTEST_AID and AID.startswith(name)
