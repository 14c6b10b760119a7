"""Find the statements, literals, and comments in SQL, and the effects of a statement.

All regular expressions for SQL are in this module. They are not a parser, and ignore SQL that they do not recognize.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

_COMMENT = r"--[^\n]*|/\*.*?(?:\*/|\Z)"
_TEXT = r"'(?:[^']|'')*(?:'|\Z)"
_TAGGED = r"\$(?P<tag>(?:[^\W\d]\w*)?)\$.*?(?:\$(?P=tag)\$|\Z)"  # PostgreSQL's $tag$...$tag$
_QUOTED = r'"(?:[^"]|"")*(?:"|\Z)'
_TICKED = r"`(?:[^`]|``)*(?:`|\Z)"

# These expressions find the literals to hide. An unterminated literal extends to the end of the text.
_LITERALS = re.compile(rf"(?P<comment>{_COMMENT})|(?P<literal>{_TEXT}|{_TAGGED})|{_QUOTED}", re.DOTALL)
# In MySQL and MariaDB, "..." is a literal unless ANSI_QUOTES is set, and "#" begins a comment.
_MYSQL_LITERALS = re.compile(rf"(?P<comment>{_COMMENT}|\#[^\n]*)|(?P<literal>{_TEXT}|{_QUOTED})|{_TICKED}", re.DOTALL)
_ESCAPED_QUOTE = re.compile(r"\\['\"]")
_QUOTE = re.compile(r"['\"]")
HIDDEN = "'...'"

# This expression splits SQL into statements. An unterminated literal does not match, so that no statement is missed.
_TOKENS = re.compile(
    r"""(?P<text>'(?:[^']|'')*'|\$(?P<tag>\w*)\$.*?\$(?P=tag)\$)|(?P<name>"(?:[^"]|"")*"|`[^`]*`|\[[^\]\n]*\])"""
    r"""|(?P<comment>--[^\n]*|/\*.*?\*/|^[ \t]*\#[ \t][^\n]*)|(?P<end>;)""",  # MySQL's comments begin with "#", too
    re.DOTALL | re.MULTILINE,
)

NAME = r"[^\s;(),]+"
_NAMES = rf"(?P<names>{NAME}(?:\s*,\s*{NAME})*)"
_DROPS = re.compile(rf"\s*DROP\s+(?P<kind>TABLE|SCHEMA|DATABASE)\s+(?:IF\s+EXISTS\s+)?{_NAMES}", re.IGNORECASE)
_EMPTIES = re.compile(
    rf"\s*(?:TRUNCATE(?:\s+TABLE)?(?:\s+ONLY)?|DELETE\s+FROM(?:\s+ONLY)?(?!.*\bWHERE\b(?!\s+(?:1\s*=\s*1|1|TRUE)\s*\Z)))"
    rf"\s+{_NAMES}",
    re.IGNORECASE | re.DOTALL,
)
_ALTERS = re.compile(r"\s*ALTER\s+TABLE\s", re.IGNORECASE)
_NO_COLUMN = "CONSTRAINT|PRIMARY|FOREIGN|INDEX|KEY|CHECK|NOT|DEFAULT|IDENTITY|EXPRESSION|SYSTEM|TABLE"
_DROPS_PART = re.compile(
    rf"\bDROP\s+(?:(?P<kind>COLUMN|PARTITION)\s+|(?!(?:{_NO_COLUMN}|COLUMN|PARTITION)\b))(?:IF\s+EXISTS\s+)?"
    rf"(?P<names>{NAME})",
    re.IGNORECASE,
)
CREATES_TABLE = re.compile(
    rf"\s*CREATE\s+(?:TEMP\w*\s+|UNLOGGED\s+)?TABLE\s+(?:IF\s+NOT\s+EXISTS\s+)?(?P<name>{NAME})", re.IGNORECASE
)
_RENAMES = re.compile(rf"\sRENAME\s+TO\s+(?P<name>{NAME})", re.IGNORECASE)

CHANGES_ROWS = "changes rows"
"""What a statement does that adds, fills, or moves values."""

