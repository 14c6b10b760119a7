"""The text of the results of upgrades, downgrades, plans, and stamps."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace
from functools import partial
from shlex import quote

import click

from ampho._text import counted, listed
from ampho.cli.databases import databases, selection
from ampho.cli.lines import say
from ampho.cli.reporter import PACKAGES, in_databases, in_seconds, nothing_to_do
from ampho.cli.show import print_text, version_rows
from ampho.cli.show.tables import Cell, Layout, draw
from ampho.history.revision import Phase, id_prefix
from ampho.migrate.plan import Cause, Direction, InTransaction, Plan, Run, Step
from ampho.migrate.stamp import Stamped
from ampho.settings import CONFIRM

_BEFORE_QUESTION = 40  # the maximum number of steps listed before a question
_WIDE_MESSAGE = 40  # the minimum width of a message next to other columns
_NARROW_MESSAGE = 24  # the minimum width of a message with notes below it
_TRANSACTIONS = {
    InTransaction.PARTLY: "partly outside a transaction",
    InTransaction.NONE: "not in a transaction",
}


@print_text.register
def _(run: Run, ctx: click.Context) -> None:
    if run.plan.steps:
        verb = "Applied" if run.plan.direction is Direction.UPGRADE else "Reverted"
        others = len(run.plan.steps) - len(run.steps)  # on SQLite, another process may have run some of the steps
        rest = f"; another process ran the other {others}" if others else ""
        say(f"{verb} {counted(len(run.steps))} in {in_seconds(run.duration)}{rest}.", colors={verb: "green"})
    _print_held_back(run.plan, stderr=False)


def _print_held_back(plan: Plan, *, stderr: bool) -> None:
    """Print the revisions that a plan leaves for phase ``post``."""
    found: dict[str, tuple[Step, list[str]]] = {}
    for step in plan.held_back:
        names = found.setdefault(step.revision.id, (step, []))[1]
        if plan.is_of_several:
            names.append(step.database)
    print_held_back(found.values(), stderr=stderr)


def print_held_back(held_back: Iterable[tuple[Step, Sequence[str]]], *, stderr: bool = False) -> None:
    """Print the steps that are left for phase ``post``, each once.

    :param held_back: the steps, each with the names of its databases, if the app has several.
    """
    steps = [(step, tuple(names)) for step, names in held_back]
    if not steps:
        return
    width = max(len(step.revision.id) for step, _ in steps)
    is_same = len({names for _, names in steps}) == 1
    everywhere = _where(steps[0][1]) if is_same else ""
    say(f"Held back{everywhere} for 'ampho db-up --phase post{selection()}':", err=stderr)
    for step, names in steps:
        why = _phase(step) if step.phase is Phase.POST else "because of what it depends on"
        text = f"  {step.revision.id:<{width}}  {step.revision.message} ({why}){'' if is_same else _where(names)}"
        say(text, err=stderr, hang=width + 4)


def _where(databases: Sequence[str]) -> str:
    """Return the names of databases as a phrase, or if there are many, their number; empty if there are none."""
    names = ", ".join(databases) if len(databases) <= PACKAGES else f"{len(databases):,} databases"
    return f" in {names}" if databases else ""


def _phase(step: Step) -> str:
    """Return the phase of a step, and the reason."""
    return f"{step.phase}, inferred: {step.phase_reason}" if step.is_phase_inferred else f"{step.phase}"


@print_text.register
def _(stamped: Stamped, ctx: click.Context) -> None:
    if stamped.verified:
        say("The database is as these revisions make it.")
    for note in stamped.notes:
        say(f"Note: {note}", hang=2)
    for revision_id in stamped.recorded:
        say(f"Recorded that {revision_id} is applied, with its current file.")
    if stamped.before != stamped.after:
        say(f"Before: {version_rows(stamped.before)}", hang=8)
        say(f"Now:    {version_rows(stamped.after)}", hang=8)
        if stamped.verified is False:
            say("Nothing was compared with the database. To do that first, add --verify.")
    elif not stamped.recorded:
        say("Nothing to do: the version table already records this.")


@print_text.register
def _(plan: Plan, ctx: click.Context) -> None:
    print_plan(plan, databases(ctx) or ())


def print_plan(plan: Plan, selected: Sequence[str] = (), *, before_question: bool = False) -> None:
    """Print the steps of a plan, and a summary.

    :param selected: the names and patterns by which the user selected databases, if any.
    :param before_question: whether to print only the first steps, to standard error, because a question follows.
    """
    stderr = before_question
    if not plan.steps:
        say(nothing_to_do(plan, selected), err=stderr)
        _print_held_back(plan, stderr=stderr)
        return
    command = "db-up" if plan.direction is Direction.UPGRADE else "db-down"
    what = f"{counted(len(plan.steps))} of {listed(plan.packages, PACKAGES)}{in_databases(plan)}"
    limit = f" --phase {plan.phase}" if plan.phase else ""
    say(f"Plan ({command} {plan.specifier}{limit}): {what}", err=stderr)
    shown = replace(plan, steps=plan.steps[:_BEFORE_QUESTION]) if before_question else plan
    layouts = [partial(layout, shown) for layout in (_wide, _middle, _narrow)]
    if draw([*layouts, partial(_narrow, shown, stacked=True)], stderr=stderr):
        say("If a step has no note, you asked for it, and it runs in a transaction.", err=stderr)
    if len(shown.steps) < len(plan.steps):
        say(f"and {len(plan.steps) - len(shown.steps)} more; --plan lists all of them", err=stderr)
    for line in summary(plan, of_scripts=not before_question):
        say(line, err=stderr)
    _print_held_back(plan, stderr=stderr)
    for step in plan.steps:
        if source := step.revision.source:
            say(f"The file of {step.revision.id} is missing. This is its source in the journal:", err=stderr)
            for line in source.splitlines():
                say(f"    {line}".rstrip(), err=stderr)


def _wide(plan: Plan) -> Layout:
    titles = (
        *(">#", "Database", "Revision", "Package", "Why", "Phase", "Transaction", "May lose data", "May fail on rows"),
        "Message",
    )
    rows: list[tuple[Cell, ...]] = []
    for number, step in enumerate(plan.steps, 1):
        revision = step.revision
        transaction = [(step.in_transaction or "-", _color(step))]
        losses = [("; ".join(step.losses) or "-", "red" if step.losses else "")]
        risks = [("; ".join(step.risks) or "-", "yellow" if step.risks else "")]
        where = (step.database, revision.id, revision.package)
        phase = f"{step.phase or ''}{' (inferred)' if step.is_phase_inferred else ''}"
        rows.append((str(number), *where, step.reason, phase, transaction, losses, risks, revision.message))
    hidden = [] if any(step.risks for step in plan.steps) else ["May fail on rows"]
    hidden += [] if any(step.phase is Phase.POST for step in plan.steps) else ["Phase"]
    return _without(Layout(titles, rows), hidden if len(plan.databases) > 1 else [*hidden, "Database"])


def _without(layout: Layout, titles: Collection[str]) -> Layout:
    """Return a table without some of its columns."""
    kept = [number for number, title in enumerate(layout.titles) if title not in titles]
    rows = [[row[number] for number in kept] for row in layout.rows]
    return Layout([layout.titles[number] for number in kept], rows, least=layout.least)


def _middle(plan: Plan) -> Layout:
    """Return a table without the columns that contain nothing unusual."""
    wide = _wide(plan)
    usual = {"Package": True, "Why": True, "Transaction": True, "May lose data": True}
    for step in plan.steps:
        usual["Package"] &= step.revision.id.startswith(id_prefix(step.revision.package))
        usual["Why"] &= step.cause is Cause.ASKED
        usual["Transaction"] &= step.in_transaction not in _TRANSACTIONS
        usual["May lose data"] &= not step.losses
    unusual = _without(wide, [title for title, is_usual in usual.items() if is_usual])
    return replace(unusual, least=_WIDE_MESSAGE)


def _narrow(plan: Plan, *, stacked: bool = False) -> Layout:
    """Return a table with notes on anything unusual below each message.

    :param stacked: whether to print each message below the id of its revision, instead of in its own column.
    """
    rows: list[tuple[Cell, ...]] = []
    for number, step in enumerate(plan.steps, 1):
        where = [(f"in {step.database}", "")] if len(plan.databases) > 1 else []
        below = [(step.revision.message, ""), *where, *notes(step)]
        cells = [_lines([(step.revision.id, "bold"), *below])] if stacked else [step.revision.id, _lines(below)]
        rows.append((str(number), *cells))
    return Layout((">#", "Revision", *(() if stacked else ("Message",))), rows, least=_NARROW_MESSAGE)


def notes(step: Step) -> list[tuple[str, str]]:
    """Return notes on everything that is unusual about a step, each with its style."""
    revision = step.revision
    notes = [] if revision.id.startswith(id_prefix(revision.package)) else [(f"of {revision.package}", "")]
    if step.cause is not Cause.ASKED:
        notes.append((step.reason, "dim"))
    if step.in_transaction is not None and step.in_transaction in _TRANSACTIONS:
        notes.append((_TRANSACTIONS[step.in_transaction], _color(step)))
    if step.phase is Phase.POST:
        notes.append((f"phase post{' (inferred)' if step.is_phase_inferred else ''}", ""))
    if step.losses:
        notes.append((f"may lose data: {'; '.join(step.losses)}", "red"))
    if step.risks:
        notes.append((f"may fail on a table with rows: {'; '.join(step.risks)}", "yellow"))
    return notes


def _lines(parts: Sequence[tuple[str, str]]) -> Cell:
    """Return a cell with each part on its own line. Empty parts are omitted."""
    filled = [part for part in parts if part[0]]
    return [(f"\n{text}" if number else text, style) for number, (text, style) in enumerate(filled)]


def _color(step: Step) -> str:
    return "yellow" if step.in_transaction in _TRANSACTIONS else ""


def summary(plan: Plan, *, of_scripts: bool = True) -> list[str]:
    """Return lines on what is unusual about a plan as a whole.

    :param of_scripts: whether to say what a script needs to run the plan.
    """
    lines = []
    if plan.along:
        many = [sum(step.revision.package == package for step in plan.steps) for package in plan.along]
        names = [f"{package} ({number})" for package, number in zip(plan.along, many, strict=True)]
        lines.append(
            f"Also {'applies' if plan.direction is Direction.UPGRADE else 'reverts'}: {listed(names, PACKAGES)}"
        )
    lossy = sum(bool(step.losses) for step in plan.steps)
    if lossy:
        lines.append(f"May lose data: {counted(lossy)}")
    if risky := sum(bool(step.risks) for step in plan.steps):
        lines.append(f"May fail on a table with rows: {counted(risky)}")
    open_ = sum(step.in_transaction in _TRANSACTIONS for step in plan.steps)
    if open_:
        do, them = ("does", "it") if open_ == 1 else ("do", "them")
        lines.append(
            f"{counted(open_)} {do} not run entirely in a transaction; a failure may leave {them} partly applied"
        )
    if len(plan.databases) > 1:
        lines.append("The databases do not share a transaction: if one fails, the others keep what was applied")
    if plan.protected:
        lines.append(f"The database {plan.protected} is protected: you must confirm its name")
        if of_scripts:
            lines.append(f"Without a terminal, also set {CONFIRM}={quote(f'{plan.protected}:{plan.fingerprint}')}")
    return lines
