"""What is told of a run: an observer, the logger ``ampho`` and the signals hear the same, in the same order."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import pytest
from facade import FRAMEWORKS, URLS, Facade, facade
from project import Project

from ampho import Direction, Observer, Run, signals
from ampho.database.statement import Statement
from ampho.errors import RevisionFailedError

SIGNALS = {
    "started": signals.revision_started,
    "applied": signals.revision_applied,
    "failed": signals.revision_failed,
    "retrying": signals.revision_retrying,
    "interrupted": signals.revision_interrupted,
}
FINISHED = (signals.upgrade_finished, signals.downgrade_finished)


@pytest.fixture(params=FRAMEWORKS)
def shop(request: pytest.FixtureRequest, project: Project) -> Iterator[Facade]:
    for package in ("core", "shop"):
        project.package(package)
    project.revision("core", "core_1", upgrade='op.create_table("core", sa.Column("id", sa.Integer))')
    project.revision("shop", "shop_1", None, "core_1")
    with facade(project, request.param, ["core", "shop"], URLS[request.param]) as each:
        yield each


class Diary(Observer):
    """Notes what it hears, as ``(event, revision)``."""

    def __init__(self) -> None:
        self.heard: list[tuple[str, str | None]] = []

    def started(self, step: Any) -> None:
        self.heard.append(("started", step.revision.id))

    def applied(self, step: Any, duration: float) -> None:
        self.heard.append(("applied", step.revision.id))

    def failed(self, step: Any, error: Exception) -> None:
        self.heard.append(("failed", step.revision.id))

    def interrupted(self, step: Any) -> None:
        self.heard.append(("interrupted", step.revision.id))

    def finished(self, run: Run) -> None:
        self.heard.append(("finished", None))


@contextmanager
def received(app: object) -> Iterator[list[tuple[str, dict[str, Any]]]]:
    """Keep what the signals of an app tell, as ``(event, what came with it)``."""
    heard: list[tuple[str, dict[str, Any]]] = []
    with ExitStack() as connections:
        for event, signal in (*SIGNALS.items(), *(("finished", signal) for signal in FINISHED)):

            def receive(sender: object, event: str = event, **what: Any) -> None:
                assert sender is app
                heard.append((event, what))

            connections.enter_context(signal.connected_to(receive, sender=app))
        yield heard


def logged(caplog: pytest.LogCaptureFixture) -> list[logging.LogRecord]:
    return [record for record in caplog.records if hasattr(record, "ampho_event")]


def same_for_all(each: Facade, caplog: pytest.LogCaptureFixture, *call: str) -> list[tuple[str, str | None]]:
    """What an observer heard, which is what the log and the signals say too."""
    caplog.clear()
    caplog.set_level(logging.DEBUG, "ampho")
    diary = Diary()
    with received(each.app) as signalled:
        try:
            each.call(*call, observer=diary)
        except RevisionFailedError:
            pass
        except KeyboardInterrupt:
            assert not each.ampho.is_async
    records = [(record.ampho_event, getattr(record, "ampho_revision", None)) for record in logged(caplog)]  # type: ignore[attr-defined]
    assert diary.heard == [(event, what.get("revision")) for event, what in signalled]
    assert diary.heard == [record for record in records if record[0] != "planned"]
    return diary.heard


def test_an_observer_the_log_and_the_signals_hear_the_same(
    shop: Facade, project: Project, caplog: pytest.LogCaptureFixture
) -> None:
    applied = [("started", "core_1"), ("applied", "core_1"), ("started", "shop_1"), ("applied", "shop_1")]
    assert same_for_all(shop, caplog, "upgrade") == [*applied, ("finished", None)]
    assert same_for_all(shop, caplog, "upgrade") == [("finished", None)]
    assert same_for_all(shop, caplog, "downgrade", "shop@base") == [*applied[2:], ("finished", None)]

    project.revision("shop", "shop_2", "shop_1", upgrade="op.execute('nonsense')")
    failed = [("started", "shop_2"), ("failed", "shop_2")]
    assert same_for_all(shop, caplog, "upgrade") == [*applied[2:], *failed]

    if not shop.ampho.is_async:
        project.revision("shop", "shop_2", "shop_1", upgrade="raise KeyboardInterrupt")
        assert same_for_all(shop, caplog, "upgrade") == [("started", "shop_2"), ("interrupted", "shop_2")]


def test_what_a_signal_brings(shop: Facade, project: Project) -> None:
    with received(shop.app) as heard:
        run = shop.call("upgrade")
        shop.call("downgrade", "shop@base")
    (_, started), (_, applied), *_, (_, finished) = heard[:5]
    assert started == {
        "step": run.plan.steps[0],
        "revision": "core_1",
        "package": "core",
        "direction": Direction.UPGRADE,
        "database": "default",
    }
    assert applied == {**started, "duration": run.steps[0].duration}
    assert finished == {"run": run, "direction": Direction.UPGRADE, "duration": run.duration, "database": "default"}
    assert {what["direction"] for _, what in heard[5:]} == {Direction.DOWNGRADE}

    project.revision("shop", "shop_1", None, "core_1", upgrade="op.execute('nonsense')")
    with received(shop.app) as heard, pytest.raises(RevisionFailedError) as caught:
        shop.call("upgrade")
    assert heard[-1][1]["error"] is caught.value


def test_what_a_record_has(shop: Facade, project: Project, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "ampho")
    project.revision("shop", "shop_2", "shop_1", upgrade="op.execute('nonsense')")
    with pytest.raises(RevisionFailedError):
        shop.call("upgrade")
    planned, started, applied, *_, failed = logged(caplog)

    assert planned.getMessage() == "Upgrading (heads): 3 revisions of core, shop"
    assert vars(planned).items() >= {"ampho_steps": 3, "ampho_packages": ("core", "shop")}.items()
    assert (started.levelname, started.getMessage()) == ("DEBUG", "Upgrade of core_1 of core started")
    assert applied.levelname == "INFO"
    assert applied.getMessage().startswith("Upgrade of core_1 of core finished in ")
    assert (
        vars(applied).items()
        >= {
            "ampho_event": "applied",
            "ampho_revision": "core_1",
            "ampho_package": "core",
            "ampho_direction": "upgrade",
            "ampho_database": "default",
        }.items()
    )
    assert isinstance(vars(applied)["ampho_duration"], float)
    assert failed.levelname == "ERROR"
    assert "Upgrade of shop_2 of shop failed: Revision shop_2 of shop failed at" in failed.getMessage()
    assert vars(failed)["ampho_error"] == "RevisionFailedError"


def test_a_receiver_has_no_say(shop: Facade, caplog: pytest.LogCaptureFixture) -> None:
    def broken(sender: object, **what: object) -> None:
        raise RuntimeError("what a receiver says")

    with (
        signals.revision_applied.connected_to(broken),
        signals.upgrade_finished.connected_to(broken),
        received(shop.app) as heard,
    ):
        run = shop.call("upgrade")

    assert len(run.steps) == 2
    assert [event for event, _ in heard] == ["started", "applied", "started", "applied", "finished"]
    warnings = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert len(warnings) == 1
    assert "broken failed, and the run continues without it: RuntimeError: what a receiver says" in warnings[0]


def test_an_async_receiver_is_awaited_where_that_can_be(shop: Facade, caplog: pytest.LogCaptureFixture) -> None:
    heard = []

    async def receive(sender: object, revision: str, **what: object) -> None:
        import asyncio

        await asyncio.sleep(0)
        heard.append(revision)

    with signals.revision_applied.connected_to(receive, sender=shop.app):
        assert len(shop.call("upgrade").steps) == 2

    if shop.ampho.is_async:
        assert heard == ["core_1", "shop_1"]
    else:
        assert heard == []
        assert "the receiver is async, and Flask cannot await it" in caplog.text


def test_a_muted_signal_and_another_app_hear_nothing(shop: Facade) -> None:
    heard: list[object] = []

    def receive(sender: object, **what: object) -> None:
        heard.append(what)

    with (
        signals.revision_applied.muted(),
        signals.revision_applied.connected_to(receive),
        signals.revision_started.connected_to(receive, sender=object()),
    ):
        shop.call("upgrade")
    assert heard == []


class Statements(Observer):
    def __init__(self) -> None:
        self.heard: list[str] = []
        self.running = 0

    def executing(self, statement: Statement) -> None:
        self.heard.append(str(statement))
        self.running += 1

    def executed(self) -> None:
        self.running = 0


def test_an_observer_hears_of_statements_if_it_wants_to(shop: Facade, project: Project) -> None:
    project.revision(
        *("shop", "shop_2", "shop_1"),
        upgrade="op.execute(sa.text('SELECT :a').bindparams(a='hidden')); op.execute(\"SELECT 'hidden'\")",
    )
    observer = Statements()
    shop.call("upgrade", observer=observer)
    assert any(statement.startswith("CREATE TABLE core") for statement in observer.heard)
    assert {"SELECT ?", "SELECT '...'"} <= set(observer.heard)
    assert "hidden" not in str(observer.heard)
    assert observer.running == 0


def test_a_throw_away_database_is_nobodys_news(shop: Facade, caplog: pytest.LogCaptureFixture) -> None:
    shop.call("upgrade")
    caplog.clear()
    caplog.set_level(logging.DEBUG, "ampho")
    with received(shop.app) as heard:
        shop.call("check", scratch=True)
    assert heard == logged(caplog) == []


def test_an_interruption_while_the_start_is_reported_is_reported_as_well(shop: Facade) -> None:
    class Interrupting(Diary):
        def started(self, step: Any) -> None:
            super().started(step)
            raise KeyboardInterrupt

    diary = Interrupting()
    with pytest.raises(KeyboardInterrupt):
        shop.call("upgrade", observer=diary)
    assert diary.heard == [("started", "core_1"), ("interrupted", "core_1")]
