"""The hooks of pytest that the first app of a session adds.

They see to it that each test uses the databases of the fixture that it requests, whichever tests ran before. The
databases that several tests share are also used while fixtures that depend on them end.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from ampho.testing.databases import use

if TYPE_CHECKING:
    from collections.abc import Generator


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
