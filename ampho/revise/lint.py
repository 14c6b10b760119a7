"""Linting: finding dangerous changes in revisions before they run, with squawk and with Ampho's own rules.

squawk is a separate program that reports PostgreSQL statements that block the app. The rules in this module report what
squawk does not detect: whether a revision loses data, and whether it can be reverted.
"""

from __future__ import annotations

import ast
import glob
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Self

from ampho._text import did_you_mean
from ampho.database.journal import Journal
from ampho.database.url import redact
from ampho.database.version_rows import Applied
from ampho.errors import ConfigurationError, LinterError, RenderError, SpecifierError
from ampho.history.graph import Branch, Graph
from ampho.history.losses import Function, converted_in_code, functions, lost_in_code, narrowed_in_code
from ampho.history.required import required_in_code
from ampho.history.revision import Revision
from ampho.history.specifier import find_target, parse
from ampho.history.sql import lost_in_sql
from ampho.migrate.project import Project
from ampho.migrate.queries import query
from ampho.migrate.sql import render_each
from ampho.settings import DEFAULT_DATABASE

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection

DATA_LOSS = "data-loss"
IRREVERSIBLE = "irreversible"
NO_SQL = "no-sql"
NOT_NULL = "not-null"
OWN = (DATA_LOSS, IRREVERSIBLE, NO_SQL, NOT_NULL)

