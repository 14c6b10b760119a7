"""Explain a plan before it runs: the cause of each step, whether it runs in a transaction, and the data it may lose.

The files of the steps are compiled, but not executed. A file is parsed only if it contains a word such as ``drop``.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace

from ampho.database.transaction import TRANSACTIONAL
from ampho.history.files import read_bytes
from ampho.history.graph import Graph
from ampho.history.losses import (
    Function,
    called,
    converted_in_code,
    functions,
    is_safe_call,
    lost_in_code,
    narrowed_in_code,
    only_upgrades,
    part_of,
    reachable,
)
from ampho.history.required import required_in_code
from ampho.history.revision import check_function
from ampho.history.sql import ENDS_TRANSACTION
from ampho.migrate.plan import Cause, Direction, InTransaction, Plan, Step

_AUTOCOMMIT = "autocommit_block"
_ENDINGS = frozenset({_AUTOCOMMIT, "commit", "rollback"})
_OPERATIONS = b"ampho.operations"
_MAY_BE_EMPTY = re.compile(
    rb"^(?:async[ \t]+)?def[ \t]+downgrade\s*\([^)]*\)[^:\n]*:(?:\s|#[^\n]*)*"
    rb"(?:pass|return|\.\.\.|[A-Za-z]{0,2}[\"'])",
    re.MULTILINE,
)
"""Matches a ``downgrade()`` that may do nothing, so that few files have to be parsed."""
_DANGER = re.compile(rb"drop|truncate|delete|add_column|alter_column|commit|rollback|abort|\bend\b", re.IGNORECASE)


def explained(plan: Plan, graph: Graph, dialect_of: Callable[[str], str], *, is_async: bool = False) -> Plan:
    """Return a plan with an explanation of each step.

    :param graph: the graph that the plan was made from.
    :param dialect_of: returns the name of the dialect of a database.
    :param is_async: whether the engines are async.
    :raises RevisionFileError: if a file cannot be compiled, or lacks the function of its step.
    """
    upgrades = plan.direction is Direction.UPGRADE
    near = graph.children if upgrades else graph.parents
    # Causes are listed in this order: the steps that the specifier names, then the others in the order of the plan.
    places = {step.revision.id: (step.revision.id not in plan.asked, i) for i, step in enumerate(plan.steps)}

    def explain(step: Step) -> Step:
        if step.cause is Cause.REPLACES:
            return replace(step, in_transaction=InTransaction.WHOLE)  # also where DDL is committed at once
        cause, because_of = Cause.ASKED, tuple[str, ...]()
        if step.revision.id not in plan.asked:
            cause = Cause.REQUIRED if upgrades else Cause.STANDS
            because_of = tuple(sorted(places.keys() & near(step.revision.id), key=places.__getitem__))
        source, name = b"", step.direction.value
        with suppress(OSError):  # The file may have been deleted in the meantime; the run reports that.
            source = read_bytes(step.revision.file)
        if source:
            check_function(step.revision, source, name, is_async=is_async)
        dialect = dialect_of(step.database)
        losses, risks, commits = _dangers(source, name, dialect)
        if risks:  # unless an earlier step fills the columns
            earlier = [each for other in _before(step, plan.steps) for each in _functions(other)]
            risks = _risks(reachable(functions(source), name), earlier)
        in_transaction = InTransaction.PARTLY if commits else InTransaction.WHOLE
        if dialect not in TRANSACTIONAL:
            in_transaction = InTransaction.NONE
        return replace(
            step, cause=cause, because_of=because_of, in_transaction=in_transaction, losses=losses, risks=risks
        )

    return replace(plan, steps=tuple(map(explain, plan.steps)))


def with_empty_downgrades(plan: Plan) -> Plan:
    """Return the plan of a downgrade with the revisions whose ``downgrade()`` leaves what ``upgrade()`` has changed."""
    return replace(plan, only_upgrades=tuple(step.revision.id for step in plan.steps if _leaves_schema(step)))


def _leaves_schema(step: Step) -> bool:
    try:
        source = read_bytes(step.revision.file)
        return _MAY_BE_EMPTY.search(source) is not None and only_upgrades(functions(source))
    except (OSError, SyntaxError, ValueError, RecursionError):  # which the run reports
        return False


def _dangers(source: bytes, name: str, dialect: str) -> tuple[tuple[str, ...], tuple[str, ...], bool]:
    """Return what a function may lose, why it may fail on rows, and whether it ends its transaction early."""
    if not _DANGER.search(part_of(source, name)) and _OPERATIONS not in source:
        return (), (), False
    try:
        return _dangers_of(list(reachable(functions(source), name)), source, dialect)
    except RecursionError:  # nested too deeply
        return (), (), False


def _dangers_of(reached: list[Function], source: bytes, dialect: str) -> tuple[tuple[str, ...], tuple[str, ...], bool]:
    lost = dict.fromkeys(what for function in reached for what in lost_in_code(function))
    changed = converted_in_code if dialect == "sqlite" else narrowed_in_code
    lost |= dict.fromkeys(what for function in reached for what in changed(function))
    commits = any(map(_commits, reached)) if reached else _AUTOCOMMIT.encode() in source
    if _OPERATIONS in source and dialect == "postgresql":
        commits = commits or any(is_safe_call(node) for function in reached for node in ast.walk(function))
    return tuple(lost), _risks(reached), commits


def _risks(reached: Iterable[Function], earlier: Sequence[Function] = ()) -> tuple[str, ...]:
    return tuple(dict.fromkeys(what for function in reached for what in required_in_code(function, earlier)))


def _before(step: Step, steps: Sequence[Step]) -> Iterator[Step]:
    """Yield the earlier steps of the same package."""
    for other in steps:
        if other is step:
            return
        if other.revision.package == step.revision.package:
            yield other


def _functions(step: Step) -> Iterator[Function]:
    """Yield the functions of a file that its step runs; none if the file cannot be read."""
    with suppress(OSError, SyntaxError, ValueError, RecursionError):
        yield from reachable(functions(read_bytes(step.revision.file)), step.direction.value)


def _commits(function: Function) -> bool:
    """Return whether a function ends its transaction early."""
    return any(
        (isinstance(node, ast.Attribute) and node.attr in _ENDINGS)
        or (isinstance(node, ast.Call) and called(node) == "backfill")
        or (isinstance(node, ast.Constant) and isinstance(node.value, str) and ENDS_TRANSACTION.match(node.value))
        for node in ast.walk(function)
    )
