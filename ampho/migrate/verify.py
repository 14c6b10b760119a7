"""Compare a database with what its revisions make, before they are marked as applied."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ampho._text import listed
from ampho.database import inventory
from ampho.database.inventory.differences import Differences, Pair, described
from ampho.database.inventory.items import BY_MEANING, TABLE, Inventory, Item
from ampho.database.version_rows import Applied
from ampho.errors import PlanChangedError, SpecifierError, VerificationError
from ampho.history.graph import Graph

if TYPE_CHECKING:
    from alembic.runtime.migration import MigrationContext
    from sqlalchemy.engine import Connection

_SHOWN = 50  # the maximum number of differences in a message


@dataclass(frozen=True)
class Claim:
    """What a stamp says about a database.

    :ivar known: the revisions that are applied after the stamp.
    :ivar state: specifiers that lead an empty database to the state that the stamp claims.
    :ivar before: specifiers that lead to the same state without the revisions of the stamp; empty if nothing is left.
    :ivar own: the revisions of the stamped packages.
    """

    known: frozenset[str]
    state: tuple[str, ...]
    before: tuple[str, ...]
    own: frozenset[str]

    @classmethod
    def of(
        cls, graph: Graph, was: Applied, known: AbstractSet[str], packages: Collection[str], specifier: str
    ) -> Claim:
        """Return what a stamp claims.

        :param graph: the revisions that a new database gets.
        :param was: the applied revisions before the stamp.
        :param known: the applied revisions after the stamp.
        :param packages: the packages that the specifier of the stamp is about.
        :raises SpecifierError: if no database can be built to compare with.
        """
        ids = {each for each in graph.ids if graph.has_file(each)}
        if replaced := was.graph.sort(known - was.known - ids):
            raise SpecifierError(
                f"{specifier}: Ampho cannot compare the database with {listed(replaced)}, because new databases do not"
                " get what was replaced. Stamp the revision that replaces it, or leave out --verify.",
                specifier=specifier,
            )
        own = {each for each in ids if graph[each].package in packages}
        stamped = (known & own) | (known & ids) - was.known
        rest = (known & ids) - stamped - graph.descendants(stamped)
        return cls(frozenset(known), _specifiers(graph, known & ids), _specifiers(graph, rest), frozenset(own))


def _specifiers(graph: Graph, applied: AbstractSet[str]) -> tuple[str, ...]:
    # With the same specifier as for db-check --scratch, the same template is used.
    return ("heads",) if applied == {*graph.ids} else graph.exact_rows(applied)


@dataclass(frozen=True)
class Verification:
    """Checks that what a stamp claims is true.

    :ivar claim: the claim.
    :ivar expected: what a database in the claimed state contains.
    :ivar before: what it contains without the revisions of the stamp; None for nothing.
    :ivar own: the tables that a stamped package creates at any point of its history, each with the package.
    :ivar others: the tables that other packages create.
    """

    claim: Claim
    expected: Inventory
    before: Inventory | None
    own: Mapping[str, str]
    others: Collection[str]

    def check(
        self, known: AbstractSet[str], connection: Connection, ignored: Collection[str], specifier: str
    ) -> tuple[str, ...]:
        """Check a database, and return notes on it.

        :param known: the revisions that are applied after the stamp.
        :param ignored: the tables of Alembic and Ampho.
        :raises VerificationError: if the database differs.
        :raises PlanChangedError: if other revisions are applied than when the claim was made.
        """
        if known != self.claim.known:
            raise PlanChangedError(
                "Another process changed the version table while Ampho looked at the revisions. Run the command again."
            )
        expected = self.expected.without(ignored)
        before = Inventory(()) if self.before is None else self.before.without(ignored)
        present = inventory.read(connection, expected.schemas).without(ignored)
        found = inventory.compare(expected, present)
        claimed = _Claimed(expected, before).limit(found)
        own = {present.fold(table): package for table, package in self.own.items()}
        others = {present.fold(table) for table in self.others}
        unknown = list[str]()
        for item in (item for item in found.superfluous if item.kind == TABLE and item not in claimed.superfluous):
            if present.fold(item.name) in others:
                continue
            if present.fold(item.name) in own:
                claimed.superfluous.append(item)
            else:
                unknown.append(item.name)
        if claimed:
            raise _error(claimed, expected, own, specifier)
        return tuple(_notes(claimed.renamed, unknown))


@dataclass(frozen=True)
class _Claimed:
    """Limits differences to what the revisions of a stamp make or drop.

    :ivar expected: what a database in the claimed state contains.
    :ivar before: what it contains without the revisions of the stamp.
    """

    expected: Inventory
    before: Inventory

    def limit(self, found: Differences) -> Differences:
        before = {self._identity(item) for item in self.before.items}
        names = {self.before.key(item) for item in self.before.items}
        made = [item for item in self.expected.items if self._identity(item) not in before]
        tables = {self._table(item) for item in made}
        new = {*self.expected.tables} - {*self.before.tables}

        def is_made(item: Item) -> bool:
            return self._table(item) in tables if item.kind == TABLE else self._identity(item) not in before

        def is_gone(item: Item) -> bool:
            was_there = self._identity(item) in before if item.kind in BY_MEANING else self.before.key(item) in names
            return was_there or (bool(item.table) and self._table(item) in new)

        return Differences(
            [*filter(is_made, found.missing)],
            [*filter(is_gone, found.superfluous)],
            [pair for pair in found.different if is_made(pair.expected)],
            [pair for pair in found.renamed if is_made(pair.expected)],
        )

    def _table(self, item: Item) -> str:
        return self.expected.fold(item.table or (item.name if item.kind == TABLE else ""))

    def _identity(self, item: Item) -> tuple[object, ...]:
        """Return a value that is equal for items that do the same."""
        if item.kind in BY_MEANING:
            return item.kind, self._table(item), item.traits
        return *self.expected.key(item), item.traits


def _notes(renamed: Sequence[Pair], unknown: Sequence[str]) -> Iterator[str]:
    if unknown:
        yield f"No revision creates these tables, so they were not compared: {listed(unknown)}."
    if renamed:
        names = [f"{pair.present.label} instead of {pair.expected.name or 'no name'}" for pair in renamed]
        yield f"These have another name in the database, so later revisions cannot find them: {listed(names)}."


def _error(found: Differences, expected: Inventory, own: Mapping[str, str], specifier: str) -> VerificationError:
    missing, different = [*map(str, found.missing)], [*map(described, found.different)]
    superfluous = [_superfluous(item, own, expected.fold) for item in found.superfluous]
    lines = [
        f"{word}: {text}."
        for word, texts in (("Missing", missing), ("Different", different), ("Superfluous", superfluous))
        for text in texts
    ]
    if len(lines) > _SHOWN:
        lines[_SHOWN:] = [f"And {len(lines) - _SHOWN} more."]
    tables = sum(item.kind == TABLE for item in expected.items)
    if tables and len([item for item in found.missing if item.kind == TABLE]) == tables:
        remedy = "None of the tables exists. To create them, run 'ampho db-up'."
    else:
        remedy = (
            "Change the database, or stamp the revision that made what it contains. If the difference does not matter,"
            " leave out --verify."
        )
    what = f"The database differs from what the revisions up to '{specifier}' make, so nothing was stamped."
    return VerificationError(
        "\n".join([what, *lines, remedy]),
        specifier=specifier,
        missing=missing,
        superfluous=superfluous,
        different=different,
    )


def _superfluous(item: Item, own: Mapping[str, str], fold: Callable[[str], str]) -> str:
    package = own.get(fold(item.name)) if item.kind == TABLE else None
    if package is not None:
        return f"{item.label}, which {package} has at another point of its history"
    return item.label if item.name else str(item)


def tables_of_alembic(context: MigrationContext, own: Collection[str]) -> list[str]:
    """Return the names of the version tables and of the journal, with and without their schema.

    :param own: the names of those that ``env.py`` does not configure.
    """
    names = [context.version_table, *own]
    return [*names, *(f"{context.version_table_schema}.{name}" for name in names)]
