"""The Click group, which accepts ``-1`` as an argument and prints each error as one line."""

from __future__ import annotations

import io
import os
import re
import shlex
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import IO, TYPE_CHECKING, Any

import click

from ampho._text import did_you_mean, escaped_lines, notes, one_line, printable, sentences
from ampho.cli.call import Terminated
from ampho.cli.completion import specifiers
from ampho.cli.databases import unquoted_pattern
from ampho.cli.help import CHANGING, write_commands, write_examples
from ampho.cli.json import FLAG, LONGEST_MESSAGE, json_errors, request_json, reserving_stdout, wants_json
from ampho.cli.lines import say, warn, warning_once
from ampho.cli.streams import output_error, safe_streams
from ampho.cli.terminal import is_terminal, no_color_option, refuses_colors
from ampho.errors import (
    AmphoError,
    AppNotFoundError,
    DatabaseNameError,
    DatabasesError,
    PackageError,
    RevisionInputError,
    SpecifierError,
    VerificationError,
)

_STEPS_BACK = re.compile(r"\A-(?=[0-9]+\Z)")
_OTHER_NAMES = {
    "migrate": "rev",
    "makemigrations": "rev",
    "revision": "rev",
    "autogenerate": "rev",
    "upgrade": "up",
    "downgrade": "down",
    "history": "show",
    "showmigrations": "status",
}
"""Names of commands in other tools, each with the name of Ampho's equivalent command without ``db-``."""
_MINUS = "\N{MINUS SIGN}"
_PREFIX = "db-"
_TYPED = "ampho.typed"
INPUT_ERRORS = (AppNotFoundError, PackageError, RevisionInputError, SpecifierError)
"""Errors in what the user typed. Their messages need no further explanation."""


if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

    _StrType = click.ParamType[str]
else:
    _StrType = click.ParamType  # generic from Click 8.4 on


class Failure(click.ClickException):
    """An error that Click prints as one line. On a terminal, a hint to use ``ampho explain`` follows.

    :ivar entry: the name of the error for ``ampho explain``; empty if the message is enough.
    """

    def __init__(self, message: str, exit_code: int, entry: str = "") -> None:
        super().__init__(message)
        self.__dict__["exit_code"] = exit_code  # Click declares exit_code as an attribute of the class
        self.entry = entry
        self._colors = _colors()

    def show(self, file: IO[Any] | None = None) -> None:
        for line in f"Error: {self.message}".split("\n"):
            say(line, err=True, colors=self._colors)
        if self.entry and is_terminal(stderr=True):  # in a pipe, an error is a single line
            say(f"More: ampho explain {self.entry}", err=True)


def _colors() -> Mapping[str, str]:
    # The context, which may refuse colors, no longer exists when Click shows an error.
    return {} if refuses_colors() else {"Error:": "red"}


def _show(show: Callable[[IO[str]], None], colors: Mapping[str, str], file: IO[Any] | None = None) -> None:
    """Print one of Click's errors in the same way as other errors.

    :param show: the method by which Click writes the error to a file.
    """
    text = io.StringIO()
    show(text)
    for line in text.getvalue().splitlines():
        say(line, err=True, colors=colors)


@contextmanager
def one_line_errors() -> Iterator[None]:
    """Turn errors of Ampho, and interruptions, into errors that Click prints as one line."""
    try:
        yield
    except AppNotFoundError as exc:
        message = _no_app(exc) if exc.tried else printable(str(exc), LONGEST_MESSAGE)
        raise Failure(message, exc.exit_code) from exc
    except (DatabasesError, VerificationError) as exc:
        message = "\n".join(printable(line, LONGEST_MESSAGE) for line in str(exc).split("\n"))
        raise Failure(message, exc.exit_code, exc.entry) from exc
    except AmphoError as exc:
        entry = "" if isinstance(exc, INPUT_ERRORS) else exc.entry
        raise Failure(printable(str(exc), LONGEST_MESSAGE), exc.exit_code, entry) from exc
    except click.ClickException as exc:
        exc.__dict__["message"] = escaped_lines(exc.message)  # Click declares the attribute as final
        if not isinstance(exc, Failure):
            exc.__dict__["show"] = partial(_show, exc.show, _colors())
        raise
    except Terminated as exc:
        raise Failure(f"Terminated. {_remains(exc)}", 143) from exc
    except KeyboardInterrupt as exc:
        raise Failure(f"Interrupted. {_remains(exc)}", 130) from exc
    except click.Abort as exc:
        if not isinstance(exc.__context__, KeyboardInterrupt):  # standard input has ended
            raise
        say(err=True)  # end the line on which the terminal shows ^C
        raise Failure("Interrupted. Nothing was changed.", 130) from exc.__context__


