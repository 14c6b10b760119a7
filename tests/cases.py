"""Random states of a database, for the tests of the history as a picture."""

from __future__ import annotations

import random
from dataclasses import dataclass
from pathlib import Path

from graphs import History, random_history

from ampho.database.journal import Entry, Journal, Outcome
from ampho.database.version_rows import Applied
from ampho.history.graph import Graph
from ampho.history.revision import Revision
from ampho.status.graph_view import Picture, draw

LINE = "\n".join(["app: app_1", *(f"app: app_{number} < app_{number - 1}" for number in range(2, 10))])


@dataclass(frozen=True)
class Case:
    """A random history and what is applied of it, with some files gone."""

    history: History
    graph: Graph
    rows: tuple[str, ...]
    journal: Journal
    packages: tuple[str, ...]

    def draw(self, *, full: bool = False) -> Picture:
        applied = Applied.from_rows(self.graph, self.rows, self.journal)
        return draw(self.graph, applied, self.journal, packages=self.packages, full=full)


def case(seed: int, *, part: bool = False) -> Case:
    """Make a history up, apply some of it, and lose one package that is applied, now and then.

    :param part: whether only some packages are asked for.
    """
    rng = random.Random(seed)
    history = random_history(rng, odd=seed % 2 == 1)
    every = [
        Revision(
            made.id, made.package, Path(f"{made.id}.py"), made.down, made.depends_on, made.labels, f"make {made.id}"
        )
        for made in history.revisions.values()
    ]
    whole = Graph(every, history.packages)
    applied = history.with_ancestors(rng.sample(list(history.revisions), rng.randint(0, len(history.revisions))))
    journal = Journal(
        lambda: [
            Entry(number, rid, whole[rid].package, "upgrade", Outcome.DONE, whole.parents(rid))
            for number, rid in enumerate(whole.sort(applied))
        ]
    )
    here = whole
    last = history.packages[-1]
    if rng.random() < 0.4 and set(history.of_package(last)) <= applied:
        left = [revision for revision in every if revision.package != last]
        if not any(last in {whole[rid].package for rid in whole.parents(one.id)} for one in left):
            here = Graph(left, history.packages[:-1])
    packages = tuple(rng.sample(here.packages, rng.randint(1, len(here.packages)))) if part and here.packages else ()
    return Case(history, here, whole.exact_rows(applied), journal, packages)
