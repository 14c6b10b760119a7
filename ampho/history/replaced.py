"""Replaced revisions: the files in the folder ``replaced`` of a package, which the ``replaces`` of a newer file names.

They are not part of the graph of all packages, and plain Alembic does not read them. They are read only for a database
that has some of them.
"""

from __future__ import annotations

import graphlib
from collections.abc import Callable, Iterable
from functools import cached_property
from graphlib import TopologicalSorter
from typing import TYPE_CHECKING

from ampho._text import listed, shown_path
from ampho.errors import CycleError

if TYPE_CHECKING:
    from ampho.history.revision import Revision


class Replaced:
    """The replaced revisions of all packages, read on first use.

    :param read: reads their files.
    """

    def __init__(self, read: Callable[[], Iterable[Revision]] = tuple) -> None:
        self._read = read

    @cached_property
    def by_id(self) -> dict[str, Revision]:
        """The replaced revisions that have files, by id.

        :raises CycleError: if they replace each other in a cycle.
        """
        found = {revision.id: revision for revision in self._read()}
        try:
            TopologicalSorter({revision.id: revision.replaces for revision in found.values()}).prepare()
        except graphlib.CycleError as exc:
            cycle = list(dict.fromkeys(map(str, exc.args[1])))
            files = listed([shown_path(found[each].path) for each in cycle])
            raise CycleError(
                f"Revisions replace each other in a cycle: {listed(cycle)}. Remove one of these ids from replaces, in"
                f" {files}.",
                revisions=cycle,
            ) from exc
        return found

    @cached_property
    def _replacements(self) -> dict[str, tuple[str, ...]]:
        return inverted(self.by_id.values())

    def replacements(self, revision_id: str) -> tuple[str, ...]:
        """Return the ids of the replaced revisions that replace a revision."""
        return self._replacements.get(revision_id, ())


def inverted(revisions: Iterable[Revision]) -> dict[str, tuple[str, ...]]:
    """Map the id of each revision that is replaced to the ids of those that replace it."""
    found: dict[str, tuple[str, ...]] = {}
    for revision in [each for each in revisions if each.replaces]:
        for old in revision.replaces:
            found[old] = (*found.get(old, ()), revision.id)
    return found
