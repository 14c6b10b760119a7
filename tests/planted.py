"""Revisions with a planted fault, and harmless ones, to count what a linter finds.

They are in ``tests/revise/corpus/``, a file for each database. A case is a paragraph: its first line says ``fault``
and the rules of which one has to report it, or ``harmless``, and after a bar how ``downgrade()`` looks; the other lines
are ``upgrade()``.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from facade import facade
from project import Project
from sqlalchemy import URL

from ampho.revise.lint.lint import Draft, draft, lint

BACKENDS = ("sqlite", "postgresql", "mariadb")
FOLDER = Path(__file__).parent / "revise" / "corpus"


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


def strong_migrations(backend: str) -> dict[str, Case]:
    """Read the checks of strong_migrations for a database, by what they find."""
    return {name: Case(frozenset(), upgrade) for name, upgrade in _named("strong_migrations", backend)}


def exact(backend: str) -> list[tuple[str, Case]]:
    """Read the revisions for a database with all that is reported about them: each rule, and the number of its line."""
    return [(expected, Case(frozenset(), upgrade)) for expected, upgrade in _named("exact", backend)]


def _named(file: str, backend: str) -> Iterator[tuple[str, str]]:
    for paragraph in (FOLDER / f"{file}.txt").read_text("utf-8").split("\n\n"):
        head, _, upgrade = paragraph.strip().partition("\n")
        backends, _, name = head.partition(":")
        if backend in backends.split() and not head.startswith("#"):
            yield name.strip(), upgrade


def write(project: Project, given: Sequence[Case]) -> list[str]:
    """Write a revision for each case, one upon the other, into the package ``core``, and return their ids."""
    project.package("core")
    ids = [f"core_{number:03}" for number in range(len(given))]
    for number, case in enumerate(given):
        down = ids[number - 1] if number else None
        project.revision("core", ids[number], down, upgrade=case.upgrade, downgrade=case.downgrade)
    return ids


def drafted(project: Project, given: Sequence[Case], url: URL | str) -> Draft:
    """Write the revisions, and return them with their SQL."""
    write(project, given)
    return redrafted(project, url)


def redrafted(project: Project, url: URL | str) -> Draft:
    """Return the revisions of a project with their SQL."""
    config = {"AMPHO_STATEMENT_LOCK_TIMEOUT": 5}
    with (
        facade(project, "flask", ["core"], url, **config) as each,
        each.app.app_context(),
        each.ampho.db.engine.connect() as connection,
    ):
        return draft(each.ampho.project(each.app), connection)


def reported(draft: Draft) -> list[set[str]]:
    """Return the rules that each revision breaks by itself, so that what one creates is not new in the next."""
    return [
        {violation.rule for violation in lint(replace(draft, revisions=(revision,))).violations}
        for revision in draft.revisions
    ]
