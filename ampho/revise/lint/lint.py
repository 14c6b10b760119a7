"""Checking revisions with all rules."""

from __future__ import annotations

import ast
import re
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from ampho._text import did_you_mean
from ampho.database.journal import Journal
from ampho.database.url import redact
from ampho.database.version_rows import Applied
from ampho.errors import ConfigurationError, RenderError, SpecifierError
from ampho.history.files import read_bytes
from ampho.history.graph import Branch, Graph
from ampho.history.losses import (
    Function,
    calls_in,
    converted_in_code,
    functions,
    joined,
    narrowed_in_code,
    new_tables_in,
)
from ampho.history.required import required_in_code
from ampho.history.revision import Revision
from ampho.history.specifier import find_target, parse
from ampho.history.sql import CHANGES_SCHEMA, lost_in_statement, lost_in_statements
from ampho.migrate.project import Project
from ampho.migrate.queries import query
from ampho.migrate.sql import Excerpt, render_each
from ampho.revise.lint import branch, code, squawk
from ampho.revise.lint.batches import batch_lines
from ampho.revise.lint.report import (
    DATA_LOSS,
    IRREVERSIBLE,
    NO_SQL,
    OWN,
    WHOLE_TABLE,
    LintReport,
    Violation,
)
from ampho.revise.lint.rules import found_in, why_required
from ampho.revise.lint.sources import suggested, written
from ampho.revise.lint.statements import NewTables, Server, Statement

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection

_ALLOWS = re.compile(r"^\s*#\s*ampho:\s*allow\s+([\w-]+(?:[\s,]+[\w-]+)*)\s*$", re.MULTILINE)
_LINE = re.compile(r"\.py:(?P<line>\d+):")
_RUNS = ("execute", "exec_driver_sql", "scalar", "scalars", "commit", "flush", "run_async")
"""Functions and methods that may change rows."""

_LOSES = re.compile(r"ban-drop-(?:table|column|schema|database)|ban-truncate")
"""The rules of squawk about what ``data-loss`` reports."""


@dataclass(frozen=True, slots=True)
class Draft:
    """The input of :func:`lint`: revisions, each with its SQL or the error that prevented rendering it.

    :ivar new_tables: the names of tables that other pending revisions create.
    """

    project: Project
    revisions: tuple[Revision, ...]
    sql: dict[str, Excerpt | RenderError]
    exclude: tuple[str, ...]
    server: Server
    new_tables: frozenset[str] = frozenset()


def draft(
    project: Project,
    connection: Connection,
    *,
    names: Sequence[str] = (),
    changed: Collection[str] | None = None,
    exclude: Iterable[str] = (),
    x: Sequence[str] = (),
) -> Draft:
    """Return the pending revisions of packages, or the named revisions, with their SQL, for :func:`lint`.

    :param changed: the real paths of files; if given, only revisions in these files, whether applied or not.
    """

    def choose(rows: tuple[str, ...], journal: Journal) -> tuple[tuple[Revision, ...], tuple[Revision, ...]]:
        graph = project.graph
        known = Applied.from_rows(graph, rows, journal).known if changed is None else frozenset[str]()
        pending = set(graph.ids) - known
        chosen = {rid for name in names for rid in _named(graph, name, known)} if names else pending
        if changed is not None:
            return in_order(chosen & branch.revisions_in(changed, graph)), ()
        return in_order(chosen), in_order(pending - chosen - graph.descendants(chosen))

    def in_order(ids: Iterable[str]) -> tuple[Revision, ...]:
        graph = project.graph
        return tuple(graph[rid] for rid in graph.sort(filter(graph.has_file, ids)))

    revisions, others = query(project, connection, x, choose)
    version = connection.dialect.server_version_info or ()
    backend = "mariadb" if getattr(connection.dialect, "is_mariadb", False) else connection.dialect.name
    server = Server(backend, tuple(part for part in version if isinstance(part, int)))
    sql = render_each(project, connection, revisions, x) if revisions else {}
    return Draft(project, revisions, sql, tuple(exclude), server, frozenset(_created(others)))


def _named(graph: Graph, name: str, known: Collection[str]) -> Iterable[str]:
    spec = parse(name)
    if spec.offset or spec.branch is not None:
        raise SpecifierError(f"{name} is neither a package nor a revision. Pass one of them.", specifier=name)
    found = find_target(graph, spec)
    return [rid for rid in found.ids if rid not in known] if isinstance(found, Branch) else [found]


def _created(revisions: Iterable[Revision]) -> Iterator[str]:
    for revision in revisions:
        upgrade = functions(read_bytes(revision.file)).get("upgrade")
        if isinstance(upgrade, Function):
            yield from new_tables_in(upgrade)