_ALLOWS = re.compile(r"^\s*#\s*ampho:\s*allow\s+([\w-]+(?:[\s,]+[\w-]+)*)\s*$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Violation:
    """A dangerous change in a revision.

    :ivar revision: the id of the revision.
    :ivar package: the name of its package.
    :ivar path: the path of its file.
    :ivar rule: ``data-loss``, ``irreversible``, ``no-sql``, ``not-null``, or the name of a rule of squawk.
    :ivar message: what is dangerous.
    :ivar help: what to do instead, if squawk suggests something.
    :ivar statement: the SQL statement, if the violation is about a single one.
    """

    revision: str
    package: str
    path: Path
    rule: str
    message: str
    help: str = ""
    statement: str = ""


@dataclass(frozen=True, slots=True)
class LintReport:
    """The result of a lint.

    :ivar revisions: the ids of the revisions that were checked, in order.
    :ivar violations: the dangerous changes in them, in the same order.
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


@dataclass(frozen=True, slots=True)
class Draft:
    """The input of :func:`lint`: revisions, each with its SQL or the error that prevented rendering it."""

    project: Project
    revisions: tuple[Revision, ...]
    sql: dict[str, str | RenderError]
    exclude: tuple[str, ...]
    server: str | None


def draft(
    project: Project,
    connection: Connection,
    *,
    names: Sequence[str] = (),
    exclude: Iterable[str] = (),
    x: Sequence[str] = (),
) -> Draft:
    """Return the pending revisions of packages, or the named revisions, with their SQL, for :func:`lint`."""

    def choose(rows: tuple[str, ...], journal: Journal) -> tuple[Revision, ...]:
        graph = project.graph
        known = Applied.from_rows(graph, rows, journal).known
        chosen = set(graph.ids) - known if not names else {rid for name in names for rid in _named(graph, name, known)}
        return tuple(graph[rid] for rid in graph.sort(filter(graph.has_file, chosen)))

    revisions = query(project, connection, x, choose)
    server = None
    if connection.dialect.name == "postgresql":
        server = ".".join(map(str, connection.dialect.server_version_info or ()))
    sql = render_each(project, connection, revisions, x) if revisions else {}
    return Draft(project, revisions, sql, tuple(exclude), server)


def _named(graph: Graph, name: str, known: Collection[str]) -> Iterable[str]:
    spec = parse(name)
    if spec.offset or spec.branch is not None:
        raise SpecifierError(f"{name} is neither a package nor a revision. Pass one of them.", specifier=name)
    found = find_target(graph, spec)
    return [rid for rid in found.ids if rid not in known] if isinstance(found, Branch) else [found]


def lint(drafted: Draft) -> LintReport:
    """Check revisions, without the database. This may take a while.

    :raises LinterError: if squawk is needed, and is not installed or fails.
    :raises ConfigurationError: if an excluded rule does not exist.
    """
    ids = tuple(revision.id for revision in drafted.revisions)
    sources = {revision.id: revision.path.read_bytes() for revision in drafted.revisions}
    has_squawk = drafted.server is not None
    violations, upgrades = list[Violation](), dict[str, list[Function]]()
    for revision in drafted.revisions:
        earlier = upgrades.setdefault(revision.package, [])
        violations += _own(drafted, revision, sources[revision.id], earlier)
        if isinstance(upgrade := functions(sources[revision.id]).get("upgrade"), Function):
            earlier.append(upgrade)
    if has_squawk:
        violations += _squawk(drafted)
    _check_rules(drafted.exclude, {*OWN, *(violation.rule for violation in violations)})
    excluded = {revision_id: {*drafted.exclude, *_allowed(source)} for revision_id, source in sources.items()}
    found = [violation for violation in violations if violation.rule not in excluded[violation.revision]]
    places = {revision_id: place for place, revision_id in enumerate(ids)}
    return LintReport(ids, tuple(sorted(found, key=lambda violation: places[violation.revision])), has_squawk)


def _check_rules(rules: Iterable[str], known: Collection[str]) -> None:
    """Check that rules exist. If squawk is not installed, only names that resemble a known rule are rejected."""
    for rule in rules:
        is_squawks = rule in known or _is_rule_of_squawk(rule)
        guess = did_you_mean(rule, sorted(known))
        if is_squawks is False or (is_squawks is None and guess):
            remedy = (
                guess
                or f"Ampho's rules are {', '.join(OWN)}; squawk's rules are listed at https://squawkhq.com/docs/rules."
            )
            raise ConfigurationError(f"There is no rule {rule!a} to exclude. {remedy}", setting="exclude")


def _is_rule_of_squawk(rule: str) -> bool | None:
    """Return whether a rule is one of squawk's, or None if squawk is not installed."""
    program = _find_squawk()
    if program is None:
        return None
    command = [program, f"--exclude={rule}", "--reporter=json"]
    done = subprocess.run(command, input="", capture_output=True, encoding="utf-8", check=False)  # noqa: S603 (found above)
    return "invalid rule name" not in done.stderr


def _find_squawk() -> str | None:
    return shutil.which("squawk", path=str(Path(sys.executable).parent)) or shutil.which("squawk")


def _allowed(source: bytes) -> set[str]:
    """Return the rules that the comments in a revision's file allow the revision to break."""
    text = source.decode("utf-8", errors="replace")
    return {rule for allowed in _ALLOWS.findall(text) for rule in re.split(r"[\s,]+", allowed)}


def _own(drafted: Draft, revision: Revision, source: bytes, earlier: Iterable[Function]) -> Iterator[Violation]:
    """Yield the violations of Ampho's own rules in a revision, whose file contains ``source``.

    :param earlier: the ``upgrade()`` of earlier revisions of the package, which may fill its columns.
    """

    def violation(rule: str, message: str, statement: str = "") -> Violation:
        message, statement = (redact(text, drafted.project.url) for text in (message, statement))
        return Violation(revision.id, revision.package, revision.path, rule, message, statement=statement)

    sql = drafted.sql.get(revision.id, "")
    if isinstance(sql, RenderError) and drafted.server is not None:
        yield violation(NO_SQL, f"squawk did not check this revision. {sql}")
    defined = functions(source)
    if isinstance(sql, str):
        lost = dict(lost_in_sql(sql))
        # In SQLite's batch mode, the SQL does not drop a column, but creates a new table without it.
        columns = lost_in_code(defined.get("upgrade"), columns_only=True)
        lost |= {name: (what, "") for name, what in columns if name} | lost
    else:
        lost = {name: (what, "") for name, what in lost_in_code(defined.get("upgrade")) if name}
    for what, statement in lost.values():
        yield violation(DATA_LOSS, f"It {what}, and the data in it is lost.", statement)
    is_sqlite = drafted.project.url.get_backend_name() == "sqlite"
    for what in (converted_in_code if is_sqlite else narrowed_in_code)(defined.get("upgrade")):
        yield violation(DATA_LOSS, f"It {what}.")
    if drafted.server is None or isinstance(sql, RenderError):  # squawk has rules for such columns
        for what in required_in_code(defined.get("upgrade"), earlier):
            yield violation(NOT_NULL, f"It {what}, so it may fail on a table with rows.")
    why = why_irreversible(defined)
    if why:
        yield violation(IRREVERSIBLE, why)


def why_irreversible(defined: dict[str, ast.stmt | None]) -> str:
    """Return why a revision cannot be reverted, as a sentence; empty if it can.

    :param defined: the functions in the revision's file, as returned by :func:`ampho.history.losses.functions`.
    """
    if "*" in defined:
        return ""
    if "downgrade" not in defined:
        return "It has no downgrade()."
    downgrade, upgrade = defined["downgrade"], defined.get("upgrade")
    if not isinstance(downgrade, Function):
        return ""
    if any(isinstance(node, ast.Raise) for node in downgrade.body):
        return "Its downgrade() raises an exception."
    if is_empty(downgrade) and isinstance(upgrade, Function) and not is_empty(upgrade):
        return "Its downgrade() does nothing, but its upgrade() does something."
    return ""


def is_empty(function: ast.stmt | None) -> bool:
    """Return whether a function does nothing."""
    return isinstance(function, Function) and all(
        isinstance(node, ast.Pass)
        or (isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant))
        or (isinstance(node, ast.Return) and node.value is None)
        for node in function.body
    )


