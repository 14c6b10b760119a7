"""Change the text of a CREATE TABLE statement of SQLite, and keep everything in it that the change does not mention.

Reflection misses some features of SQLite, such as collations, AUTOINCREMENT, or ON CONFLICT, so a table that is
created from reflected columns loses them. This module compares two statements that SQLAlchemy wrote, one for the table
as it was reflected and one for the table as it should be, and makes the same changes to the text in ``sqlite_master``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, TypeAlias

from sqlalchemy import Computed

from ampho.errors import AmphoError

if TYPE_CHECKING:
    from sqlalchemy import Table

_TOKEN = re.compile(
    r"(?P<space>\s+|--[^\n]*|/\*.*?\*/)"
    r"|(?P<text>'(?:[^']|'')*')"
    r'|(?P<quoted>"(?:[^"]|"")*"|`(?:[^`]|``)*`|\[[^\]]*\])'
    r"|(?P<word>[\w$]+(?:\.\d+)?)|.",
    re.DOTALL,
)
_OF_TABLE = {"CONSTRAINT", "PRIMARY", "UNIQUE", "CHECK", "FOREIGN"}
_BEGINS = _OF_TABLE | {"NOT", "NULL", "DEFAULT", "COLLATE", "REFERENCES", "GENERATED", "AS"}
_CONTINUES = {("FOREIGN", "REFERENCES"), ("AS", "AS")}  # FOREIGN KEY (a) REFERENCES b, GENERATED ALWAYS AS (a)
_CONSTRAINTS = {"PRIMARY", "UNIQUE", "CHECK", "FOREIGN", "REFERENCES"}
_MERGED = ("TYPE", "NOT", "DEFAULT", "COLLATE", "AS")
Key: TypeAlias = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Token:
    """A token of a statement, such as a word, a string, or a parenthesis.

    :ivar keyword: the token in upper case if it is a bare word; otherwise, an empty string.
    :ivar name: the token without quotes, in lower case, if it can be a name; otherwise, an empty string.
    """

    text: str
    start: int
    end: int
    keyword: str
    name: str


def tokens(sql: str) -> list[Token]:
    """Return the tokens of a statement, without spaces and comments."""
    return [_token(found) for found in _TOKEN.finditer(sql) if found.lastgroup != "space"]


def _token(found: re.Match[str]) -> Token:
    text, kind = found[0], found.lastgroup
    name = text.lower() if kind == "word" else unquoted(text).lower() if kind in ("quoted", "text") else ""
    return Token(text, found.start(), found.end(), text.upper() if kind == "word" else "", name)


def unquoted(name: str) -> str:
    """Return a name without the quotes that SQLite accepts around it."""
    if name[:1] in ('"', "`", "'") and name[-1:] == name[:1]:
        return name[1:-1].replace(name[0] * 2, name[0])
    return name[1:-1] if name[:1] == "[" else name


def quoted(name: str) -> str:
    """Return a name in double quotes."""
    return '"' + name.replace('"', '""') + '"'


@dataclass(frozen=True, slots=True)
class Clause:
    """A part of the definition of a column, such as its type or NOT NULL, or a constraint of the table.

    :ivar kind: ``TYPE``, or the first keyword of the clause, not counting ``CONSTRAINT`` and a name.
    :ivar name: the name of a constraint in lower case, or an empty string.
    :ivar column: the column whose definition contains the clause, in lower case, or an empty string.
    """

    kind: str
    name: str
    column: str
    tokens: Sequence[Token]

    @property
    def start(self) -> int:
        """The position in the statement where the clause begins."""
        return self.tokens[0].start

    @property
    def end(self) -> int:
        """The position in the statement where the clause ends."""
        return self.tokens[-1].end

    @property
    def code(self) -> Key:
        """The tokens as text, to compare clauses that were both written by SQLAlchemy."""
        return tuple(token.text for token in self.tokens)

    @property
    def names(self) -> set[str]:
        """The names that a CHECK constraint mentions."""
        return {token.name for token in next(_groups(self.tokens), []) if token.text[0] != "'"} - {""}

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns of a key or of a UNIQUE constraint."""
        if self.column:
            return (self.column,)
        group = next(_groups(self.tokens), [])
        firsts = [True, *(token.text == "," for token in group[:-1])]
        return tuple(token.name for token, is_first in zip(group, firsts, strict=False) if is_first)

    @property
    def key(self) -> Key:
        """A value that is equal for constraints that do the same, however they are written."""
        if self.kind == "CHECK":
            group = next(_groups(self.tokens), [])
            return ("CHECK", *(token.text if token.text[0] == "'" else token.name or token.text for token in group))
        if self.kind == "PRIMARY":
            return ("PRIMARY",)
        keywords = [token.keyword for token in self.tokens]
        target = self.tokens[keywords.index("REFERENCES") + 1].name if "REFERENCES" in keywords else ""
        return ("KEY" if target else "UNIQUE", *self.columns, target)


