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
from ampho.history.losses import Function, converted_in_code, created_in, functions, narrowed_in_code
from ampho.history.required import required_in_code
from ampho.history.revision import Revision
from ampho.history.specifier import find_target, parse
from ampho.migrate.project import Project
from ampho.migrate.queries import query
from ampho.migrate.sql import Excerpt, render_each
from ampho.revise.lint import branch, code, squawk
from ampho.revise.lint.report import (
    DATA_LOSS,
    IRREVERSIBLE,
    NO_SQL,
    NOT_NULL,
    OWN,
    WHOLE_TABLE,
    LintReport,
    Violation,
)
from ampho.revise.lint.rules import found_in
from ampho.revise.lint.statements import NewTables, Server, Statement, batch_lines, suggested, written

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection

_ALLOWS = re.compile(r"^\s*#\s*ampho:\s*allow\s+([\w-]+(?:[\s,]+[\w-]+)*)\s*$", re.MULTILINE)
_LINE = re.compile(r"\.py:(?P<line>\d+):")
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
            yield from (name for name, _ in created_in(upgrade))


@dataclass
class _Checked:
    """A revision while it is checked.

    :ivar statements: its statements.
    :ivar earlier: the statements of all revisions that run before.
    """

    revision: Revision
    source: bytes
    sql: Excerpt | RenderError
    defined: dict[str, ast.stmt | None]
    statements: list[Statement] = field(default_factory=list[Statement])
    earlier: list[Statement] = field(default_factory=list[Statement])

    @property
    def upgrade(self) -> Function | None:
        upgrade = self.defined.get("upgrade")
        return upgrade if isinstance(upgrade, Function) else None

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
        found += _squawk(drafted, checked, found)
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
        each = _Checked(revision, source, drafted.sql[revision.id], functions(source), earlier=[*before])
        for statement in _statements(each, drafted.server):
            each.statements.append(replace(statement, is_new=new.have(statement)))
            new.note(statement)
        before += each.statements
        yield each


def _statements(checked: _Checked, server: Server) -> list[Statement]:
    if isinstance(checked.sql, RenderError):
        return suggested(checked.upgrade)
    found = written(checked.sql, checked.upgrade)
    if server.backend == "sqlite":
        # In batch mode, the SQL creates another table instead of altering the table.
        lines = batch_lines(checked.upgrade)
        found = [each for each in found if each.line not in lines] + suggested(checked.upgrade, batches_only=True)
        found.sort(key=lambda each: each.line)
    return found


def _own(drafted: Draft, checked: _Checked, earlier: Sequence[Function]) -> Iterator[Violation]:
    """Yield the violations of Ampho's own rules in a revision.

    :param earlier: the ``upgrade()`` of earlier revisions of the package, which may fill its columns.
    """
    if isinstance(checked.sql, RenderError) and drafted.server.backend == "postgresql":
        at = _LINE.search(str(checked.sql))
        message = f"squawk did not check this revision. {checked.sql}"
        yield checked.violation(NO_SQL, message, at=int(at["line"]) if at else 0)
    yield from _lost(checked)
    yield from _changed(drafted, checked, earlier)
    in_batches = code.lines_in_batches(checked.upgrade)
    for number, statement in enumerate(checked.statements):
        if not statement.is_new:
            for rule, message, help_ in found_in(statement, checked.statements[:number], drafted.server):
                if rule != WHOLE_TABLE or statement.line not in in_batches:
                    yield checked.violation(rule, message, help_, statement)
    if why := code.why_irreversible(checked.defined):
        downgrade = checked.defined.get("downgrade") or checked.upgrade
        yield checked.violation(IRREVERSIBLE, why, code.REVERT_HELP, getattr(downgrade, "lineno", 1))


def _lost(checked: _Checked) -> Iterator[Violation]:
    sql = checked.sql.sql if isinstance(checked.sql, Excerpt) else None
    statements = {each.text: each for each in checked.statements}
    for what, text in code.lost(sql, checked.upgrade):
        statement = statements.get(text)
        is_new = checked.is_new(what.line) if statement is None else statement.is_new
        if not is_new:
            message = f"It {what}, and the data in it is lost."
            yield checked.violation(DATA_LOSS, message, code.LOSS_HELP, statement or what.line)


def _changed(drafted: Draft, checked: _Checked, earlier: Sequence[Function]) -> Iterator[Violation]:
    """Yield the columns that get another type, or become NOT NULL."""
    retyped = converted_in_code if drafted.server.backend == "sqlite" else narrowed_in_code
    for what in retyped(checked.upgrade):
        if not checked.is_new(what.line):
            yield checked.violation(DATA_LOSS, f"It {what}.", code.LOSS_HELP, what.line)
    if drafted.server.backend == "postgresql" and isinstance(checked.sql, Excerpt):
        return  # squawk has rules for columns that become NOT NULL
    for what in required_in_code(checked.upgrade, earlier):
        if not checked.is_new(what.line):
            message = f"It {what}, so it may fail on a table with rows."
            yield checked.violation(NOT_NULL, message, code.NULL_HELP, what.line)


def _squawk(drafted: Draft, checked: Sequence[_Checked], found: Iterable[Violation]) -> Iterator[Violation]:
    """Yield what squawk reports, unless Ampho has reported it, or it does not matter here."""
    lost = {(one.revision, one.statement) for one in found if one.rule == DATA_LOSS}
    rendered = [(each, each.sql.sql) for each in checked if isinstance(each.sql, Excerpt)]
    version = ".".join(map(str, drafted.server.version))
    timeout = drafted.project.settings.statement_lock_timeout or 0
    is_timeout_known = bool(timeout)
    for one in squawk.run([sql for _, sql in rendered], version, timeout):
        each, _ = rendered[one.number]
        before = [statement for statement in each.statements if statement.end <= one.place]
        statement = next(iter(each.statements[len(before) :]), None)
        if statement is None or statement.is_new:
            continue
        is_reported = _LOSES.match(one.rule) and (each.revision.id, statement.text) in lost
        if squawk.is_about_timeouts(one.rule):
            if not is_timeout_known:
                is_timeout_known = True
                yield each.violation(one.rule, one.message, squawk.TIMEOUT_HELP, statement)
        elif not is_reported and squawk.is_dangerous(one.rule, statement, [*each.earlier, *before]):
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
