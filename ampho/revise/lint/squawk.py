"""Running squawk, and leaving out what it reports although it is not dangerous."""

from __future__ import annotations

import ast
import glob
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from math import inf
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

from ampho.errors import LinterError
from ampho.history.losses import argument, limit, precision, scale, type_name
from ampho.history.sql import NAME
from ampho.revise.lint.report import REPLACE_HELP
from ampho.revise.lint.statements import Statement

_STYLE = re.compile(r"prefer-|require-enum-value-ordering|ban-char-field")
_WIDENS = frozenset({"ban-drop-not-null", "ban-drop-constraint"})
"""Rules about changes that accept more values than before, which neither block the app nor break a release."""

_TIMEOUTS = re.compile(r"require-.*timeout")
TIMEOUT_HELP = "Set AMPHO_STATEMENT_LOCK_TIMEOUT to a few seconds."
_TYPE = "changing-column-type"
_NOT_NULL = "adding-not-nullable-field"
_DEFAULT = "adding-field-with-default"
_NOT_VALID = "constraint-missing-not-valid"
_HAS_RULE = re.compile(r"\b(?:FOREIGN\s+KEY|UNIQUE|PRIMARY\s+KEY)\b", re.IGNORECASE)
"""Matches a constraint that another rule reports, too."""

_ADDS_COLUMN = re.compile(r"\s*ALTER\s+TABLE\s.*\bADD\s+COLUMN\b", re.IGNORECASE | re.DOTALL)
_NO_FUNCTION = re.compile(r"\b(?:GENERATED|EXCLUDE)\b", re.IGNORECASE)
_FUNCTIONS = {
    "require-concurrent-index-creation": "create_index()",
    "ban-concurrent-index-creation-in-transaction": "create_index()",
    "require-concurrent-index-deletion": "drop_index()",
    "disallowed-unique-constraint": "create_unique_constraint()",
    "adding-foreign-key-constraint": "create_foreign_key()",
    _DEFAULT: "",
    _NOT_VALID: "create_check_constraint()",
    _NOT_NULL: "alter_column()",
}
"""The functions of ``ampho.operations`` that do what rules report as dangerous; empty if only ``add_column()`` does."""

_REPLACED = {_TYPE: "column", "renaming-column": "column", "renaming-table": "table"}
"""What to replace because of a rule, for rules without help."""

_WITH_DEFAULT = re.compile(r"\bADD\s+(?!CONSTRAINT\b).*?\bDEFAULT\b(?P<value>.*)", re.IGNORECASE | re.DOTALL)
_GENERATED = re.compile(r"\bGENERATED\s+ALWAYS\s+AS\s*\(", re.IGNORECASE)
_STORED = re.compile(r"\)\s*STORED\b", re.IGNORECASE)
_VIRTUAL = re.compile(r"\)\s*VIRTUAL\b", re.IGNORECASE)
_CALLED = re.compile(r'([\w."]+)\s*\(')
_KEEPS_DEFAULTS, _VIRTUAL_BY_DEFAULT = (11,), (18,)
_SAME_IN_EACH_ROW = re.compile(
    r"(?:transaction_|statement_)?(?:timestamp|now)|timezone|date_(?:trunc|part)|extract|to_(?:timestamp|date|char|jsonb?)"
    r"|make_\w+|current_\w+|local\w+|lower|upper|concat|md5|left|right|length|replace|coalesce|nullif|abs|round"
    r"|jsonb?_build_\w+|cast|default|check|(?:var)?char|character|varying|numeric|decimal|timestamptz|time|bit",
    re.IGNORECASE,
)
"""Functions that are not volatile, and words before parentheses that are none.

See "ALTER TABLE" in PostgreSQL's documentation: a default that is not volatile is evaluated once, for all rows.
"""

_STRINGS = frozenset({"STRING", "VARCHAR", "TEXT", "UNICODE", "UNICODETEXT"})
_CHECKED = re.compile(
    rf"\s*ALTER\s+TABLE\s.*\bADD\s+CONSTRAINT\s+(?P<name>{NAME})\s+CHECK\s*\(+\s*(?P<column>{NAME})\s+IS\s+NOT\s+NULL",
    re.IGNORECASE | re.DOTALL,
)
_VALIDATED = re.compile(rf"\bVALIDATE\s+CONSTRAINT\s+(?P<name>{NAME})", re.IGNORECASE)
_SETS_NOT_NULL = re.compile(rf"\bALTER\s+(?:COLUMN\s+)?(?P<column>{NAME})\s+SET\s+NOT\s+NULL", re.IGNORECASE)


class Reported(NamedTuple):
    """A finding of squawk.

    :ivar number: the number of the SQL in which it was found, in order.
    :ivar place: the place in that SQL.
    """

    number: int
    place: int
    rule: str
    message: str
    help: str


def find_program() -> str | None:
    """Return the path of squawk; None if it is not installed."""
    return shutil.which("squawk", path=str(Path(sys.executable).parent)) or shutil.which("squawk")


def has_rule(rule: str) -> bool | None:
    """Return whether a rule is one of squawk's, or None if squawk is not installed."""
    program = find_program()
    if program is None:
        return None
    command = [program, f"--exclude={rule}", "--reporter=json"]
    done = subprocess.run(command, input="", capture_output=True, encoding="utf-8", check=False)  # noqa: S603 (found above)
    return "invalid rule name" not in done.stderr