def _groups(found: Sequence[Token]) -> Iterator[list[Token]]:
    """Yield the tokens inside each outermost pair of parentheses."""
    group: list[Token] = []
    depth = 0
    for token in found:
        depth -= token.text == ")"
        if depth:
            group.append(token)
        elif token.text == ")":
            yield group
            group = []
        depth += token.text == "("


@dataclass(frozen=True, slots=True)
class Definition:
    """The text between two commas of a CREATE TABLE statement: a column, or constraints of the table.

    :ivar column: the name of the column in lower case, or an empty string.
    :ivar named: the position where the name of the column ends.
    """

    start: int
    end: int
    column: str
    named: int
    clauses: list[Clause]

    @property
    def last(self) -> int:
        """The position where the last clause ends."""
        return self.clauses[-1].end if self.clauses else self.named

    def clause(self, kind: str) -> Clause | None:
        """Return the clause of a given kind, or None if there is none."""
        return next((clause for clause in self.clauses if clause.kind == kind), None)


@dataclass
class TableText:
    """A CREATE TABLE statement as SQLite or SQLAlchemy writes it.

    :raises UnreadableTableError: if the text is not such a statement.
    """

    sql: str
    definitions: list[Definition] = field(init=False)

    def __post_init__(self) -> None:
        found = tokens(self.sql)
        try:
            opening = next(place for place, token in enumerate(found) if token.text == "(")
            self.head: str = self.sql[: found[opening].start]
            self.definitions = []
            place = opening
            while found[place].text != ")":
                after = _end_of_definition(found, place + 1)
                inside = found[place + 1 : after]
                self.definitions.append(_definition(inside, found[place].end, found[after].start))
                place = after
        except (StopIteration, IndexError) as exc:
            raise UnreadableTableError(f"Ampho cannot read this statement: {self.sql}") from exc
        self.tail: int = found[place].start

    @property
    def options(self) -> list[str]:
        """The options after the columns, such as STRICT."""
        words = " ".join(token.text.upper() for token in tokens(self.sql[self.tail + 1 :]))
        return [option.strip() for option in words.split(",") if option.strip()]

    @cached_property
    def columns(self) -> dict[str, Definition]:
        """The definitions of the columns, by their names in lower case."""
        return {each.column: each for each in self.definitions if each.column}

    @cached_property
    def constraints(self) -> list[Clause]:
        """The constraints of the table and of its columns, apart from NOT NULL."""
        return [each for found in self.definitions for each in found.clauses if each.kind in _CONSTRAINTS]


class UnreadableTableError(AmphoError):
    """The text of a CREATE TABLE statement is not in the form that SQLite writes."""


def _end_of_definition(found: Sequence[Token], place: int) -> int:
    depth = 0
    while depth or found[place].text not in (",", ")"):
        depth += {"(": 1, ")": -1}.get(found[place].text, 0)
        place += 1
    return place


def _definition(found: Sequence[Token], start: int, end: int) -> Definition:
    if found[0].keyword in _OF_TABLE:
        return Definition(start, end, "", start, list(_clauses(found, "")))
    column = found[0].name
    return Definition(start, end, column, found[0].end, list(_clauses(found[1:], column)))


def _clauses(found: Sequence[Token], column: str) -> Iterator[Clause]:
    """Yield the clauses of a definition; everything before the first keyword is the type of the column."""
    clause: list[Token] = []
    kind, name = "TYPE", ""
    depth = skip = 0
    for place, token in enumerate(found):
        before = found[place - 1].keyword if place else ""
        after = found[place + 1].keyword if place + 1 < len(found) else ""
        if skip:
            skip -= 1
        elif not depth and kind == "CONSTRAINT":
            kind = token.keyword
        elif not depth and _is_beginning(token.keyword, before, after, kind):
            if clause:
                yield Clause(kind, name, column, clause)
            clause, kind, name = [], "AS" if token.keyword == "GENERATED" else token.keyword, ""
            if kind == "CONSTRAINT":
                skip, name = 1, found[place + 1].name
        depth += {"(": 1, ")": -1}.get(token.text, 0)
        clause.append(token)
    if clause:
        yield Clause(kind, name, column, clause)


def _is_beginning(keyword: str, before: str, after: str, kind: str) -> bool:
    if keyword not in _BEGINS or (kind, keyword) in _CONTINUES:
        return False
    if keyword in ("NOT", "GENERATED"):
        return after == {"NOT": "NULL", "GENERATED": "ALWAYS"}[keyword]
    return before not in {"NULL": ("NOT", "SET", "DEFAULT"), "DEFAULT": ("SET",)}.get(keyword, ())


