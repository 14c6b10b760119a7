"""The hooks of pytest that the first app of a session adds.

They see to it that each test uses the databases of the fixture that it requests, whichever tests ran before. The
databases that several tests share are also used while fixtures that depend on them end.
"""

from __future__ import annotations

from itertools import takewhile
from typing import TYPE_CHECKING

import pytest

from ampho.errors import AmphoError
from ampho.testing.databases import use

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator
    from types import TracebackType

_LIBRARIES = ("contextlib", "flask_sqlalchemy", "sqlalchemy")


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> Generator[None, object, object]:
    """Use the shared databases that the test requests, or none."""
    use(getattr(item, "fixturenames", ()))
    return (yield)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_teardown() -> Generator[None, object, object]:
    """Use no databases after the test."""
    try:
        return (yield)
    finally:
        use(())


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_makereport(call: pytest.CallInfo[None]) -> None:
    """Show where a test led to an error of Ampho, but not what happened inside of the libraries."""
    if call.excinfo is not None and isinstance(error := call.excinfo.value, AmphoError):
        error.__cause__, error.__suppress_context__ = None, True
        # Ampho runs env.py, which is the app's.
        before = takewhile(lambda entry: _library(entry) != "ampho", _entries(call.excinfo.tb))
        if own := [entry for entry in before if _library(entry) not in _LIBRARIES]:
            own[-1].tb_next = None


def _entries(entry: TracebackType | None) -> Iterator[TracebackType]:
    while entry is not None:
        yield entry
        entry = entry.tb_next


def _library(entry: TracebackType) -> str:
    return str(entry.tb_frame.f_globals.get("__name__")).partition(".")[0]


@pytest.hookimpl(wrapper=True)
def pytest_fixture_setup(fixturedef: pytest.FixtureDef[object]) -> Generator[None, object, object]:
    """Use the databases with which a fixture of several tests was set up when it ends, too."""
    if fixturedef.scope == "function":
        return (yield)
    before: list[str] = []
    fixturedef.addfinalizer(lambda: use(before))  # the last one that runs
    result = yield
    used = use(None)
    fixturedef.addfinalizer(lambda: before.extend(use(used)))
    return result
