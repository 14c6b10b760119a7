"""Find the statements, literals, and comments in SQL, and the effects of a statement.

The regular expressions are not a parser, and ignore SQL that they do not recognize.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from keyword import iskeyword
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
    r"""(?P<text>\b[eE]'(?:[^'\\]|\\.|'')*'|'(?:[^']|'')*'|\$(?P<tag>\w*)\$.*?\$(?P=tag)\$)|(?P<name>"(?:[^"]|"")*"|`[^`]*`|\[[^\]\n]*\])"""
    r"""|(?P<comment>--[^\n]*|/\*.*?\*/|^[ \t]*\#[ \t][^\n]*)|(?P<end>;)""",  # MySQL's comments begin with "#", too
    re.DOTALL | re.MULTILINE,
)

NAME = r"""(?:"[^"]*"|`[^`]*`|\[[^\]]*\]|[^\s;(),"`\[])+"""
_NAMES = rf"(?P<names>{NAME}(?:\s*,\s*{NAME})*)"
_DROPS = re.compile(rf"\s*DROP\s+(?P<kind>TABLE|SCHEMA|DATABASE)\s+(?:IF\s+EXISTS\s+)?{_NAMES}", re.IGNORECASE)
_EMPTIES = re.compile(
    rf"\s*(?:TRUNCATE(?:\s+TABLE)?(?:\s+ONLY)?|(?:WITH\b.*\)\s*)?DELETE\s+FROM(?:\s+ONLY)?(?!.*\bWHERE\b(?!\s+(?:1\s*=\s*1|1|TRUE)\s*\Z)))"
    rf"\s+{_NAMES}",
    re.IGNORECASE | re.DOTALL,
)
_ALTER_TABLE = r"\s*ALTER\s+(?:(?:ONLINE|IGNORE|FOREIGN)\s+)*TABLE\s"
_ALTERS = re.compile(_ALTER_TABLE, re.IGNORECASE)
_NO_COLUMN = "CONSTRAINT|PRIMARY|FOREIGN|INDEX|KEY|CHECK|NOT|DEFAULT|IDENTITY|EXPRESSION|SYSTEM|TABLE"
_DROPS_COLUMN = re.compile(
    rf"\bDROP\s+(?:COLUMN\s+|(?!(?:{_NO_COLUMN}|COLUMN|PARTITION)\b))(?:IF\s+EXISTS\s+)?(?P<name>{NAME})", re.IGNORECASE
)
_EMPTIES_PARTITION = re.compile(rf"\b(?P<verb>DROP|TRUNCATE)\s+PARTITION\s+(?:IF\s+EXISTS\s+)?{_NAMES}", re.IGNORECASE)
_CREATES = re.compile(
    rf"\s*CREATE\s+(?:TEMP\w*\s+|UNLOGGED\s+)?(?:TABLE|MATERIALIZED\s+VIEW)\s+(?:IF\s+NOT\s+EXISTS\s+)?(?P<name>{NAME})",
    re.IGNORECASE,
)
_RENAMES_TABLE = re.compile(
    rf"{_ALTER_TABLE}\s*(?:IF\s+EXISTS\s+)?(?:ONLY\s+)?(?P<old>{NAME})\s(?:.*,)?\s*"
    rf"(?:RENAME\s+(?:TO\s+|AS\s+|(?!(?:COLUMN|CONSTRAINT|INDEX|KEY)\b))(?P<new>{NAME})|SET\s+SCHEMA\s+(?P<schema>{NAME}))\s*(?:,|\Z)",
    re.IGNORECASE | re.DOTALL,
)
_RENAMES_TABLES = re.compile(r"\s*RENAME\s+TABLES?\s", re.IGNORECASE)
_RENAMED = re.compile(rf"(?P<old>{NAME})\s+(?:(?:WAIT\s+\d+|NOWAIT)\s+)?TO\s+(?P<new>{NAME})", re.IGNORECASE)

# The parts of ALTER TABLE, and other statements, with the calls in Python that do the same.
_FLAT = r"\([^()]*\)"
_NESTED = rf"\((?:[^()]|{_FLAT})*\)"
_DEEP = rf"\((?:[^()]|{_NESTED})*\)"
_PARTS = re.compile(rf"(?:[^,()]|\((?:[^()]|{_DEEP})*\))+")
_IF = r"(?:IF\s+(?:NOT\s+)?EXISTS\s+)?"
_ALTERED = re.compile(rf"{_ALTER_TABLE}\s*{_IF}(?:ONLY\s+)?(?P<table>{NAME})", re.IGNORECASE)
_TYPE = r"(?P<type>[a-z_]\w*)(?:\s+(?:VARYING|PRECISION)\b)?(?:\s*\((?P<size>[\d\s,]*)\))?"
_COLUMN = rf"(?:COLUMN\s+)?{_IF}(?P<column>{NAME})"
_NEW = rf"(?P<new>{NAME})"
_ADD = rf"ADD\s+(?:CONSTRAINT\s+(?:(?!(?:FOREIGN|CHECK|UNIQUE)\b)(?P<name>{NAME})\s+)?)?"
_KINDS = (
    r"(?P<kind>(?:MATERIALIZED\s+)?VIEW|FUNCTION|PROCEDURE|ROUTINE|AGGREGATE|TRIGGER|EVENT|RULE|POLICY|SEQUENCE|TYPE|DOMAIN"
    r"|EXTENSION|SCHEMA|FOREIGN\s+TABLE|COLLATION|SERVER|ROLE)"
)


