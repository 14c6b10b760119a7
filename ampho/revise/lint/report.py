"""The result of ``db-lint``, and the names of Ampho's own rules."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple, Self

from ampho.settings import DEFAULT_DATABASE

BLOCKS_WRITES = "blocks-writes"
BREAKS_RELEASE = "breaks-release"
DATA_LOSS = "data-loss"
EXISTING_ROWS = "existing-rows"
IRREVERSIBLE = "irreversible"
NO_SQL = "no-sql"
NOT_NULL = "not-null"
REBUILDS_TABLE = "rebuilds-table"
WHOLE_TABLE = "whole-table"
OWN = (
    BLOCKS_WRITES,
    BREAKS_RELEASE,
    DATA_LOSS,
    EXISTING_ROWS,
    IRREVERSIBLE,
    NO_SQL,
    NOT_NULL,
    REBUILDS_TABLE,
    WHOLE_TABLE,
)

REPLACE_HELP = "Add a new {0}, copy the data in batches, and drop the old {0} in a later release."


class Found(NamedTuple):
    """What a rule reports about a statement: the name of the rule, what is dangerous, and what to do instead."""

    rule: str
    message: str
    help: str


@dataclass(frozen=True, slots=True)
class Violation:
    """A dangerous change in a revision.

    :ivar revision: the id of the revision.
    :ivar package: the name of its package.
    :ivar path: the path of its file.
    :ivar rule: one of Ampho's own rules, such as ``data-loss``, or the name of a rule of squawk.
    :ivar message: what is dangerous.
    :ivar help: what to do instead, in one line; may be empty.
    :ivar statement: the SQL statement, or the Python code, if the violation is about a single one.
    :ivar line: the line of the file that the statement is from, or else the line of ``upgrade()`` or ``downgrade()``.
    """

    revision: str
    package: str
    path: Path
    rule: str
    message: str
    help: str = ""
    statement: str = ""
    line: int = 1


@dataclass(frozen=True, slots=True)
class LintReport:
    """The result of a lint.

    :ivar revisions: the ids of the revisions that were checked, in order.
    :ivar violations: the dangerous changes in them, in the same order, and those of one revision in the order of its
        lines.
    :ivar has_squawk: whether squawk checked the SQL of the revisions; squawk only checks SQL for PostgreSQL.
    :ivar database: the name of the database; empty for the combined result of several databases.
    :ivar databases: the results of the single databases, by name, if this is the combined result of several.
    """

    revisions: tuple[str, ...]
    violations: tuple[Violation, ...]
    has_squawk: bool
    database: str = DEFAULT_DATABASE
    databases: Mapping[str, Self] = field(default_factory=dict, compare=False, repr=False)

    @property
    def nothing_found(self) -> str:
        """What to say about several databases without findings; empty if there are findings."""
        return "" if self.violations else "no findings"
