"""What the results must show, as ratios of medians of one run, and whether they do."""

from __future__ import annotations

from collections.abc import Iterator

from projects import Shape
from report import Must, Results

FLASK, QUART = "Ampho on Flask", "Ampho on Quart"
SMALL, LARGE, LONG, DEEP = "50x20", "200x50", "1x5000", "50x100+deps"


def judge(results: Results) -> list[Must]:
    """Compare what was measured with every bound. Where a figure is missing, nothing is said."""
    look = _Look(results)
    return [*_noop(look), *_long(look), *_upgrade(look), *_growth(look), *_worker(results), *_memory(look)]


class _Look:
    """The medians of a run."""

    def __init__(self, results: Results) -> None:
        self._results = results

    def cpu(self, size: str, driver: str, tool: str, operation: str) -> float | None:
        figure = self._results.find(size, driver, tool, operation)
        return None if figure is None else figure.cpu

    def memory(self, size: str, driver: str, tool: str, operation: str) -> float | None:
        figure = self._results.find(size, driver, tool, operation)
        return None if figure is None else figure.memory

    def net(self, size: str, driver: str, tool: str) -> float | None:
        """What an upgrade takes without the start of a bare app."""
        return _minus(self.cpu(size, driver, tool, "upgrade"), self.cpu(size, driver, "bare app", "noop"))


def _must(number: int, claim: str, bound: float, value: float | None) -> Must:
    return Must(
        number, claim, bound, None if value is None else round(value, 4), None if value is None else value <= bound
    )


def _ratio(one: float | None, other: float | None) -> float | None:
    return None if one is None or not other or other <= 0 else one / other


def _minus(one: float | None, other: float | None) -> float | None:
    return None if one is None or other is None else one - other


def _noop(look: _Look) -> Iterator[Must]:
    for tool, driver, bounds in ((FLASK, "sqlite", (0.5, 0.2)), (QUART, "aiosqlite", (0.6, 0.25))):
        for size, bound in zip((SMALL, LARGE), bounds, strict=True):
            for operation, what in (("noop", "nothing to do"), ("fresh", "nothing to do, no bytecode")):
                other = look.cpu(size, "sqlite", "Flask-Migrate", operation)
                value = _ratio(look.cpu(size, driver, tool, operation), other)
                yield _must(1, f"{size}: {what}, {tool}, {driver}, compared with Flask-Migrate", bound, value)


def _long(look: _Look) -> Iterator[Must]:
    for size, operation, bound in ((LONG, "current", 0.1), (LONG, "downgrade", 0.15), (DEEP, "downgrade", 0.15)):
        value = _ratio(look.cpu(size, "sqlite", FLASK, operation), look.cpu(size, "sqlite", "Alembic", operation))
        yield _must(2, f"{size}: {operation}, sqlite, compared with Alembic", bound, value)
        if operation == "downgrade":
            # Where the tables themselves take most of it, no tool can be that much faster.
            floor = look.cpu(size, "sqlite", "floor", operation)
            ampho, alembic = (_minus(look.cpu(size, "sqlite", tool, operation), floor) for tool in (FLASK, "Alembic"))
            yield _must(
                2,
                f"{size}: {operation}, sqlite, without the floor, compared with Alembic",
                bound,
                _ratio(ampho, alembic),
            )


def _upgrade(look: _Look) -> Iterator[Must]:
    for size in (SMALL, LARGE):
        for tool, driver in ((FLASK, "sqlite"), (FLASK, "psycopg"), (QUART, "asyncpg")):
            for floor in ("floor", "floor with a journal", "floor with Alembic"):
                # 1.3 times the floor, and the start-up once; and the softer 1.3 times both.
                value = _ratio(look.net(size, driver, tool), look.net(size, driver, floor))
                yield _must(3, f"{size}: upgrade, {driver}, without start-up, compared with the {floor}", 1.3, value)
                whole = _ratio(look.cpu(size, driver, tool, "upgrade"), look.cpu(size, driver, floor, "upgrade"))
                yield _must(3, f"{size}: upgrade, {driver}, with start-up, compared with the {floor}", 1.3, whole)
        for driver in ("sqlite", "psycopg"):
            value = _ratio(look.cpu(size, driver, FLASK, "upgrade"), look.cpu(size, driver, "Django", "upgrade"))
            yield _must(3, f"{size}: upgrade, {driver}, compared with Django", 0.5, value)


def _growth(look: _Look) -> Iterator[Must]:
    for tool, driver in ((FLASK, "sqlite"), (FLASK, "psycopg"), (QUART, "asyncpg")):
        small, large = (_each(look, size, driver, tool) for size in (SMALL, LARGE))
        floor = _minus(*(_each(look, size, driver, "floor") for size in (LARGE, SMALL)))
        yield _must(
            4,
            f"a revision of {LARGE}, {driver}, compared with one of {SMALL}",
            1.2,
            _ratio(_minus(large, floor), small),
        )


def _each(look: _Look, size: str, driver: str, tool: str) -> float | None:
    """What an upgrade takes for one revision."""
    return _ratio(look.net(size, driver, tool), Shape.parse(size).total)


def _worker(results: Results) -> Iterator[Must]:
    for what, name, seconds, memory in (
        ("flask", "Ampho(app)", 0.015, 3.0),
        ("quart", "AsyncAmpho(app)", 0.015, 3.0),
        ("import", "import ampho", 0.005, None),
    ):
        found = results.worker.get(what)
        yield _must(5, f"{name} adds milliseconds of CPU", seconds * 1000, found and found.cpu * 1000)
        if memory is not None:
            yield _must(5, f"{name} adds MiB", memory, found and found.memory)


def _memory(look: _Look) -> Iterator[Must]:
    for tool, driver in ((FLASK, "sqlite"), (FLASK, "psycopg")):
        value = _ratio(look.memory(LARGE, driver, tool, "noop"), look.memory(LARGE, driver, "bare app", "noop"))
        yield _must(6, f"{LARGE}: peak memory, nothing to do, {driver}, compared with the bare app", 1.3, value)
