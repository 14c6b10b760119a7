"""What becomes of an adopted history: the files that move, and the new revisions."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ampho.history.revision import Revision
    from ampho.revise.squash.carried import Carried


@dataclass(frozen=True, slots=True)
class MovedFile:
    """A file that was moved, or that would be moved.

    :ivar source: where it was.
    :ivar target: where it is now.
    """

    source: Path
    target: Path


@dataclass(frozen=True, slots=True)
class SplitRevision:
    """A new revision of one of the packages over which a history is split.

    :ivar revision: the revision, which replaces all of the old ones.
    :ivar tables: the tables that it creates.
    :ivar carried: the statements of the old revisions that its file contains as comments, because they are more than
        changes of the schema.
    """

    revision: Revision
    tables: tuple[str, ...]
    carried: tuple[Carried, ...] = ()

    @property
    def package(self) -> str:
        """The name of its package."""
        return self.revision.package