def _patterns(*patterns: tuple[str, str]) -> list[tuple[re.Pattern[str], str]]:
    return [(re.compile(rf"\s*{each}", re.IGNORECASE | re.DOTALL), call) for each, call in patterns]


_OF_TABLE = _patterns(
    (rf"{_ADD}FOREIGN\s+KEY\b", "create_foreign_key({name!r}, {table!r}, {text!r})"),
    (rf"{_ADD}(?:CHECK|EXCLUDE)\b", "create_check_constraint({name!r}, {table!r}, {text!r})"),
    (rf"{_ADD}UNIQUE\b", "create_unique_constraint({name!r}, {table!r})"),
    (r"ADD\s+(?:CONSTRAINT|PRIMARY|INDEX|KEY|FULLTEXT|SPATIAL)\b", ""),
    (rf"ADD\s+{_COLUMN}\s", "add_column({table!r}, Column({column!r}, {options}))"),
    (r"ADD\b", "create_object()"),
    (rf"DROP\s+FOREIGN\s+KEY\s+{_IF}(?P<name>{NAME})", "drop_constraint({name!r}, {table!r}, 'foreignkey')"),
    (rf"DROP\s+(?:CONSTRAINT|CHECK)\s+{_IF}(?P<name>{NAME})", "drop_constraint({name!r}, {table!r})"),
    (rf"DROP\s+(?!(?:{_NO_COLUMN}|PARTITION)\b){_COLUMN}", "drop_column({table!r}, {column!r})"),
    (rf"ALTER\s+{_COLUMN}\s+SET\s+NOT\s+NULL\b", "alter_column({table!r}, {column!r}, nullable=False)"),
    (rf"ALTER\s+{_COLUMN}\s+DROP\s+NOT\s+NULL\b", "alter_column({table!r}, {column!r}, nullable=True)"),
    (rf"ALTER\s+{_COLUMN}\s+DROP\s+(?:DEFAULT|IDENTITY)\b", "alter_column({table!r}, {column!r}, server_default=None)"),
    (rf"ALTER\s+{_COLUMN}\s+SET\s+DEFAULT\b", "alter_column({table!r}, {column!r}, server_default='')"),
    (rf"ALTER\s+{_COLUMN}\s+(?:SET\s+DATA\s+)?TYPE\s+{_TYPE}", "alter_column({table!r}, {column!r}, type_={type})"),
    (rf"MODIFY\s+{_COLUMN}\s+{_TYPE}", "alter_column({table!r}, {column!r}, type_={type}, {options})"),
    (
        rf"CHANGE\s+{_COLUMN}\s+{_NEW}\s+{_TYPE}",
        "alter_column({table!r}, {column!r}, new_column_name={new!r}, type_={type}, {options})",
    ),
    (rf"DETACH\s+PARTITION\s+(?P<name>{NAME})", "drop_object('partition', {name!r})"),
    (r"(?:ENABLE|FORCE)\s+ROW\s+LEVEL\s+SECURITY\b", "restrict_access({table!r})"),
    (r"RENAME\s+(?:CONSTRAINT|INDEX|KEY)\b", ""),
    (rf"SET\s+SCHEMA\s+{_NEW}", "rename_table({table!r}, {new!r})"),
    (rf"RENAME\s+(?:(?:TO|AS)\s+)?{_NEW}\s*\Z", "rename_table({table!r}, {new!r})"),
    (rf"RENAME\s+{_COLUMN}\s+TO\s+{_NEW}", "alter_column({table!r}, {column!r}, new_column_name={new!r})"),
)
_OF_DATABASE = _patterns(
    (
        rf"CREATE\s+(?:(?:GLOBAL|LOCAL|UNLOGGED|VIRTUAL)\s+)?(?P<temporary>TEMP\w*\s+)?TABLE\s+{_IF}(?P<table>{NAME})",
        "create_table({table!r}, temporary={temporary!r})",
    ),
    (rf"DROP\s+TABLE\s+{_IF}{_NAMES}", "drop_table({name!r})"),
    (
        rf"CREATE\s+UNIQUE\s+INDEX\s+(?:CONCURRENTLY\s+)?{_IF}(?P<name>{NAME})\s+ON\s+(?P<table>{NAME})",
        "create_index({name!r}, {table!r}, unique=True)",
    ),
    (r"CREATE\s+(?:\w+\s+)?INDEX\b", ""),
    (
        rf"CREATE\s+(?P<replace>OR\s+REPLACE\s+)?(?:[^\s(]+\s+){{0,3}}?{_KINDS}\s+{_IF}(?P<name>{NAME})",
        "create_object({kind!r}, {name!r}, {replace!r})",
    ),
    (
        rf"ALTER\s+DOMAIN\s+(?P<table>{NAME})\s+(?:{_ADD}CHECK|SET\s+NOT\s+NULL)\b",
        "create_check_constraint({name!r}, {table!r}, {text!r})",
    ),
    (r"(?:CREATE|ALTER\s+\w+\b.*\bADD)\b", "create_object()"),
    (rf"DROP\s+{_KINDS}\s+{_IF}{_NAMES}", "drop_object({kind!r}, {name!r})"),
    (
        rf"ALTER\s+{_KINDS}\s+(?P<name>{NAME})\s+(?:RENAME|SET\s+SCHEMA)\b(?:\s+TO\s+{_NEW})?",
        "rename_object({kind!r}, {name!r}, {new!r})",
    ),
    (rf"REVOKE\s.*\sON\s+(?:TABLE\s+)?(?P<table>{NAME})\s.*\bFROM\b", "restrict_access({table!r})"),
    (rf"RENAME\s+TABLE\s+(?P<table>{NAME})\s+TO\s+{_NEW}", "rename_table({table!r}, {new!r})"),
    (r"(?:WITH\b.*\)\s*)?(?:INSERT|UPDATE|MERGE|REPLACE)\b", "update()"),
)
_PARENTHESES = re.compile(_DEEP)
_HAS_VALUE = re.compile(r"\b(?:DEFAULT|GENERATED|AS|AUTO_INCREMENT|\w*SERIAL)\b", re.IGNORECASE)
_IS_REQUIRED = re.compile(r"\bNOT\s+NULL\b", re.IGNORECASE)
_TYPES = {
    "int": "integer",
    "int2": "smallint",
    "int4": "integer",
    "int8": "bigint",
    "float4": "real",
    "character": "varchar",
}

