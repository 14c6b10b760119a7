"""Results that are lists, as classes of their own, by which they are printed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ampho.database.journal import Entry
    from ampho.revise.autogenerate import Drift
    from ampho.status.state import RevisionRecord


class Revisions(tuple["RevisionRecord", ...]):
    """The revisions that a specifier names, in order."""


class Log(tuple["Entry", ...]):
    """The entries of the journal, in order."""


class Drifts(tuple["Drift", ...]):
    """The differences between models and a database, by package."""


@dataclass(frozen=True)
class PackageHeads:
    """The heads of one package.

    :ivar package: the name of the package.
    :ivar revisions: its heads.
    """

    package: str
    revisions: tuple[RevisionRecord, ...]


class Heads(tuple[PackageHeads, ...]):
    """The heads of each package."""

    @classmethod
    def of(cls, records: Sequence[RevisionRecord]) -> Heads:
        """Group heads by package."""
        packages = dict.fromkeys(each.package for each in records)
        return cls(PackageHeads(name, tuple(each for each in records if each.package == name)) for name in packages)