_RENAMES_PART = re.compile(
    r"\s*(?:ALTER\s+(?:TABLE|VIEW|TYPE)\b.*?\b(?:RENAME(?!\s+(?:CONSTRAINT|INDEX|KEY)\b)|CHANGE\b)|RENAME\s+TABLE\b)",
    re.IGNORECASE | re.DOTALL,
)
_REQUIRES = re.compile(r"\s*ALTER\s+TABLE\b.*\bSET\s+NOT\s+NULL\b", re.IGNORECASE | re.DOTALL)
# MySQL and MariaDB repeat the whole definition of a column, so this may be about anything in it.
_MODIFIES = re.compile(r"\s*ALTER\s+TABLE\b.*\bMODIFY\b.*\bNOT\s+NULL\b", re.IGNORECASE | re.DOTALL)
_ADDS_REQUIRED = re.compile(
    r"\s*ALTER\s+TABLE\b.*\bADD\s+(?!CONSTRAINT\b|CHECK\b)(?!.*\b(?:DEFAULT|GENERATED|AS|AUTO_INCREMENT|\w*SERIAL)\b)"
    r".*\bNOT\s+NULL\b",
    re.IGNORECASE | re.DOTALL,
)
_DROPS_OTHER = re.compile(
    r"\s*DROP\s+(?P<kind>(?:MATERIALIZED\s+)?VIEW|FUNCTION|PROCEDURE|SEQUENCE|TYPE|DOMAIN)\b", re.IGNORECASE
)
_EXPANDS = re.compile(
    r"\s*(?:(?P<rows>INSERT|UPDATE|MERGE|REPLACE)\b|CREATE\s+(?!(?:UNIQUE\s+)?INDEX\b)|ALTER\s+\w+\b.*\bADD\b)",
    re.IGNORECASE | re.DOTALL,
)

CHANGES_SCHEMA = re.compile(
    r"\s*(?:CREATE|ALTER|DROP|RENAME)\s+(?:(?:OR\s+REPLACE|UNIQUE|UNLOGGED|MATERIALIZED|CONSTRAINT)\s+)*"
    r"(?:TABLE|INDEX|VIEW|TYPE|DOMAIN|SEQUENCE|SCHEMA|FUNCTION|PROCEDURE|TRIGGER)\b",
    re.IGNORECASE,
)
"""Matches a statement that creates, changes, or drops something that is not temporary."""

ENDS_TRANSACTION = re.compile(r"\s*(COMMIT|END|ROLLBACK|ABORT)\s*(WORK|TRANSACTION)?\s*;?\s*\Z", re.IGNORECASE)
"""Matches a statement that ends a transaction; the first group is the verb."""

ROLLS_BACK = re.compile(r"\s*(INSERT|UPDATE|DELETE|REPLACE)\b", re.IGNORECASE)
"""Matches the statements that every database can roll back."""

READS = re.compile(r"\s*(SELECT|SHOW|DESCRIBE|DESC|EXPLAIN|SET)\b", re.IGNORECASE)
"""Matches statements that change no data."""

CHANGES_NOTHING = re.compile(
    r"\s*(SELECT|SHOW|DESCRIBE|DESC|EXPLAIN|SET|PRAGMA|BEGIN|SAVEPOINT|RELEASE|ROLLBACK|ABORT|COMMIT|END)\b",
    re.IGNORECASE,
)
"""Matches statements that change no data, including those that control transactions."""

CHANGES_OBJECTS = re.compile(
    r"(?:\s+|--[^\n]*|/\*.*?\*/)*(?:(?P<alters>ALTER)\s+TABLE|(?P<drops>DROP)\s+(?P<dropped>TABLE|TRIGGER|INDEX)"
    r"|CREATE\s+(?:UNIQUE\s+)?(?P<created>TRIGGER|INDEX)|(?P<copies>INSERT|REPLACE|CREATE\s+TABLE.*\bAS\s+SELECT))\b",
    re.IGNORECASE | re.DOTALL,
)
"""Matches the statements that replace a table of SQLite by hand, or drop or create what belongs to it."""


class Statement(NamedTuple):
    """A statement in SQL.

    :ivar bare: the statement without comments and the contents of literals.
    :ivar text: the statement as it was written.
    :ivar end: the place in the SQL where it ends.
    """

    bare: str
    text: str
    end: int


