"""What ``--plan`` prints, and what ``db-down`` shows before it asks."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import click

from ampho._describe import listed
from ampho.cli.lines import say
from ampho.cli.output import PACKAGES, nothing_to_do
from ampho.cli.tables import draw, table
from ampho.observer import counted
from ampho.plan import Cause, Direction, InTransaction, Plan, Step
from ampho.revision import id_prefix

if TYPE_CHECKING:
    from rich.table import Table
    from rich.text import Text

_TRANSACTIONS = {
    InTransaction.PARTLY: "partly outside of a transaction",
    InTransaction.NONE: "not in a transaction",
}


def print_plan(plan: Plan, *, stderr: bool = False) -> None:
    """Print the steps of a plan, and what is to know of them.

    :param stderr: whether it is said before a question, and so is no data.
    """
    if not plan.steps:
        click.echo(nothing_to_do(plan), err=stderr)
        return
    from ampho.cli.terminal import console

    command = "db-up" if plan.direction is Direction.UPGRADE else "db-down"
    what = f"{counted(len(plan.steps))} of {listed(plan.packages, PACKAGES)}"
    say(f"Plan ({command} {plan.specifier}): {what}", err=stderr)
    if draw(console(stderr=stderr), [partial(layout, plan) for layout in (_wide, _narrow)]):
        click.echo("Where nothing else is said, it was asked for, and runs in a transaction.", err=stderr)
    for text in _sums(plan):
        say(text, err=stderr)


def _wide(plan: Plan) -> Table:
    made = table(">#", "Revision", "Package", "Why", "Transaction", "May lose data", "Message")
    for number, step in enumerate(plan.steps, 1):
        revision = step.revision
        transaction = _text(step.in_transaction or "-", _colour(step))
        losses = _text("; ".join(step.losses) or "-", "red" if step.losses else "")
        made.add_row(str(number), revision.id, revision.package, step.reason, transaction, losses, revision.message)
    return made


def _narrow(plan: Plan) -> Table:
    """Make a table that says below each message what goes without saying nowhere else."""
    made = table(">#", "Revision", "Message")
    for number, step in enumerate(plan.steps, 1):
        revision = step.revision
        said = _text(revision.message)
        notes = [] if revision.id.startswith(id_prefix(revision.package)) else [(f"of {revision.package}", "")]
        if step.cause is not Cause.ASKED:
            notes.append((step.reason, "dim"))
        if step.in_transaction in _TRANSACTIONS:
            notes.append((_TRANSACTIONS[step.in_transaction], _colour(step)))
        if step.losses:
            notes.append((f"may lose data: {'; '.join(step.losses)}", "red"))
        for note, style in notes:
            said.append(f"\n{note}", style)
        made.add_row(str(number), revision.id, said)
    return made


def _colour(step: Step) -> str:
    return "yellow" if step.in_transaction in _TRANSACTIONS else ""


def _sums(plan: Plan) -> list[str]:
    """Return what matters of all steps together."""
    said = []
    if plan.along:
        many = [sum(step.revision.package == package for step in plan.steps) for package in plan.along]
        names = [f"{package} ({number})" for package, number in zip(plan.along, many, strict=True)]
        said.append(f"{'Brought' if plan.direction is Direction.UPGRADE else 'Taken'} along: {listed(names, PACKAGES)}")
    lossy = sum(bool(step.losses) for step in plan.steps)
    if lossy:
        said.append(f"May lose data: {counted(lossy)}")
    open_ = sum(step.in_transaction in _TRANSACTIONS for step in plan.steps)
    if open_:
        said.append(f"Not wholly in a transaction, so that a failure may leave a part: {counted(open_)}")
    if plan.protected:
        said.append(f"Protected, so that its name has to be confirmed: the database {plan.protected}")
    return said


def _text(text: str, style: str = "") -> Text:
    from rich.text import Text

    return Text(text, style)
