"""What ``--plan`` prints, and what ``db-down`` shows before it asks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

from ampho._text import counted, listed
from ampho.cli.lines import say
from ampho.cli.show.output import PACKAGES, nothing_to_do
from ampho.cli.show.tables import Cell, Layout, draw
from ampho.history.revision import id_prefix
from ampho.migrate.plan import Cause, Direction, InTransaction, Plan, Step

_ASKED_OF = 40  # steps that are listed before a question
_ENOUGH = 40  # columns for messages beside everything else
_LEAST = 24  # columns for messages
_TRANSACTIONS = {
    InTransaction.PARTLY: "partly outside a transaction",
    InTransaction.NONE: "not in a transaction",
}


def print_plan(plan: Plan, *, before_question: bool = False) -> None:
    """Print the steps of a plan, and what is to know of them.

    :param before_question: whether a question follows: then it is no data, and of many steps the first are enough.
    """
    stderr = before_question
    if not plan.steps:
        say(nothing_to_do(plan), err=stderr)
        return
    command = "db-up" if plan.direction is Direction.UPGRADE else "db-down"
    what = f"{counted(len(plan.steps))} of {listed(plan.packages, PACKAGES)}"
    say(f"Plan ({command} {plan.specifier}): {what}", err=stderr)
    shown = replace(plan, steps=plan.steps[:_ASKED_OF]) if before_question else plan
    layouts = [partial(layout, shown) for layout in (_wide, _middle, _narrow, _stacked)]
    if draw(layouts, stderr=stderr):
        say("Steps without a note were asked for, and run in a transaction.", err=stderr)
    if len(shown.steps) < len(plan.steps):
        say(f"and {len(plan.steps) - len(shown.steps)} more; --plan lists all of them", err=stderr)
    for text in _sums(plan):
        say(text, err=stderr)


def _wide(plan: Plan) -> Layout:
    titles = (">#", "Revision", "Package", "Why", "Transaction", "May lose data", "Message")
    rows = [_row(number, step) for number, step in enumerate(plan.steps, 1)]
    return Layout(titles, rows)


def _row(number: int, step: Step) -> tuple[Cell, ...]:
    revision = step.revision
    transaction = [(step.in_transaction or "-", _colour(step))]
    losses = [("; ".join(step.losses) or "-", "red" if step.losses else "")]
    return str(number), revision.id, revision.package, step.reason, transaction, losses, revision.message


def _middle(plan: Plan) -> Layout:
    """Leave out the columns that say of no step what is out of the ordinary."""
    wide = _wide(plan)
    ordinary = {"Package": True, "Why": True, "Transaction": True, "May lose data": True}
    for step in plan.steps:
        ordinary["Package"] &= step.revision.id.startswith(id_prefix(step.revision.package))
        ordinary["Why"] &= step.cause is Cause.ASKED
        ordinary["Transaction"] &= step.in_transaction not in _TRANSACTIONS
        ordinary["May lose data"] &= not step.losses
    kept = [number for number, title in enumerate(wide.titles) if not ordinary.get(title)]
    rows = [[row[number] for number in kept] for row in wide.rows]
    return Layout([wide.titles[number] for number in kept], rows, least=_ENOUGH)


def _narrow(plan: Plan) -> Layout:
    """Say below each message what goes without saying nowhere else."""
    rows = [
        (str(number), step.revision.id, _lines([(step.revision.message, ""), *_notes(step)]))
        for number, step in enumerate(plan.steps, 1)
    ]
    return Layout((">#", "Revision", "Message"), rows, least=_LEAST)


def _stacked(plan: Plan) -> Layout:
    """Say that below the id, and the message, too."""
    rows = [
        (str(number), _lines([(step.revision.id, "bold"), (step.revision.message, ""), *_notes(step)]))
        for number, step in enumerate(plan.steps, 1)
    ]
    return Layout((">#", "Revision"), rows, least=_LEAST)


def _notes(step: Step) -> list[tuple[str, str]]:
    """Return what is out of the ordinary, each with its style."""
    revision = step.revision
    notes = [] if revision.id.startswith(id_prefix(revision.package)) else [(f"of {revision.package}", "")]
    if step.cause is not Cause.ASKED:
        notes.append((step.reason, "dim"))
    if step.in_transaction is not None and step.in_transaction in _TRANSACTIONS:
        notes.append((_TRANSACTIONS[step.in_transaction], _colour(step)))
    if step.losses:
        notes.append((f"may lose data: {'; '.join(step.losses)}", "red"))
    return notes


def _lines(parts: Sequence[tuple[str, str]]) -> Cell:
    """Return a cell with each part on a line of its own, without those that are empty."""
    said = [part for part in parts if part[0]]
    return [(f"\n{text}" if number else text, style) for number, (text, style) in enumerate(said)]


def _colour(step: Step) -> str:
    return "yellow" if step.in_transaction in _TRANSACTIONS else ""


def _sums(plan: Plan) -> list[str]:
    """Return what matters of all steps together."""
    said = []
    if plan.along:
        many = [sum(step.revision.package == package for step in plan.steps) for package in plan.along]
        names = [f"{package} ({number})" for package, number in zip(plan.along, many, strict=True)]
        said.append(
            f"Also {'applies' if plan.direction is Direction.UPGRADE else 'reverts'}: {listed(names, PACKAGES)}"
        )
    lossy = sum(bool(step.losses) for step in plan.steps)
    if lossy:
        said.append(f"May lose data: {counted(lossy)}")
    open_ = sum(step.in_transaction in _TRANSACTIONS for step in plan.steps)
    if open_:
        said.append(f"Not fully in a transaction, so a failure may leave part of a change: {counted(open_)}")
    if plan.protected:
        said.append(f"The database {plan.protected} is protected: its name has to be confirmed")
    return said