def run(written: Sequence[str], version: str, lock_timeout: float) -> Iterator[Reported]:
    """Yield what squawk reports about the SQL of revisions.

    :param version: the version of PostgreSQL.
    :param lock_timeout: the lock timeout that is set before each revision, in seconds; 0 if there is none.
    :raises LinterError: if squawk is not installed or fails.
    """
    program = find_program()
    if program is None:
        raise LinterError(
            "db-lint needs squawk to check the SQL for PostgreSQL, but squawk is not installed. Install it with pip"
            " install 'ampho[lint]'."
        )
    head = f"SET lock_timeout = '{round(lock_timeout * 1000)}ms';\nBEGIN;\n" if lock_timeout else "BEGIN;\n"
    with TemporaryDirectory(prefix="ampho-lint-") as folder:
        for number, sql in enumerate(written):
            Path(folder, f"{number}.sql").write_text(f"{head}{sql}\nCOMMIT;\n", "utf-8")
        command = [program, "--reporter=json", f"{glob.escape(folder)}/*.sql"]
        if version:
            command.insert(1, f"--pg-version={version}")
        for one in _run(command) if written else ():
            number = int(Path(one["file"]).stem)
            lines = written[number].splitlines(keepends=True)
            before = max(one["line"] - head.count("\n"), 0)
            place = sum(map(len, lines[:before])) + (one["column"] if before < len(lines) else 0)
            yield Reported(number, place, one["rule_name"], one["message"], one["help"] or "")


def _run(command: Sequence[str]) -> Sequence[Mapping[str, Any]]:
    done = subprocess.run(command, capture_output=True, encoding="utf-8", check=False)  # noqa: S603 (found by find_program)
    try:
        found = json.loads(done.stdout or "[]")
    except ValueError:
        found = None
    if not isinstance(found, list) or (done.returncode and not found):
        why = " ".join((done.stderr or done.stdout).split()) or f"it exited with {done.returncode}"
        raise LinterError(f"squawk failed: {why.rstrip('.')}. Check its configuration, .squawk.toml.")
    return sorted(found, key=lambda one: (int(Path(one["file"]).stem), one["line"]))


def is_dangerous(rule: str, statement: Statement, earlier: Sequence[Statement], version: tuple[int, ...]) -> bool:
    """Return whether a statement is as dangerous as a rule of squawk says.

    :param earlier: the statements of all revisions that run before.
    :param version: the version of PostgreSQL.
    """
    if _STYLE.match(rule) or rule in _WIDENS:
        return False
    if rule == _TYPE and statement.alters:
        return not all(map(_only_widens, statement.alters))
    if rule == _DEFAULT:
        return _rewrites(statement.bare, version)
    if rule == _NOT_VALID:
        return not _HAS_RULE.search(statement.bare)
    if rule == _NOT_NULL and (sets := _SETS_NOT_NULL.search(statement.bare)):
        return not _is_checked(statement.table, sets["column"], earlier)
    return True


def help_with(rule: str, statement: Statement, theirs: str) -> str:
    """Return how to avoid what a rule reports about a statement.

    :param theirs: the help of squawk; empty if there is none.
    """
    if rule in _REPLACED and not theirs:
        return REPLACE_HELP.format(_REPLACED[rule])
    adds = "add_column" in statement.calls or _ADDS_COLUMN.match(statement.bare)
    function = "add_column()" if adds and rule in _FUNCTIONS else _FUNCTIONS.get(rule)
    if not function or _NO_FUNCTION.search(statement.bare):
        return theirs
    first = "Fill the column. Then use" if rule == _NOT_NULL else "Use"
    return f"{first} {function} of ampho.operations, which does not block the app."


def is_about_timeouts(rule: str) -> bool:
    """Return whether a rule asks for a timeout, which is a setting of the app, and not a matter of each statement."""
    return bool(_TIMEOUTS.match(rule))


def _only_widens(call: ast.Call) -> bool:
    """Return whether PostgreSQL keeps the rows as they are: a text gets longer, or a number gets more digits."""
    old, new = argument(call, "existing_type"), argument(call, "type_")
    if old is None or new is None:
        return False
    names = type_name(old), type_name(new)
    if set(names) <= _STRINGS:
        return limit(new) >= limit(old)
    if set(names) <= {"NUMERIC", "DECIMAL"}:
        return precision(new) == inf or (scale(new) == scale(old) and precision(new) >= precision(old))
    return False


def _rewrites(bare: str, version: tuple[int, ...]) -> bool:
    """Return whether a new column with a default rewrites the table, because each row may get another value."""
    generated, virtual = len(_GENERATED.findall(bare)), len(_VIRTUAL.findall(bare))
    if _STORED.search(bare) or (generated > virtual and version < _VIRTUAL_BY_DEFAULT):
        return True
    default = _WITH_DEFAULT.search(bare)
    called = _CALLED.findall(default["value"]) if default else [] if generated else [""]
    return version < _KEEPS_DEFAULTS or not all(map(_SAME_IN_EACH_ROW.fullmatch, called))


def _is_checked(table: str, column: str, earlier: Sequence[Statement]) -> bool:
    """Return whether a validated constraint says that a column is not NULL, so that no row has to be read."""
    before = [each for each in earlier if each.table == table]
    checks = [found["name"] for each in before if (found := _CHECKED.match(each.bare)) and found["column"] == column]
    return any((found := _VALIDATED.search(each.bare)) and found["name"] in checks for each in before)
