"""Databases are changed while an old and a new release write to them and read from them, on real app servers.

A few changes of the guide run here, with few rows. ``AMPHO_ZERO_DOWNTIME=all`` runs all on both databases, and
``python benchmarks/zero_downtime.py`` measures them on large tables.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from itertools import product
from pathlib import Path

import pytest
from documents import blocks, commands
from live.changes import CHANGES, PAGE, RELEASES, RETRY, TRIGGERS
from live.load import COMMANDS, Size, change_under_load
from servers import Database

SHORT = [
    ("postgresql+psycopg", "split"),
    ("postgresql+psycopg", "not_null"),
    ("postgresql+asyncpg", "rename"),
    ("mariadb+pymysql", "move"),
    ("mariadb+asyncmy", "type"),
]
SHORT_NAIVE = [("postgresql+psycopg", "index")]
ALL = list(product(["postgresql+psycopg", "mariadb+pymysql", "postgresql+asyncpg", "mariadb+asyncmy"], CHANGES))
EVERYTHING = os.environ.get("AMPHO_ZERO_DOWNTIME") == "all"

pytestmark = pytest.mark.usefixtures("unmeasured")


@pytest.mark.timeout(300)
@pytest.mark.parametrize(("driver", "name"), ALL if EVERYTHING else SHORT)
def test_no_request_fails_or_waits_long(
    driver: str, name: str, make_database: Callable[[str], Database], tmp_path: Path
) -> None:
    size = Size(rows=1000, seconds=0.6, busy=1, rate=6)
    outcome = change_under_load(CHANGES[name], make_database(driver), tmp_path, size)
    assert outcome.is_free_of_downtime, outcome
    assert outcome.requests > 20


@pytest.mark.timeout(300)
@pytest.mark.parametrize(("driver", "name"), ALL if EVERYTHING else SHORT_NAIVE)
def test_the_same_change_by_one_revision_stops_the_app(
    driver: str, name: str, make_database: Callable[[str], Database], tmp_path: Path
) -> None:
    """Requests fail, or they wait as long as the revision waits for the transaction of a job."""
    size = Size(rows=1000, seconds=0.2, busy=3, rate=6)
    outcome = change_under_load(CHANGES[name], make_database(driver), tmp_path, size, naive=True)
    assert not outcome.is_free_of_downtime


def test_the_commands_of_the_guide_are_those_that_run_here() -> None:
    shown = [command for block in blocks(PAGE) if block.language == "console" for command, _ in commands(block)]
    assert {command for command in shown if command.startswith("ampho db-up")} == {*map(" ".join, COMMANDS.values())}


def test_every_snippet_of_the_guide_is_used() -> None:
    named = re.findall(r"<!-- (?:release|revision): (\S+)", PAGE.read_text("utf-8"))
    assert {*named} == {*CHANGES, TRIGGERS, RETRY}
    assert RELEASES.keys() == {TRIGGERS, RETRY} | {f"{name} {which}" for name in CHANGES for which in ("old", "new")}
