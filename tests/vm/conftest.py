# SPDX-License-Identifier: LGPL-2.1-or-later
"""Fixtures of the guest tests: `guest`, `make_guest`, `quiet_kernel` and `nothing_refused`."""

import contextlib
import itertools
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from .guest import Guest, GuestOptions, read_logs, refusals

# The first test of a run may build the image first.
TEST_TIMEOUT_SECONDS = 600

MakeGuest = Callable[[GuestOptions], Guest]
GUESTS = pytest.StashKey[list[Guest]]()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Allow guest tests their time, unless they set their own."""
    for item in items:
        if item.path.parent.name == "vm" and item.get_closest_marker("timeout") is None:
            item.add_marker(pytest.mark.timeout(TEST_TIMEOUT_SECONDS))


@pytest.fixture(scope="module")
def make_guest(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[MakeGuest]:
    """Boots guests; they end with the module."""
    guests = request.node.stash.setdefault(GUESTS, [])
    numbers = itertools.count()
    with contextlib.ExitStack() as stack:

        def make(options: GuestOptions) -> Guest:
            directory = tmp_path_factory.mktemp(f"{options.name}{next(numbers)}-")
            guest = stack.enter_context(Guest(options, directory))
            guests.append(guest)
            return guest

        yield make


@pytest.fixture(scope="module")
def guest(request: pytest.FixtureRequest, make_guest: MakeGuest) -> Guest:
    """The module's guest, made by its GUEST (GuestOptions) if it has one."""
    return make_guest(getattr(request.module, "GUEST", GuestOptions()))


#: What a kernel says when its host gave it no processor for a while.
SLOW_HOST = "hrtimer: interrupt took"


@pytest.fixture
def quiet_kernel(request: pytest.FixtureRequest, guest: Guest) -> Iterator[None]:
    """Fails the test if the guest's kernel warned of anything meanwhile.

    What a module provokes on purpose it names in KERNEL_NOISE, a tuple of regular expressions.
    """
    mark = guest.mark_kernel_log()
    yield
    noise = (SLOW_HOST, *getattr(request.module, "KERNEL_NOISE", ()))
    assert guest.kernel_warnings(mark, noise) == []


@pytest.fixture(scope="module")
def refused(guest: Guest) -> set[str]:
    """Refusals that failed a test already."""
    return set()


@pytest.fixture
def nothing_refused(
    request: pytest.FixtureRequest, guest: Guest, refused: set[str]
) -> Iterator[None]:
    """Fails the test if the guest's kernel refused a program anything meanwhile, or before it.

    What a module has refused on purpose it names in REFUSED_ON_PURPOSE.
    """
    yield
    wanted = getattr(request.module, "REFUSED_ON_PURPOSE", ())
    new = {line for line in refusals(guest) if not any(word in line for word in wanted)}
    new -= refused
    refused |= new
    assert new == set()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[Any]) -> Any:
    """Show the guests' consoles and logs with a failed test."""
    report = yield
    if report.failed and (module := item.getparent(pytest.Module)) is not None:
        for guest in module.stash.get(GUESTS, []):
            report.sections.append((f"console of {guest.options.name}", guest.console()))
            report.sections.append((f"logs of {guest.options.name}", read_logs(guest)))
    return report