def without_literals(sql: str, *, mysql: bool) -> str:
    """Return SQL without comments, and with ``'...'`` in place of each literal.

    :param mysql: whether the SQL is for MySQL or MariaDB.
    """
    if _ESCAPED_QUOTE.search(sql):  # the server's settings decide where such a literal ends
        return _QUOTE.split(sql, maxsplit=1)[0] + HIDDEN
    return (_MYSQL_LITERALS if mysql else _LITERALS).sub(_hide, sql)


def _hide(token: re.Match[str]) -> str:
    if token["comment"]:
        return " "
    return HIDDEN if token["literal"] else token[0]


def lost_in_sql(sql: str) -> Iterator[tuple[str, tuple[str, str]]]:
    """Yield the name of each object that SQL drops or empties, with a description and the statement.

    Tables that the same SQL created earlier, or later replaces by renaming another table, are left out.
    """
    found = list(statements(sql))
    renames = ((place, _RENAMES.search(each.bare)) for place, each in enumerate(found))
    replaced = {unquoted(rename["name"]): place for place, rename in renames if rename}
    created: set[str] = set()
    for place, (bare, statement, _) in enumerate(found):
        creation = CREATES_TABLE.match(bare)
        if creation:
            created.add(unquoted(creation["name"]))
        for name, what in _lost_in_statement(bare):
            if name not in created and replaced.get(name, -1) < place:
                yield name, (what, statement)


def effects_of_sql(sql: str) -> Iterator[tuple[str, bool, bool]]:
    """Yield what SQL does besides removing data.

    Each item says what a statement does, whether that may break code that was written before, and whether code that
    was written for it needs it.
    """
    created: set[str] = set()
    for bare, *_ in statements(sql):
        if creation := CREATES_TABLE.match(bare):
            created.add(unquoted(creation["name"]))
        if _RENAMES_PART.match(bare) and not any(re.search(rf"\b{re.escape(name)}\b", bare) for name in created):
            yield "renames something in SQL", True, True
        elif _REQUIRES.match(bare):
            yield "makes a column NOT NULL in SQL", True, False
        elif _MODIFIES.match(bare):
            yield "changes a column in SQL", True, True
        elif _ADDS_REQUIRED.match(bare):
            yield "adds a column in SQL that must not be NULL and has no default", True, True
        elif drop := _DROPS_OTHER.match(bare):
            yield f"drops a {drop['kind'].lower()}", True, False
        elif expands := _EXPANDS.match(bare):
            yield CHANGES_ROWS if expands["rows"] else "adds something in SQL", False, True


def _lost_in_statement(bare: str) -> Iterator[tuple[str, str]]:
    if drop := _DROPS.match(bare):
        for name in map(unquoted, drop["names"].split(",")):
            yield name, f"drops the {drop['kind'].lower()} {name}"
    elif empty := _EMPTIES.match(bare):
        for name in map(unquoted, empty["names"].split(",")):
            yield name, f"empties the table {name}"
    elif _ALTERS.match(bare):
        for part in _DROPS_PART.finditer(bare):
            name = unquoted(part["names"])
            yield name, f"drops the {(part['kind'] or 'column').lower()} {name}"


def statements(sql: str) -> Iterator[Statement]:
    """Yield the statements in SQL; the last one may be empty."""
    bare: list[str] = []
    begin = done = 0
    for token in _TOKENS.finditer(sql):
        bare.append(sql[done : token.start()])
        done = token.end()
        if token["end"]:
            yield Statement("".join(bare), sql[begin : token.start()].strip(), token.start())
            bare, begin = [], done
        elif token["name"]:
            bare.append(token["name"])
        else:
            bare.append("''" if token["text"] else " ")
    bare.append(sql[done:])
    yield Statement("".join(bare), sql[begin:].strip(), len(sql))


def string_literal(text: str) -> str:
    """Return a text as a literal in SQL. On MySQL and MariaDB, its backslashes have to be doubled before."""
    doubled = text.replace("'", "''")
    return f"'{doubled}'"


def unquoted(name: str) -> str:
    """Return a name without its schema and its quotes."""
    return name.strip().rpartition(".")[2].strip('"`[]')
