"""Ampho's own rules for single statements: what breaks the running release, fails on rows, or blocks a large table."""

from __future__ import annotations

import re
from collections.abc import Iterator

from ampho.history.losses import named
from ampho.history.sql import NAME, renames, unquoted
from ampho.revise.lint import mysql
from ampho.revise.lint.code import NULL_HELP
from ampho.revise.lint.report import (
    BLOCKS_WRITES,
    BREAKS_RELEASE,
    EXISTING_ROWS,
    NOT_NULL,
    REPLACE_HELP,
    WHOLE_TABLE,
    Found,
)
from ampho.revise.lint.statements import Server, Statement

_ALTERS = re.compile(r"\s*(?:ALTER|RENAME)\s+TABLE\s", re.IGNORECASE)
_RENAMES_COLUMN = re.compile(
    rf"\bRENAME\s+(?:COLUMN\s+)?(?P<old>(?!(?:INDEX|KEY|CONSTRAINT)\s){NAME})\s+TO\s+(?P<new>{NAME})"
    rf"|\bCHANGE\s+(?:COLUMN\s+)?(?:IF\s+EXISTS\s+)?(?P<before>{NAME})\s+(?P<after>{NAME})\s",
    re.IGNORECASE,
)
_UNIQUE = re.compile(r"\A\s*CREATE\s+UNIQUE\s+INDEX\b|\bADD\s.*\bUNIQUE\b|\bADD\b.*\bPRIMARY\s+KEY\b", re.I | re.S)
_FOREIGN = re.compile(r"\bADD\s.*\bFOREIGN\s+KEY\b", re.IGNORECASE | re.DOTALL)
_CHECK = re.compile(r"\bADD\s+CONSTRAINT\s.*\bCHECK\s*\(|\bADD\s+CHECK\s*\(", re.IGNORECASE | re.DOTALL)
_ADDS_COLUMN = re.compile(r"\bADD\s+(?:COLUMN\s+)(?P<column>.*)", re.IGNORECASE | re.DOTALL)
_ADDS = re.compile(r"\bADD\s+(?!CONSTRAINT\b|CHECK\b)", re.IGNORECASE)
_COLUMN = re.compile(
    rf"(?:COLUMN\s+)?(?:IF\s+NOT\s+EXISTS\s+)?\(?\s*(?P<name>{NAME})\s(?P<rest>(?:[^,()]|\([^()]*\))*)", re.IGNORECASE
)
_NOT_NULL = re.compile(r"\bNOT\s+NULL\b", re.IGNORECASE)
_HAS_VALUE = re.compile(r"\b(?:DEFAULT|GENERATED|AS|AUTO_INCREMENT|PRIMARY\s+KEY)\b", re.IGNORECASE)
_NEW_COLUMN = re.compile(rf"\bADD\s+COLUMN\s+(?P<name>{NAME})\s(?!.*\bNOT\s+NULL\b)(?P<rest>.*)", re.I | re.S)
_KEY = re.compile(r"\b(?:FOREIGN\s+KEY|UNIQUE)\b[^()]*\((?P<columns>[^()]*)\)", re.IGNORECASE)
_SQLITE_DEFAULT = re.compile(r"\bDEFAULT\s*(?:\(\s*(?![\s'\d.)+-])|CURRENT_)", re.IGNORECASE)
_ADDS_JSON = re.compile(rf"\A\s*ALTER\s+TABLE\s.*\bADD\s+(?:COLUMN\s+)?{NAME}\s+json\b", re.IGNORECASE | re.DOTALL)
_CLEANS = re.compile(r"\s*(?:DELETE|UPDATE)\b", re.IGNORECASE)

_UPDATE = re.compile(rf"\s*UPDATE\s+(?:ONLY\s+)?(?P<table>{NAME})\s.*?\bSET\b(?P<rest>.*)", re.IGNORECASE | re.DOTALL)
_WHERE = re.compile(r"\bWHERE\b(?P<condition>.*)", re.IGNORECASE | re.DOTALL)
_BOUND = re.compile(r"(?:=|<|>|\bIN\s*\(|\bBETWEEN|\bLIKE)\s*(?:''|\d|-\d|:\w|%)", re.IGNORECASE)
_LIMIT = re.compile(r"\bLIMIT\s+\d", re.IGNORECASE)

_POSTGRES: tuple[tuple[re.Pattern[str], str, str], ...] = tuple(
    (re.compile(pattern, re.IGNORECASE | re.DOTALL), message, help_)
    for pattern, message, help_ in (
        (
            r"\s*ALTER\s+TABLE\b.*\bSET\s+(?:UN)?LOGGED\b|\s*ALTER\s+TABLE\b.*\bSET\s+(?:TABLESPACE|ACCESS\s+METHOD)\b",
            "It rewrites the table, and blocks reads and writes until it is done.",
            "Copy the rows to a new table in batches, or stop the app.",
        ),
        (
            r"\s*(?:CLUSTER|VACUUM\s*\(?\s*FULL)\b",
            "It rewrites the table, and blocks reads and writes until it is done.",
            "Use pg_repack or pg_squeeze, or stop the app.",
        ),
        (
            r"\s*LOCK\s+(?:TABLE\s+)?\w",
            "It locks the table until the transaction ends.",
            "Leave out the lock, or keep the transaction short.",
        ),
        (
            r"\s*REFRESH\s+MATERIALIZED\s+VIEW\s+(?!CONCURRENTLY\b)",
            "It blocks reads of the view until it is refreshed.",
            "Create a unique index on the view, and use REFRESH MATERIALIZED VIEW CONCURRENTLY.",
        ),
        (
            r"\s*ALTER\s+TABLE\b.*\bADD\s+(?:COLUMN\s+)?(?!(?:CONSTRAINT|GENERATED)\b)\S+\s+(?:\w*SERIAL\b|.*\bAS\s+IDENTITY\b)",
            "It rewrites the table to number the rows, and blocks reads and writes until it is done.",
            "Add a column without a default, fill it in batches, and then add the sequence.",
        ),
        (
            r"\s*ALTER\s+TABLE\b.*\bADD\s+COLUMN\s.*\bCHECK\s*\(",
            "It checks all rows, and blocks reads and writes meanwhile.",
            "Add the column first, then the constraint with NOT VALID, and validate it in another transaction.",
        ),
    )
)


