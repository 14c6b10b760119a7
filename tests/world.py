"""A made-up history, its database, and what ``db-status``, ``--plan`` and ``db-graph`` have to tell of them.

What is right is found naively, from what was made up and from what the revisions themselves have logged.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise

from drawn import READERS, Box, Drawn
from graphs import History
from sqlalchemy import Engine

from ampho.cli.graph.dot import as_dot
from ampho.cli.graph.lanes import plain
from ampho.cli.graph.mermaid import as_mermaid
from ampho.cli.graph.svg import as_svg
from ampho.migrate import executor as execute
from ampho.migrate import queries
from ampho.migrate.plan import Cause, Direction, Plan
from ampho.migrate.project import Project
from ampho.status.summary import DatabaseStatus


@dataclass(frozen=True)
class World:
    """A history on disk, and a database in which its revisions log themselves.

    :ivar half_done: the revision that nobody knows what is left of.
    """

    history: History
    project: Project
    engine: Engine
    half_done: str = ""

    @cached_property
    def packages(self) -> tuple[str, ...]:
        """The packages that are there."""
        return tuple(package.name for package in self.project.packages)

    def without(self, package: str) -> World:
        """Return the same where a package is gone."""
        left = tuple(one for one in self.project.packages if one.name != package)
        return replace(self, project=replace(self.project, packages=left))

    def plan(self, specifier: str, direction: Direction) -> Plan:
        with self.engine.connect() as connection:
            return execute.plan(self.project, connection, specifier, direction=direction, cascade=True)()

    def run(self, specifier: str, direction: Direction, agreed: Plan | None) -> list[str]:
        with self.engine.connect() as connection:
            if direction is Direction.UPGRADE:
                run = execute.upgrade(self.project, connection, specifier, agreed=agreed)
            else:
                run = execute.downgrade(self.project, connection, specifier, cascade=True, agreed=agreed)
        return [one.step.revision.id for one in run.steps]

    def status(self) -> DatabaseStatus:
        with self.engine.connect() as connection:
            return queries.status(self.project, connection, all=True)

    def logged(self) -> list[str]:
        """The revisions that logged themselves and so are applied, in the order in which they did."""
        with self.engine.connect() as connection:
            return list(connection.exec_driver_sql("SELECT id FROM log ORDER BY number").scalars())

    def marks(self) -> dict[str, str]:
        """What is to be told of each revision, and of no other."""
        marks = self.counted()
        return marks | ({self.half_done: "unfinished"} if self.half_done else {})

    def counted(self) -> dict[str, str]:
        """What each revision counts as, be it half done or not."""
        applied, made = set(self.logged()), self.history.revisions
        here = {rid for rid in made if made[rid].package in self.packages}
        marks = {rid: "applied" if rid in applied else "pending" for rid in here}
        marks |= dict.fromkeys(applied - here, "missing")
        needed = {parent for rid in here for parent in made[rid].parents}
        return marks | dict.fromkeys(needed - marks.keys(), "absent")

    def check_told(self) -> None:
        """Check that the status and the pictures are what the revisions themselves have logged."""
        self.check_status()
        marks = self.marks()
        pictures = self.pictures(full=True)
        check_boxes(pictures, self.boxes(marks), self.edges(marks))
        self.check_lanes(pictures, marks)
        self.check_runs(marks)

    def check_status(self) -> None:
        applied, status, marks, counted = set(self.logged()), self.status(), self.marks(), self.counted()
        gone = sorted({self.history.revisions[rid].package for rid, mark in counted.items() if mark == "missing"})
        assert [package.package for package in status] == [*self.packages, *gone]
        for package in status:
            own = set(self.history.of_package(package.package))
            others = self.history.with_ancestors(applied - own)
            told = {rid: mark for rid, mark in marks.items() if rid in own and mark != "absent"}
            counts = Counter(counted[rid] for rid in told)
            assert package.applied == counts["applied"]
            assert package.pending == counts["pending"]
            assert package.implied == len(own & applied & others) * (package.package in self.packages)
            assert package.missing == counts["missing"]
            heads = self.history.heads(package.package) if package.package in self.packages else ()
            assert set(package.heads) == set(heads)
            assert {one.id: one.mark for one in package.revisions} == told
            assert (package.last is None) == (not own & applied)
            assert package.last is None or (package.last in applied and package.when is not None)
        assert status.pending == Counter(counted.values())["pending"]
        assert [entry.revision for entry in status.unfinished] == [self.half_done] * bool(self.half_done)

    def pictures(self, *, full: bool) -> dict[str, Drawn]:
        with self.engine.connect() as connection:
            picture = queries.graph(self.project, connection, full=full)
        written = {"svg": as_svg(picture), "mermaid": as_mermaid(picture), "dot": as_dot(picture)}
        return {form: READERS[form](text) for form, text in {**written, "text": plain(picture)}.items()}

    def boxes(self, marks: dict[str, str]) -> set[Box]:
        heads = {head for package in self.packages for head in self.history.heads(package)}
        return {Box(rid, rid, 1, mark, rid in heads) for rid, mark in marks.items()}

    def edges(self, marks: dict[str, str]) -> set[tuple[str, str, bool]]:
        """What stands on what; what an absent revision stands on nobody knows, nor what a missing one calls that."""
        made = self.history.revisions
        known = [made[rid] for rid, mark in marks.items() if mark != "absent"]
        gone = {rid for rid, mark in marks.items() if mark == "missing"}
        return {
            (parent, one.id, made[parent].package != one.package or (parent not in one.down and one.id not in gone))
            for one in known
            for parent in one.parents
        }

    def check_lanes(self, pictures: dict[str, Drawn], marks: dict[str, str]) -> None:
        """Check that each package has a lane, in which all of its revisions are, counted as they are told."""
        packages = {rid: self.package(rid, marks) for rid in marks}
        order = ("applied", "pending", "missing", "unfinished", "absent")
        counts = {}
        for package in dict.fromkeys([*self.packages, *sorted(packages.values())]):
            count = Counter(mark for rid, mark in marks.items() if packages[rid] == package)
            counts[package] = ", ".join(f"{count[mark]} {mark}" for mark in order if count[mark]) or "no revisions"
        assert pictures["svg"].lanes == pictures["text"].lanes == counts
        assert list(pictures["svg"].lanes) == list(counts)
        for form in ("svg", "mermaid", "dot"):
            assert pictures[form].packages == packages, form

    def package(self, revision: str, marks: dict[str, str]) -> str:
        """Return the package of a revision, as far as it can be known: by its id alone, where nothing of it is here."""
        package = self.history.revisions[revision].package
        known = {*self.packages, *(self.history.revisions[rid].package for rid in marks if marks[rid] == "missing")}
        return package if package in known else package.replace(".", "_")

    def check_runs(self, marks: dict[str, str]) -> None:
        """Check that a picture with runs has the same revisions and edges, but for those within a run."""
        pictures = self.pictures(full=False)
        svg, dot = pictures["svg"], pictures["dot"]
        assert sorted(svg.revisions) == sorted(dot.revisions) == sorted(marks)
        ids = iter(svg.revisions)
        runs = [[next(ids) for _ in range(box.size)] for box in svg.boxes]
        inside = {(*pair, False) for run in runs for pair in pairwise(run)}
        made = self.boxes(marks)
        expected = {
            Box(run[0], run[-1], len(run), marks[run[0]], Box(run[-1], run[-1], 1, marks[run[-1]], True) in made)
            for run in runs
        }
        for run in runs:
            assert len({marks[rid] for rid in run}) == 1
        check_boxes(pictures, expected, self.edges(marks) - inside)

    def check_reasons(self, plan: Plan) -> None:
        """Check that each step was asked for, or that what it names needs it and is in the plan, too."""
        ids = [step.revision.id for step in plan.steps]
        for step in plan.steps:
            if step.cause is Cause.ASKED:
                assert step.because_of == ()
                continue
            assert step.because_of
            for other in step.because_of:
                child, parent = (other, step.revision.id) if plan.direction == "upgrade" else (step.revision.id, other)
                assert other in ids
                assert parent in self.history.revisions[child].parents
        if ids:
            assert Cause.ASKED in {step.cause for step in plan.steps}


def check_boxes(pictures: dict[str, Drawn], boxes: set[Box], edges: set[tuple[str, str, bool]]) -> None:
    """Check that all pictures have these boxes and edges, each once, and no others."""
    for form, drawn in pictures.items():
        assert sorted(drawn.boxes) == sorted(boxes), form
        assert drawn.edges is None or set(drawn.edges) == edges, form
    for first, (named, more) in pictures["text"].needs.items():
        needed = {source for source, target, is_dependency in edges if target == first and is_dependency}
        assert len(needed) == len(named) + more
        assert needed.issuperset(named)
