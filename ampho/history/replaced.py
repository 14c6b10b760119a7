"""Replaced revisions: the files in the folder ``replaced`` of a package, which the ``replaces`` of a newer file names.

They are not part of the graph of all packages, and plain Alembic does not read them. They are read only for a database
that has some of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import cached_property
from typing import TYPE_CHECKING

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
        """The replaced revisions that have files, by id."""
        return {revision.id: revision for revision in self._read()}

    @cached_property
    def _replacements(self) -> dict[str, tuple[str, ...]]:
        return inverted(self.by_id.values())

    def replacements(self, revision_id: str) -> tuple[str, ...]:
        """Return the ids of the replaced revisions that replace a revision."""
        return self._replacements.get(revision_id, ())


def inverted(revisions: Iterable[Revision]) -> dict[str, tuple[str, ...]]:
    """Map the id of each revision that is replaced to the ids of those that replace it."""
    found: dict[str, tuple[str, ...]] = {}
    for revision in revisions:
        for old in revision.replaces:
            found[old] = (*found.get(old, ()), revision.id)
    return found