def found_in(
    statement: Statement, earlier: list[Statement], server: Server, *, is_complete: bool = True
) -> Iterator[Found]:
    """Yield what is dangerous in a statement.

    :param earlier: the statements of the same revision that run before.
    :param is_complete: whether these are all that change rows.
    """
    if server.backend == "postgresql":
        for pattern, message, remedy in _POSTGRES:
            if pattern.match(statement.bare):
                yield Found(BLOCKS_WRITES, message, remedy)
        if _ADDS_JSON.search(statement.bare):
            message = "It adds a column of the type json, so that SELECT DISTINCT on the table fails."
            yield Found(BREAKS_RELEASE, message, "Use the type jsonb.")
    else:
        yield from _renames(statement, earlier)
        if not (is_complete and _is_null(statement, earlier)):
            yield from _fails_on_rows(statement, earlier, server)
        yield from _requires(statement, server)
    if server.backend in ("mysql", "mariadb"):
        yield from mysql.found_in(statement, earlier, server)
    if server.backend != "sqlite" and _updates_all(statement):
        yield Found(
            WHOLE_TABLE,
            "It updates all rows of a table in one statement, and locks each row until the transaction ends.",
            "Use backfill() of ampho.operations, which updates the rows in batches.",
        )


def _renames(statement: Statement, earlier: list[Statement]) -> Iterator[Found]:
    tables = dict(renames(statement.bare))
    gone = tables.keys() - tables.values()
    gone -= {each.creates for each in earlier if gone}
    column = _RENAMES_COLUMN.search(statement.bare) if _ALTERS.match(statement.bare) and not tables else None
    is_other = column and unquoted(column["old"] or column["before"]) != unquoted(column["new"] or column["after"])
    if is_other or gone:
        what = "column" if column else "table"
        yield Found(
            BREAKS_RELEASE,
            f"It renames a {what}, which the running release still uses by its old name.",
            REPLACE_HELP.format(what),
        )


def _requires(statement: Statement, server: Server) -> Iterator[Found]:
    for clause in _ADDS.split(statement.bare)[1:] if _ALTERS.match(statement.bare) else ():
        column = _COLUMN.match(clause)
        if column and _NOT_NULL.search(column["rest"]) and not _HAS_VALUE.search(column["rest"]):
            name = named("column", unquoted(column["name"]).strip("?"))
            yield why_required(f"adds {name} that must not be NULL and has no default", server)


def why_required(what: str, server: Server) -> Found:
    """Return what to report about a column that is added or altered to be NOT NULL.

    :param what: what a revision does with the column; see :func:`ampho.history.required.required_in_code`.
    """
    message = f"It {what}, so it may fail on a table with rows."
    if what.startswith("adds") and server.backend in ("mysql", "mariadb"):
        message = f"It {what}: existing rows get a value such as 0 or '', and the running release cannot insert rows."
    return Found(NOT_NULL, message, NULL_HELP)


def _fails_on_rows(statement: Statement, earlier: list[Statement], server: Server) -> Iterator[Found]:
    bare = statement.bare
    if not (_ALTERS.match(bare) or _UNIQUE.match(bare)):
        return
    if any(_CLEANS.match(each.bare) and each.table == statement.table for each in earlier):
        return  # it may have changed the rows that break the constraint
    column = _ADDS_COLUMN.search(bare)
    if server.backend == "sqlite" and column and _SQLITE_DEFAULT.search(column["column"]):
        message = "It adds a column whose default is not a constant, which SQLite refuses if the table has rows."
        yield Found(EXISTING_ROWS, message, "Add the column without the default, and fill it.")
    elif _FOREIGN.search(bare) and mysql.checks_keys(earlier):
        message = "It fails if an existing row refers to a row that does not exist."
        yield Found(EXISTING_ROWS, message, "Find such rows, and correct them first.")
    elif _CHECK.search(bare):
        message = "It fails if an existing row breaks the condition."
        yield Found(EXISTING_ROWS, message, "Find such rows, and correct them first.")
    elif not column and _UNIQUE.search(bare):
        message = "It fails if an existing row is a duplicate."
        yield Found(EXISTING_ROWS, message, "Find duplicates, and remove them first.")
    elif server.backend == "sqlite" and column and _UNIQUE.search(bare):
        message = "It adds a column that is unique, which SQLite refuses."
        yield Found(EXISTING_ROWS, message, "Add the column first, and then a unique index.")


def _is_null(statement: Statement, earlier: list[Statement]) -> bool:
    """Return whether a column of a unique index or a key is new and NULL in each row, so that no row can break it."""
    key = _KEY.search(statement.bare)
    before = [_NEW_COLUMN.search(each.bare) for each in earlier if key and each.table == statement.table]
    new = {unquoted(found["name"]) for found in before if found and not _HAS_VALUE.search(found["rest"])}
    return key is not None and not new.isdisjoint(map(unquoted, key["columns"].split(",")))


def _updates_all(statement: Statement) -> bool:
    update = _UPDATE.match(statement.bare)
    if not update or "backfill" in statement.calls or _LIMIT.search(update["rest"]):
        return False
    where = _WHERE.search(update["rest"])
    return not where or not _BOUND.search(where["condition"])
