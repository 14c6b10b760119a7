"""Revisions with a planted fault, and harmless ones, to count what a linter finds.

They are in ``tests/revise/planted/``, a file for each database. A case is a paragraph: its first line says ``fault``
and the rules of which one has to report it, or ``harmless``, and after a bar how ``downgrade()`` looks; the other lines
are ``upgrade()``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from project import Project

BACKENDS = ("sqlite", "postgresql", "mariadb")
FOLDER = Path(__file__).parent / "revise" / "planted"


@dataclass(frozen=True)
class Case:
    """A revision.

    :ivar rules: the rules of which one has to report it; none if it is harmless.
    """

    rules: frozenset[str]
    upgrade: str
    downgrade: str = "op.execute('SELECT 1')"


def cases(backend: str) -> list[Case]:
    """Read the cases of a database."""
    found = []
    for paragraph in (FOLDER / f"{backend}.txt").read_text("utf-8").split("\n\n"):
        head, _, upgrade = paragraph.strip().partition("\n")
        kind, *rules = head.partition("|")[0].split()
        if kind != "#":
            downgrade = head.partition("| ")[2]
            assert (kind == "fault") == bool(rules), head
            found.append(Case(frozenset(rules), upgrade, *([downgrade] if downgrade else [])))
    return found


def write(project: Project, given: Sequence[Case]) -> list[str]:
    """Write a revision for each case, one upon the other, into the package ``core``, and return their ids."""
    project.package("core")
    ids = [f"core_{number:03}" for number in range(len(given))]
    for number, case in enumerate(given):
        down = ids[number - 1] if number else None
        project.revision("core", ids[number], down, upgrade=case.upgrade, downgrade=case.downgrade)
    return ids
