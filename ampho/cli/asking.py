"""Ask the questions of autogenerate on a terminal."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, TypeAlias

import click

from ampho._text import escaped
from ampho.cli.json import wants_json
from ampho.cli.lines import say
from ampho.cli.terminal import can_ask, is_terminal
from ampho.errors import RevisionInputError

if TYPE_CHECKING:
    from ampho.revise.autogenerate.ask.questions import Question
    from ampho.revise.autogenerate.generate import Generated

Generate: TypeAlias = Callable[[tuple[str, ...], tuple[str, ...], bool], tuple["Generated", ...]]
"""A function that generates revisions.

Its arguments are the values of ``--rename``, the values of ``--fill``, and whether the user will be asked questions.
"""


def generated(
    ctx: click.Context, generate: Generate, rename: tuple[str, ...], fill: tuple[str, ...]
) -> tuple[Generated, ...]:
    """Generate revisions, and ask the user all open questions. Without a terminal, ask nothing."""
    asks = _can_ask(ctx)
    answered: set[str] = set()
    while True:
        found = generate(rename, fill, asks)
        new = [each for one in found for each in one.questions if asks and each.name not in answered]
        if not new:
            return found if not asks or _is_written(found) else generate(rename, fill, not asks)
        for question in list(_at_once(new)):
            answered.add(question.name)
            answer = _ask(question)
            if question.option == "--rename":
                rename += (question.answer(answer),)
            elif answer:
                fill += (question.answer(answer),)


def _can_ask(ctx: click.Context) -> bool:
    is_interactive = can_ask() and is_terminal() and not os.environ.get("CI")
    return is_interactive and not wants_json(ctx) and not ctx.params["dry_run"]


def _is_written(found: Iterable[Generated]) -> bool:
    return not any(each.questions for each in found)


def _at_once(questions: Iterable[Question]) -> Iterator[Question]:
    """Yield the questions that can be asked before any others are answered; questions about tables come first."""
    tables = [each for each in questions if each.object == "table"]
    renames = [each for each in questions if each.option == "--rename"]
    taken: set[tuple[str, str]] = set()
    for each in tables or renames or questions:
        choices = {(each.name.rpartition(".")[0], choice) for choice in each.choices}
        if taken.isdisjoint(choices):
            yield each
        taken |= choices


def _ask(question: Question) -> str:
    """Ask a question, and return the answer; empty if there is none."""
    if len(question.choices) == 1:
        return question.choices[0] if click.confirm(escaped(question.text), err=True) else ""
    say(question.text, err=True)
    prompt = "The new name, or Enter if it was not renamed" if question.choices else "The value, or Enter for no value"
    while True:
        answer: str = click.prompt(prompt, default="", show_default=False, err=True)
        problem = _problem(question, answer)
        if not problem:
            return answer
        say(problem, err=True)


def _problem(question: Question, answer: str) -> str:
    """Return what is wrong with an answer, as a sentence; empty if the answer is valid."""
    if question.choices and answer not in ("", *question.choices):
        return f"{answer} is not one of {', '.join(question.choices)}."
    try:
        if answer and question.check is not None:
            question.check(answer)
    except RevisionInputError as exc:
        return str(exc)
    return ""
