"""Which database comes next, and when an upgrade of many databases stops."""

from __future__ import annotations

import random
from collections.abc import Callable
from itertools import repeat
from typing import NamedTuple

import click
import pytest

import ampho.cli.show.fleet  # noqa: F401 (it registers the text of a report)
from ampho.cli.show import print_text
from ampho.fleet.driver import Driver
from ampho.fleet.report import Ending, FleetOutcome, Tally

UP, FAILED, LOCKED = FleetOutcome.UPGRADED, FleetOutcome.FAILED, FleetOutcome.LOCKED


class Member(NamedTuple):
    name: str


def members(names: str) -> list[Member]:
    return [Member(name) for name in names]


def run(driver: Driver, outcome: Callable[[str, bool], FleetOutcome], jobs: int = 1) -> tuple[str, dict[str, str]]:
    """Run turns to the end, ``jobs`` at a time, and return the order in which they began, and the names by outcome."""
    order, turns, ends = "", [], []
    while not driver.is_over:
        while len(turns) < jobs and (turn := driver.next()) is not None:
            turns.append(turn)
            order += turn.member.name
        turn = turns.pop(0)
        ending = Ending(turn.member.name, outcome(turn.member.name, turn.waits))
        if driver.ended(ending):
            ends.append(ending)
    ends += driver.rest()
    found: dict[str, str] = {}
    for ending in ends:
        found[ending.outcome] = found.get(ending.outcome, "") + ending.database
    return order, found


def fails(*names: str) -> Callable[[str, bool], FleetOutcome]:
    return lambda name, waits: FAILED if name in names else UP


def test_each_database_gets_one_turn_in_order() -> None:
    assert run(Driver((), members("abcd")), fails()) == ("abcd", {UP: "abcd"})
    assert run(Driver((), ()), fails()) == ("", {})


def test_after_a_failure_nothing_new_begins_and_what_runs_is_finished() -> None:
    driver = Driver((), members("abcdef"))
    assert run(driver, fails("a"), jobs=3) == ("abc", {FAILED: "a", UP: "bc", "skipped": "def"})
    assert driver.stopped == "the limit of 1 failure was reached"


def test_an_upgrade_that_keeps_going_stops_after_the_maximum_of_failures() -> None:
    everything = ("abcdef", {FAILED: "bcd", UP: "aef"})
    assert run(Driver((), members("abcdef"), None), fails("b", "c", "d")) == everything
    assert run(Driver((), members("abcdef"), 4), fails("b", "c", "d")) == everything
    driver = Driver((), members("abcdef"), 3)
    assert run(driver, fails("b", "c", "d")) == ("abcd", {FAILED: "bcd", UP: "a", "skipped": "ef"})
    assert driver.stopped == "the limit of 3 failures was reached"


def test_the_others_begin_when_all_canaries_are_up_to_date() -> None:
    driver = Driver(members("xy"), members("ab"))
    first = [driver.next(), driver.next(), driver.next()]
    assert [turn and turn.member.name for turn in first] == ["x", "y", None]
    driver.ended(Ending("x", UP))
    assert driver.next() is None
    driver.ended(Ending("y", FleetOutcome.UP_TO_DATE))
    assert run(driver, fails()) == ("ab", {UP: "ab"})


@pytest.mark.parametrize("outcome", [FAILED, LOCKED])
def test_a_canary_that_is_not_up_to_date_stops_everything(outcome: FleetOutcome) -> None:
    driver = Driver(members("xy"), members("ab"), max_failures=None)
    order, found = run(driver, lambda name, waits: outcome if name == "x" else UP)
    assert found[outcome] == "x"
    assert found["skipped"].endswith("ab")
    assert "a" not in order


def test_a_locked_database_is_tried_again_at_the_end_and_then_waited_for() -> None:
    tries: list[tuple[str, bool]] = []

    def outcome(name: str, waits: bool) -> FleetOutcome:
        tries.append((name, waits))
        return LOCKED if name == "c" or (name == "b" and not waits) else UP

    order, found = run(Driver((), members("abcd")), outcome)
    assert order == "abcdbc"
    assert tries[-2:] == [("b", True), ("c", True)]
    assert found == {UP: "adb", LOCKED: "c"}


def test_locked_databases_that_were_not_tried_again_are_reported_as_locked() -> None:
    driver = Driver((), members("abcd"))
    order, found = run(driver, lambda name, waits: {"a": LOCKED, "b": FAILED}.get(name, UP))
    assert (order, found) == ("ab", {FAILED: "b", LOCKED: "a", "skipped": "cd"})


def test_each_database_ends_once_whatever_happens() -> None:
    for seed in range(300):
        chance = random.Random(seed)
        names = "abcdefghij"[: chance.randint(0, 10)]
        cut = chance.randint(0, len(names))
        driver = Driver(members(names[:cut]), members(names[cut:]), chance.choice([None, 1, 2, 3]))

        def outcome(name: str, waits: bool, chance: random.Random = chance, driver: Driver = driver) -> FleetOutcome:
            if chance.random() < 0.05:
                driver.stop("interrupted")
            return chance.choice(list(FleetOutcome)[:-1])

        _, found = run(driver, outcome, jobs=chance.randint(1, 4))
        assert sorted("".join(found.values())) == sorted(names)


def test_the_report_counts_by_outcome_and_by_revision() -> None:
    tally = Tally("ampho db-up -d")
    for name, _ in zip(range(1200), repeat(None)):
        tally.add(Ending(f"tenants/{name}", FleetOutcome.UP_TO_DATE))
    assert tally.report().exit_code == 0
    tally.add(Ending("tenants/a", UP, applied=("shop_1", "shop_2")))
    tally.add(Ending("tenants/b", FAILED, applied=("shop_1",), revision="shop_2", cause="No."))
    tally.add(Ending("tenants/c", LOCKED, cause="Another process."))
    tally.add(Ending("tenants/d", FleetOutcome.SKIPPED))
    report = tally.report("the limit of 1 failure was reached")

    assert report.outcomes == {FleetOutcome.UP_TO_DATE: 1200, UP: 1, FAILED: 1, LOCKED: 1, FleetOutcome.SKIPPED: 1}
    assert [(each.revision, each.applied, each.failed) for each in report.revisions] == [
        ("shop_1", 2, 0),
        ("shop_2", 1, 1),
    ]
    assert [(each.database, each.command) for each in report.failures] == [
        ("tenants/b", "ampho db-up -d tenants/b"),
        ("tenants/c", "ampho db-up -d tenants/c"),
    ]
    assert (report.upgraded, report.skipped) == (("tenants/a",), ("tenants/d",))
    assert report.exit_code == 4


def test_at_most_twenty_causes_are_printed(capsys: pytest.CaptureFixture[str]) -> None:
    tally = Tally("ampho db-up -d")
    for number in range(50):
        tally.add(Ending(f"tenants/t{number}", FAILED, cause=f"Number {number // 2}: t{number} is not well."))
    print_text(tally.report(), click.Context(click.Command("db-up")))
    first, again, others, *_, more, last = capsys.readouterr().out.splitlines()
    assert first == "tenants/t0: failed: Number 0: t0 is not well."
    assert again == "  Try it again with 'ampho db-up -d tenants/t0'."
    assert others == "  The same applies to 1 other database: tenants/t1."
    assert more == "and 10 more; --json lists all of them."
    assert last.startswith("50 failed, in ")