@dataclass
class Change:
    """A change to a table.

    :ivar text: the statement in ``sqlite_master``.
    :ivar before: the statement that SQLAlchemy writes for the table as it was reflected.
    :ivar after: the statement that SQLAlchemy writes for the new table.
    :ivar renamed: the columns that are renamed afterwards, in lower case.
    :ivar restates_checks: whether the revision itself lists the unnamed CHECK constraints that the new table keeps.
    """

    text: TableText
    before: TableText
    after: TableText
    renamed: frozenset[str] = frozenset()
    restates_checks: bool = False
    _removed: list[Clause] = field(default_factory=list, init=False)
    _added: list[Clause] = field(default_factory=list, init=False)
    _edits: list[tuple[int, int, str]] = field(default_factory=list, init=False)

    @cached_property
    def dropped(self) -> set[str]:
        """The columns that the new table does not have, in lower case."""
        return self.text.columns.keys() - self.after.columns.keys()

    @cached_property
    def sql(self) -> str:
        """The statement that creates the new table.

        :raises LossError: if the change would lose something that it does not mention.
        """
        unknown = self.text.columns.keys() - self.before.columns.keys()
        if unknown:
            raise LossError(
                f"copy_from= lacks the columns {', '.join(sorted(unknown))}. Add them, or drop them explicitly"
            )
        if self.restates_checks:
            self._remove_old_checks()
        self._compare_constraints()
        self._remove_with_columns()
        self._give_names()
        for name in self.text.columns.keys() & self.after.columns.keys():
            self._merge_column(self.text.columns[name], self.before.columns[name], self.after.columns[name])
        return f"{self.after.head}({','.join(self._parts())}{self._tail}"

    def _compare_constraints(self) -> None:
        """Find the constraints that the change removes and adds."""
        old = {(clause.column, clause.code): clause for clause in self.before.constraints}
        new = {(clause.column, clause.code): clause for clause in self.after.constraints}
        for clause in (old[place] for place in old if place not in new):
            if not self._stays(clause):
                self._removed += self._matches(clause)
        for clause in (new[place] for place in new if place not in old):
            if (not clause.column or clause.column in self.text.columns) and not self._exists(clause):
                self._added.append(clause)

    def _remove_old_checks(self) -> None:
        """Remove the unnamed CHECK constraints that the change does not list."""
        listed = [clause.key for clause in self.after.constraints if clause.kind == "CHECK"]
        unnamed = [clause for clause in self.text.constraints if clause.kind == "CHECK" and not clause.name]
        self._removed += [clause for clause in unnamed if clause.key not in listed]

    def _stays(self, clause: Clause) -> bool:
        """Return whether to keep a constraint that only ``before`` has, because the change does not drop it."""
        if clause.kind == "PRIMARY":
            return any(_is_same_key(clause, other) for other in self.after.constraints)
        if clause.kind != "CHECK":
            return False
        # Alembic drops the CHECK of an Enum or a Boolean when it renames the column.
        keys = [other.key for other in self._matches(clause)]
        is_of_type = any(key[1] in self.renamed and key[2:3] == ("in",) for key in keys)
        return is_of_type and all(clause.name != other.name for other in self.after.constraints)

    def _exists(self, clause: Clause) -> bool:
        """Return whether the text already has a constraint that SQLAlchemy wrote only for the new table."""
        if clause.kind == "PRIMARY":
            return any(_is_same_key(other, clause) for other in self._left)
        return clause.kind == "CHECK" and any(
            other.key == clause.key and other.name in ("", clause.name) for other in self._left
        )

    @property
    def _left(self) -> list[Clause]:
        return [clause for clause in self.text.constraints if clause not in self._removed]

    def _matches(self, clause: Clause) -> list[Clause]:
        """Return the constraints in the text that SQLAlchemy wrote as the given clause."""
        named = [other for other in self.text.constraints if clause.name and other.name == clause.name]
        return named or [other for other in self.text.constraints if other.key == clause.key]

    def _remove_with_columns(self) -> None:
        """Remove the constraints of columns that the change drops."""
        kept = self.text.columns.keys() & self.after.columns.keys()
        for clause in self._left:
            if clause.column in self.dropped:
                self._removed.append(clause)
            elif clause.kind == "CHECK" and clause.names & self.dropped:
                if clause.names & kept:
                    text = self.text.sql[clause.start : clause.end]
                    raise LossError(f"{text} would be lost with a column that it mentions. Drop the constraint, too")
                self._removed.append(clause)
            elif clause.kind != "CHECK" and {*clause.columns} & self.dropped:
                self._removed.append(clause)
                if clause.kind == "PRIMARY":
                    self._added += [other for other in self.after.constraints if other.kind == "PRIMARY"]

    def _give_names(self) -> None:
        """Name the constraints that have a name only in the new table, for example from a naming convention."""
        for clause in self.after.constraints:
            if (
                not _is_a_name(clause.name)
                or clause in self._added
                or any(other.name == clause.name for other in self._left)
            ):
                continue
            name = clause.tokens[1].text
            for other in (other for other in self._left if other.key == clause.key):
                if not other.name:
                    self._edits.append((other.start, other.start, f"CONSTRAINT {name} "))
                    break
                if other.kind == "PRIMARY":
                    self._edits.append((other.tokens[1].start, other.tokens[1].end, name))

    def _merge_column(self, text: Definition, before: Definition, after: Definition) -> None:
        """Make the changes to a column's type, default, and so on."""
        for kind in _MERGED:
            old, new, own = before.clause(kind), after.clause(kind), text.clause(kind)
            if (old and old.code) == (new and new.code):
                continue
            replacement = self.after.sql[new.start : new.end] if new else ""
            if own:
                self._edits.append((own.start, own.end, replacement))
            elif replacement:
                place = text.named if kind == "TYPE" else text.last
                self._edits.append((place, place, f" {replacement}"))
            if kind == "TYPE" and replacement.upper() != "INTEGER" and _is_autoincrement(text.clause("PRIMARY")):
                raise LossError(
                    f"AUTOINCREMENT of the column {text.column} would be lost, because SQLite allows it only with the"
                    " type INTEGER. Use sa.BigInteger().with_variant(sa.Integer, 'sqlite') or a similar type"
                )

    def _parts(self) -> Iterator[str]:
        """Yield the definitions of the new table."""
        for clause in self._removed:
            self._edits.append((clause.start, clause.end, ""))
        for clause in self._added:
            if clause.column:
                place = self.text.columns[clause.column].last
                self._edits.append((place, place, f" {self.after.sql[clause.start : clause.end]}"))
        for name, definition in self.after.columns.items():
            own = self.text.columns.get(name)
            yield self._edited(own) if own else _part(self.after.sql, definition.start, definition.end)
        for definition in self.text.definitions:
            if not definition.column and any(clause not in self._removed for clause in definition.clauses):
                yield self._edited(definition)
        for clause in self._added:
            if not clause.column:
                yield f"\n\t{self.after.sql[clause.start : clause.end]}"

    def _edited(self, definition: Definition) -> str:
        text = self.text.sql
        parts, done = [], definition.start
        for start, end, replacement in sorted(self._edits, key=lambda edit: edit[:2]):
            if definition.start <= start <= end <= definition.end:
                parts += [text[done:start], replacement]
                done = end
        return _part("".join([*parts, text[done : definition.end]]))

    @property
    def _tail(self) -> str:
        old, new, own = self.before.options, self.after.options, self.text.options
        options = [option for option in own if option in new or option not in old]
        options += [option for option in new if option not in old and option not in own]
        tail = self.text.sql[self.text.tail :]
        return f"\n{tail}" if options == own else f"\n) {', '.join(options)}"


