# SPDX-License-Identifier: LGPL-2.1-or-later
"""Where guests and far cards are, and what guards the way to them."""

from __future__ import annotations

import logging

from vccid.links import tls
from vccid.links.transport import Endpoint, TcpAddress, parse_address
from vccid.settings.config import Guests

log = logging.getLogger(__name__)


def endpoint(text: str, settings: Guests, *, listen: bool = False) -> Endpoint:
    """The place `text` names: TLS on TCP where the settings have it.

    Raises:
        ConfigError: it is no address, or the TLS files cannot be used.
        NotPermitted: plain TCP beyond this machine that no setting allows.
    """
    address = parse_address(text)
    context = None
    if isinstance(address, TcpAddress):
        files = tls.Files(
            "guests", settings.tls_certificate, settings.tls_key, settings.tls_authorities
        )
        context = tls.context(files, server=listen)
    place = Endpoint(address, context, settings.allow_plain)
    place.check()
    if isinstance(address, TcpAddress) and context is None and not address.is_loopback:
        log.warning("PINs cross the network in the clear: plain TCP to %s is allowed", address)
    return place