def _squawk(drafted: Draft) -> Iterator[Violation]:
    """Yield the violations that squawk reports for the SQL."""
    written = [(revision, sql) for revision in drafted.revisions if isinstance(sql := drafted.sql[revision.id], str)]
    program = _find_squawk()
    if program is None:
        raise LinterError(
            "db-lint needs squawk to check the SQL for PostgreSQL, but squawk is not installed. Install it with pip"
            " install 'ampho[lint]'."
        )
    seconds = drafted.project.settings.statement_lock_timeout
    head = f"SET lock_timeout = '{round(seconds * 1000)}ms';\nBEGIN;\n" if seconds else "BEGIN;\n"
    with TemporaryDirectory(prefix="ampho-lint-") as folder:
        for number, (_, sql) in enumerate(written):
            Path(folder, f"{number}.sql").write_text(f"{head}{sql}\nCOMMIT;\n", "utf-8")
        command = [program, "--reporter=json", f"{glob.escape(folder)}/*.sql"]
        if drafted.server:
            command.insert(1, f"--pg-version={drafted.server}")
        for one in _run(command) if written else ():
            revision, sql = written[int(Path(one["file"]).stem)]
            yield Violation(
                revision.id,
                revision.package,
                revision.path,
                rule=one["rule_name"],
                message=one["message"],
                help=one["help"] or "",
                statement=redact(_statement_at(sql, one["line"] - head.count("\n")), drafted.project.url),
            )


def _run(command: Sequence[str]) -> Sequence[dict[str, Any]]:
    done = subprocess.run(command, capture_output=True, encoding="utf-8", check=False)  # noqa: S603 (found by _find_squawk)
    try:
        found = json.loads(done.stdout or "[]")
    except ValueError:
        found = None
    if not isinstance(found, list) or (done.returncode and not found):
        why = " ".join((done.stderr or done.stdout).split()) or f"it exited with {done.returncode}"
        raise LinterError(f"squawk failed: {why.rstrip('.')}. Check its configuration, .squawk.toml.")
    return sorted(found, key=lambda one: (int(Path(one["file"]).stem), one["line"]))


def _statement_at(sql: str, line: int) -> str:
    """Return the statement on a line of SQL, in which Alembic separates statements by empty lines."""
    lines = sql.splitlines()
    first = last = min(max(line, 0), len(lines) - 1)
    while first > 0 and lines[first - 1].strip():
        first -= 1
    while last < len(lines) - 1 and lines[last + 1].strip():
        last += 1
    return "\n".join(lines[first : last + 1]).strip().rstrip(";")