class LossError(AmphoError):
    """A change to a table would lose something that the revision does not mention."""


def correct_computed(sql: str, table: Table, copy: Table | None = None) -> None:
    """Correct the expressions of reflected generated columns, because SQLAlchemy reads on to the end of the line.

    :param sql: the CREATE TABLE statement of the table.
    :param copy: a changed copy of the table, in which the same expressions are corrected.
    """
    columns = TableText(sql).columns if any(column.computed is not None for column in table.columns) else {}
    for column in table.columns:
        clause = columns[column.name.lower()].clause("AS") if column.name.lower() in columns else None
        if column.computed is None or clause is None:
            continue
        inside = next(_groups(clause.tokens))
        right, wrong = Computed(sql[inside[0].start : inside[-1].end]).sqltext, str(column.computed.sqltext)
        other = copy.columns.get(column.key) if copy is not None else None
        for computed in (column.computed, other.computed if other is not None else None):
            if computed is not None and str(computed.sqltext) == wrong:
                computed.sqltext = right


def _part(text: str, start: int = 0, end: int | None = None) -> str:
    """Return a definition without the spaces at its end, unless they may be needed to end a comment."""
    part = text[start:end]
    return part if "--" in part else part.rstrip()


def _is_a_name(name: str) -> bool:
    """Return whether a reflected name is the name of a constraint; SQLAlchemy 2.0 may report other parts of the SQL."""
    return bool(name) and not {*"(),"} & {*name}


def _is_autoincrement(clause: Clause | None) -> bool:
    return clause is not None and clause.tokens[-1].keyword == "AUTOINCREMENT"


def _is_same_key(old: Clause, new: Clause) -> bool:
    """Return whether two primary keys have the same columns, and the new key does not add AUTOINCREMENT."""
    asks = _is_autoincrement(new) and not _is_autoincrement(old)
    return old.kind == new.kind == "PRIMARY" and old.columns == new.columns and not asks