@dataclass
class _Checked:
    """A revision while it is checked.

    :ivar code: its ``upgrade()``, together with the functions that this calls.
    :ivar statements: its statements.
    :ivar earlier: the statements of all revisions that run before.
    """

    revision: Revision
    source: bytes
    sql: Excerpt | RenderError
    defined: dict[str, ast.stmt | None]
    code: Function | None
    statements: list[Statement] = field(default_factory=list[Statement])
    earlier: list[Statement] = field(default_factory=list[Statement])

    @property
    def upgrade(self) -> Function | None:
        upgrade = self.defined.get("upgrade")
        return upgrade if isinstance(upgrade, Function) else None

    @property
    def is_complete(self) -> bool:
        """Whether its statements are all that change rows."""
        return isinstance(self.sql, Excerpt) or not calls_in(self.code, *_RUNS)

    def is_new(self, line: int) -> bool:
        """Return whether the statements of a line change only new tables."""
        here = [each.is_new for each in self.statements if each.line == line and (each.is_new or each.table)]
        return bool(here) and all(here)

    def violation(self, rule: str, message: str, help_: str = "", at: Statement | int = 0) -> Violation:
        """Return a violation, at a statement or on a line."""
        line, statement = (at, "") if isinstance(at, int) else (at.line, at.text)
        line = line or getattr(self.upgrade, "lineno", 1)
        revision = self.revision
        return Violation(revision.id, revision.package, revision.path, rule, message, help_, statement, line)


def lint(drafted: Draft) -> LintReport:
    """Check revisions, without the database. This may take a while.

    :raises LinterError: if squawk is needed, and is not installed or fails.
    :raises ConfigurationError: if an excluded rule does not exist.
    """
    checked = list(_read(drafted))
    upgrades = dict[str, list[Function]]()
    found = list[Violation]()
    for each in checked:
        earlier = upgrades.setdefault(each.revision.package, [])
        found += _own(drafted, each, earlier)
        if each.upgrade is not None:
            earlier.append(each.upgrade)
    has_squawk = drafted.server.backend == "postgresql"
    if has_squawk:
        found += _squawk(drafted, checked)
    _check_rules(drafted.exclude, {*OWN, *(violation.rule for violation in found)})
    excluded = {each.revision.id: {*drafted.exclude, *_allowed(each.source)} for each in checked}
    places = {each.revision.id: place for place, each in enumerate(checked)}
    found = [_redacted(one, drafted) for one in dict.fromkeys(found) if one.rule not in excluded[one.revision]]
    found.sort(key=lambda one: (places[one.revision], one.line))
    return LintReport(tuple(places), tuple(found), has_squawk)


def _read(drafted: Draft) -> Iterator[_Checked]:
    """Yield the revisions with their statements, and find out which of these change new tables."""
    new, before = NewTables(set(drafted.new_tables)), list[Statement]()
    for revision in drafted.revisions:
        source = revision.path.read_bytes()
        defined = functions(source)
        whole = joined(defined, "upgrade") if isinstance(defined.get("upgrade"), Function) else None
        each = _Checked(revision, source, drafted.sql[revision.id], defined, whole, earlier=[*before])
        for statement in _statements(each, drafted.server):
            each.statements.append(replace(statement, is_new=new.have(statement)))
            new.note(statement)
        before += each.statements
        yield each


def _statements(checked: _Checked, server: Server) -> list[Statement]:
    if isinstance(checked.sql, RenderError):
        return suggested(checked.code)
    return written(checked.sql, checked.code, is_sqlite=server.backend == "sqlite")


def _own(drafted: Draft, checked: _Checked, earlier: Sequence[Function]) -> Iterator[Violation]:
    """Yield the violations of Ampho's own rules in a revision.

    :param earlier: the ``upgrade()`` of earlier revisions of the package, which may fill its columns.
    """
    is_sqlite = drafted.server.backend == "sqlite"
    if isinstance(checked.sql, RenderError):
        at = _LINE.search(str(checked.sql))
        line = int(at["line"]) if at else 0
        if not (is_sqlite and line in batch_lines(checked.code)):  # the code of batch mode says the same as its SQL
            yield checked.violation(NO_SQL, f"Only its code was checked. {checked.sql}", at=line)
    yield from _lost(checked, is_sqlite=is_sqlite)
    yield from _changed(drafted, checked, earlier)
    in_batches, is_complete = code.lines_in_batches(checked.code), checked.is_complete
    for number, statement in enumerate(checked.statements):
        if not statement.is_new:
            before = checked.statements[:number]
            for rule, message, help_ in found_in(statement, before, drafted.server, is_complete=is_complete):
                if rule != WHOLE_TABLE or statement.line not in in_batches:
                    yield checked.violation(rule, message, help_, statement)
    if why := code.why_irreversible(checked.defined):
        downgrade = checked.defined.get("downgrade") or checked.upgrade
        yield checked.violation(IRREVERSIBLE, why, code.REVERT_HELP, getattr(downgrade, "lineno", 1))