def _remains(interruption: KeyboardInterrupt) -> str:
    kept = one_line(notes(interruption))
    return kept or "A revision that was running was rolled back if the database supports that."


def _no_app(exc: AppNotFoundError) -> str:
    """Return the error message if no app is found. It has several lines, because its readers are often new to Ampho."""
    context = click.get_current_context(silent=True)
    typed = one_line(shlex.join(context.meta.get(_TYPED, ())), 200) if context else ""
    command = f" {typed or 'COMMAND'}"
    lines = [
        "No app found. Ampho tried the following, in this order:",
        *(f"  {printable(line, 1000)}" for line in exc.tried),
        "Name the app; NAME is module, module:name, path/to/file.py, or module:create_app():",
        f"  ampho --app NAME{command}",
        f"  AMPHO_APP=NAME ampho{command}  or set the variable in a .flaskenv file",
    ]
    return "\n".join(lines)


class SpecifierType(_StrType):
    """The type of SPEC. It restores the minus sign of ``-1``, which :class:`SpecifierCommand` replaces."""

    name = "spec"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        return str(value).replace(_MINUS, "-")

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        return specifiers(ctx, param, incomplete)


class SpecifierCommand(click.Command):
    """A command that reads ``-1`` as a specifier, not as an option."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.params.append(no_color_option())

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        try:
            return super().parse_args(ctx, [_STEPS_BACK.sub(_MINUS, arg) for arg in args])
        except click.UsageError as exc:
            if FLAG in args:  # Click may not have parsed the option yet
                request_json(ctx)
            if isinstance(exc, click.NoSuchOption) and (way := _before_command(exc.option_name, ctx)):
                raise click.UsageError(f"{exc.option_name} goes before the command, as in '{way}'.", ctx) from exc
            if isinstance(exc, click.NoSuchOption) and (meant := _of_other_tool(exc.option_name, ctx)):
                raise click.UsageError(f"No such option {exc.option_name!r}. Did you mean {meant}?", ctx) from exc
            if "unexpected extra argument" in exc.message and (pattern := unquoted_pattern(args)):
                raise click.UsageError(f"{exc.message}. {_quote(pattern)}", ctx) from exc
            raise

    def invoke(self, ctx: click.Context) -> Any:
        with _output_checked(ctx), reserving_stdout(ctx), _results_shown(ctx), _pattern_recognized(ctx):
            return super().invoke(ctx)

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        write_examples(ctx, formatter)


@contextmanager
def _results_shown(ctx: click.Context) -> Iterator[None]:
    """If the command failed on some of several databases, show the results of the others before the error."""
    try:
        yield
    except DatabasesError as exc:
        if ctx.info_name not in CHANGING and not wants_json(ctx):
            from ampho.cli.show import show_each

            show_each(ctx, exc.results)
        raise


@contextmanager
def _output_checked(ctx: click.Context) -> Iterator[None]:
    """Raise an error if the output cannot be written. If the command has changed something, only write a warning."""
    try:
        yield
    except click.exceptions.Exit as exc:
        if exc.exit_code:
            raise
    error = output_error()
    if error is None:
        return
    message = f"Cannot write to standard output: {error.strerror}."
    if ctx.info_name not in CHANGING or ctx.params.get("sql") or ctx.params.get("planned"):
        raise Failure(message, 1)
    warn(f"{message} The command itself succeeded.")


@contextmanager
def _pattern_recognized(ctx: click.Context) -> Iterator[None]:
    """If a name that was typed is not known, and the shell has replaced a pattern, say so in the error."""
    try:
        yield
    except (DatabaseNameError, SpecifierError) as exc:
        pattern = unquoted_pattern(ctx.meta.get(_TYPED, ()))
        is_file = isinstance(exc, DatabaseNameError) and os.path.lexists(exc.database)
        if pattern and ("/" in pattern or is_file):
            exc.args = (sentences(str(exc), _quote(pattern)),)
        raise


def _quote(pattern: str) -> str:
    return f"The shell replaced {pattern} with the names of files. Quote it, as in -d '{pattern}'."


def _before_command(option: str, ctx: click.Context) -> str:
    """Return a command line with an option such as ``--app`` before the command; empty if the option does not exist."""
    group = ctx.parent
    while group is not None:
        for param in group.command.params:
            if option in param.opts and not getattr(param, "is_flag", True):
                after = ctx.command_path.removeprefix(group.command_path)
                return f"{group.command_path} {option} {param.metavar or '...'}{after}"
        group = group.parent
    return ""


def _of_other_tool(option: str, ctx: click.Context) -> str:
    """Return what a command has instead of an option of Alembic, Flask-Migrate, or Django; empty if it has nothing."""
    params = ctx.command.params
    arguments = " ".join(param.human_readable_name for param in params if isinstance(param, click.Argument))
    if option in ("-m", "--message") and "MESSAGE" in arguments:
        return f"'{ctx.command_path} {arguments}'"
    if option == "--dry-run" and any("--plan" in param.opts for param in params):
        return "--plan"
    return "'ampho db-stamp'" if option == "--fake" and ctx.info_name == "db-up" else ""


class AmphoGroup(click.Group):
    """A group that prints each error as one line, even under ``flask`` and ``quart``."""

    command_class: type[click.Command] | None = SpecifierCommand

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.params.append(no_color_option())

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        commands = {name: self.get_command(ctx, name) for name in self.list_commands(ctx)}
        write_commands({name: each for name, each in commands.items() if each and not each.hidden}, formatter)

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        write_examples(ctx, formatter)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        ctx.meta[_TYPED] = args
        typed, *rest = args
        if f"{_PREFIX}{typed}" in self.commands:  # as in 'ampho up'
            return super().resolve_command(ctx, [f"{_PREFIX}{typed}", *rest])
        if self.get_command(ctx, typed) is None and not ctx.resilient_parsing and typed[:1].isalnum():
            if FLAG in rest:
                request_json(ctx)
            ctx.invoked_subcommand = typed
            name = rest[0] if typed == "db" and rest else typed  # as in 'flask db upgrade'
            bare = name.removeprefix(_PREFIX).removeprefix("db_")
            names = {name.removeprefix(_PREFIX): name for name in self.list_commands(ctx)}
            meant = did_you_mean(_OTHER_NAMES.get(bare, bare), names)
            ctx.fail(sentences(f"No such command {typed!r}.", meant))
        return super().resolve_command(ctx, args)

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Return completions for the names of commands, and for their short names if ``incomplete`` is not empty."""
        from click.shell_completion import CompletionItem

        found = super().shell_complete(ctx, incomplete)
        if not incomplete or incomplete.startswith("-"):
            return found
        short = {name.removeprefix(_PREFIX): command for name, command in self.commands.items()}
        full = {item.value for item in found}
        return found + [
            CompletionItem(name, help=command.get_short_help_str())
            for name, command in short.items()
            if name.startswith(incomplete) and name not in full
        ]

    def make_context(
        self, info_name: str | None, args: list[str], parent: click.Context | None = None, **extra: Any
    ) -> click.Context:
        with safe_streams(), one_line_errors():
            return super().make_context(info_name, args, parent, **extra)

    def invoke(self, ctx: click.Context) -> Any:
        with safe_streams(), warning_once(), json_errors(ctx), one_line_errors():
            return super().invoke(ctx)