# An anonymous block of PostgreSQL, the words in it before a statement, and the SQL that it executes as text
_BEGINS_BLOCK = re.compile(r"\s*DO\b", re.IGNORECASE)
_BLOCK = re.compile(
    rf"\bDO\b.*?(?:\$(?P<tag>\w*)\$(?P<body>.*)\$(?P=tag)\$|(?P<text>{_TEXT}))", re.IGNORECASE | re.DOTALL
)
_BEFORE_STATEMENT = re.compile(
    rf"\b(?:BEGIN|THEN|ELSE|LOOP)\b(?=(?:\s|{_COMMENT})*(?:ALTER|BEGIN|CALL|CLUSTER|COMMENT|CREATE|DECLARE|DELETE|DROP"
    r"|EXECUTE|FOR|GRANT|IF|INSERT|LOCK|LOOP|MERGE|PERFORM|RAISE|REFRESH|REINDEX|REVOKE|SET|TRUNCATE|UPDATE|WHILE|WITH)\b)",
    re.IGNORECASE | re.DOTALL,
)
_EXECUTED = re.compile(rf"\bEXECUTE\s+(?:format\s*\(\s*)?(?P<text>{_TEXT})", re.IGNORECASE | re.DOTALL)

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
    :ivar in_block: whether it is in an anonymous block of PostgreSQL, which ends at that place.
    """

    bare: str
    text: str
    end: int
    in_block: bool = False


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


def lost_in_statements(found: Sequence[str], new_tables: Iterable[str] = ()) -> Iterator[tuple[int, str, str]]:
    """Yield the place of each statement that loses data, the table that it drops or empties, and a description.

    The table is empty if the statement loses something else. Tables that an earlier statement created are left out, and
    those that a new table replaces by getting their name.

    :param new_tables: tables that were created before.
    """
    new_tables = {*new_tables}
    taken, moved, replaced = dict[str, int](), dict[str, str](), set[str]()
    for place, bare in enumerate(found):
        new_tables.add(creates(bare))
        for old, new in renames(bare):
            if old in new_tables:
                new_tables.add(new)
                taken[new] = place
                replaced.add(moved.get(new, ""))
            moved[old] = new
    created: set[str] = set()
    for place, bare in enumerate(found):
        created.add(creates(bare))
        for table, what in lost_in_statement(bare):
            if not table or (table not in created | replaced and taken.get(table, -1) < place):
                yield place, table, what


def creates(bare: str) -> str:
    """Return the table or materialized view that a statement creates, as :func:`qualified` does; empty for others."""
    found = _CREATES.match(bare)
    return qualified(found["name"]) if found else ""


def renames(bare: str) -> Iterator[tuple[str, str]]:
    """Yield the old and the new name of each table that a statement renames, as :func:`qualified` returns them."""
    if _RENAMES_TABLES.match(bare):
        yield from ((qualified(found["old"]), qualified(found["new"])) for found in _RENAMED.finditer(bare))
    elif found := _RENAMES_TABLE.match(bare):
        schema, dot, name = (old := qualified(found["old"])).rpartition(".")
        new = found["new"] or f"{found['schema']}.{name}"
        yield old, qualified(new if "." in new else f"{schema}{dot}{new}")


def operations_in_sql(bare: str) -> Iterator[str]:
    """Yield the operations of Alembic that do what a statement does, as calls in Python.

    ``create_object()``, ``drop_object()``, ``rename_object()``, and ``restrict_access()`` stand for what Alembic has no
    operation for, and ``update()`` for all statements that change rows.
    """
    altered = _ALTERED.match(bare)
    table = altered["table"] if altered else ""
    for text in _PARTS.findall(bare[altered.end() :]) if altered else [bare]:
        matches = ((pattern.match(text), call) for pattern, call in (_OF_TABLE if altered else _OF_DATABASE))
        part, call = next(((part, call) for part, call in matches if part), (None, ""))
        if part:
            found = {"table": table, **{key: value or "" for key, value in part.groupdict().items()}}
            for name in found.pop("names", found.get("name", "")).split(","):
                yield call.format(**_described(found | {"name": name}, text))


def _described(found: dict[str, str], text: str) -> dict[str, str]:
    """Return what a pattern has found in a statement, as the call in Python needs it."""
    type_ = found.get("type", "").lower()
    size = ", ".join(str(int(number)) for number in re.findall(r"\d+", found.get("size", "")))
    options = _PARENTHESES.sub("", text)  # a check in them may say NOT NULL, too
    value = ", server_default=''" if _HAS_VALUE.search(options) else ""
    return {
        **dict.fromkeys(("column", "kind", "new", "replace", "temporary"), ""),
        **{key: unquoted(value) for key, value in found.items()},
        "kind": " ".join(found.get("kind", "").lower().split()),
        "type": f"{_TYPES.get(type_, f'{type_}_' if iskeyword(type_) else type_)}({size})",
        "options": f"nullable={not _IS_REQUIRED.search(options)}{value}",
        "text": text,
    }


def lost_in_statement(bare: str) -> Iterator[tuple[str, str]]:
    """Yield each table that a statement drops or empties, and a description, as :func:`lost_in_statements` does."""
    if drop := _DROPS.match(bare):
        for name in drop["names"].split(","):
            yield qualified(name), f"drops the {drop['kind'].lower()} {unquoted(name)}"
    elif empty := _EMPTIES.match(bare):
        for name in empty["names"].split(","):
            yield qualified(name), f"empties the table {unquoted(name)}"
    elif _ALTERS.match(bare):
        for column in _DROPS_COLUMN.finditer(bare):
            yield "", f"drops the column {unquoted(column['name'])}"
        for part in _EMPTIES_PARTITION.finditer(bare):
            verb = "drops" if part["verb"].upper() == "DROP" else "empties"
            yield from (("", f"{verb} the partition {unquoted(name)}") for name in part["names"].split(","))


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


def executed(sql: str) -> Iterator[Statement]:
    """Yield the statements in SQL, and in place of an anonymous block of PostgreSQL, ``DO $$...$$``, those in it."""
    for each in statements(sql):
        block = _BLOCK.search(each.text) if _BEGINS_BLOCK.match(each.bare) else None
        if block is None:
            yield each
            continue
        body = block["body"] or _literal_text(block["text"] or "")
        for part in (
            _BEFORE_STATEMENT.sub(";", body),
            *(_literal_text(text["text"]) for text in _EXECUTED.finditer(body)),
        ):
            for inner in statements(part):
                yield each._replace(bare=inner.bare, text=inner.text, in_block=True)


def _literal_text(literal: str) -> str:
    return literal[1:-1].replace("''", "'")


def string_literal(text: str) -> str:
    """Return a text as a literal in SQL. On MySQL and MariaDB, its backslashes have to be doubled before."""
    doubled = text.replace("'", "''")
    return f"'{doubled}'"


def unquoted(name: str) -> str:
    """Return a name without its schema and its quotes."""
    return name.strip().rpartition(".")[2].strip('"`[]')


def qualified(name: str) -> str:
    """Return a name with its schema, unless that is PostgreSQL's ``public``, and without quotes."""
    return ".".join(part.strip('"`[]') for part in name.strip().split(".")).removeprefix("public.")