def _lost(checked: _Checked, *, is_sqlite: bool) -> Iterator[Violation]:
    has_sql = isinstance(checked.sql, Excerpt)
    new_tables = {each.table for each in checked.statements if each.is_new}
    bare = [each.bare for each in checked.statements]
    for place, _, what in lost_in_statements(bare, new_tables) if has_sql else ():
        if not (statement := checked.statements[place]).is_new:
            yield _loss(checked, what, statement)
    # In batch mode, the SQL for SQLite creates another table instead of dropping a column.
    for described in code.lost(checked.code, in_batch_mode=has_sql) if is_sqlite or not has_sql else ():
        if not checked.is_new(described.line):
            yield _loss(checked, described, described.line)


def _loss(checked: _Checked, what: str, at: Statement | int) -> Violation:
    return checked.violation(DATA_LOSS, f"It {what}, and the data in it is lost.", code.LOSS_HELP, at)


def _changed(drafted: Draft, checked: _Checked, earlier: Sequence[Function]) -> Iterator[Violation]:
    """Yield the columns that get another type, or become NOT NULL."""
    retyped = converted_in_code if drafted.server.backend == "sqlite" else narrowed_in_code
    for what in retyped(checked.code):
        if not checked.is_new(what.line):
            yield checked.violation(DATA_LOSS, f"It {what}.", code.LOSS_HELP, what.line)
    if drafted.server.backend == "postgresql" and isinstance(checked.sql, Excerpt):
        return  # squawk has rules for columns that become NOT NULL
    for what in required_in_code(checked.upgrade, earlier):
        is_in_statements = what.startswith("adds") and drafted.server.backend != "postgresql"
        if not is_in_statements and not checked.is_new(what.line):
            yield checked.violation(*why_required(what, drafted.server), at=what.line)


def _squawk(drafted: Draft, checked: Sequence[_Checked]) -> Iterator[Violation]:
    """Yield what squawk reports, unless Ampho reports it, or it does not matter here."""
    rendered = [(each, each.sql.sql) for each in checked if isinstance(each.sql, Excerpt)]
    inside = [
        (each, one) for each in checked for one in each.statements if one.in_block and CHANGES_SCHEMA.match(one.bare)
    ]
    version = ".".join(map(str, drafted.server.version))
    timeout = drafted.project.settings.statement_lock_timeout or 0
    is_timeout_known = bool(timeout)
    for one in squawk.run([*(sql for _, sql in rendered), *(f"{one.text};" for _, one in inside)], version, timeout):
        if one.number < len(rendered):
            each, _ = rendered[one.number]
            before = [statement for statement in each.statements if statement.end <= one.place]
            statement = next(iter(each.statements[len(before) :]), None)
        else:
            each, statement = inside[one.number - len(rendered)]
            before = each.statements[: each.statements.index(statement)]
        if statement is None or statement.is_new or (statement.in_block and one.rule == "syntax-error"):
            continue  # a block may build the SQL that it executes from parts
        # What another table replaces is not lost.
        is_reported = _LOSES.match(one.rule) and next(lost_in_statement(statement.bare), None)
        if squawk.is_about_timeouts(one.rule):
            if not is_timeout_known:
                is_timeout_known = True
                yield each.violation(one.rule, one.message, squawk.TIMEOUT_HELP, statement)
        elif not is_reported and squawk.is_dangerous(
            one.rule, statement, [*each.earlier, *before], drafted.server.version
        ):
            yield each.violation(one.rule, one.message, squawk.help_with(one.rule, statement, one.help), statement)


def _redacted(violation: Violation, drafted: Draft) -> Violation:
    message, statement = (redact(text, drafted.project.url) for text in (violation.message, violation.statement))
    return replace(violation, message=message, statement=statement)


def _check_rules(rules: Iterable[str], known: Collection[str]) -> None:
    """Check that rules exist. If squawk is not installed, only names that resemble a known rule are rejected."""
    for rule in rules:
        is_squawks = rule in known or squawk.has_rule(rule)
        guess = did_you_mean(rule, sorted(known))
        if is_squawks is False or (is_squawks is None and guess):
            own, theirs = ", ".join(OWN), "https://squawkhq.com/docs/rules"
            remedy = guess or f"Ampho's rules are {own}; squawk's rules are listed at {theirs}."
            raise ConfigurationError(f"There is no rule {rule!a} to exclude. {remedy}", setting="exclude")


def _allowed(source: bytes) -> set[str]:
    """Return the rules that the comments in a revision's file allow the revision to break."""
    text = source.decode("utf-8", errors="replace")
    return {rule for allowed in _ALLOWS.findall(text) for rule in re.split(r"[\s,]+", allowed)}
