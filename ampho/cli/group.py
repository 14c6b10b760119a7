"""How the group parses and fails: ``-1`` is an argument, and each error is one line and an exit code."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import click

from ampho._describe import escaped_lines, printable
from ampho._suggest import did_you_mean, sentences
from ampho.cli.completion import specifiers
from ampho.cli.driver import Terminated
from ampho.cli.help import CHANGING, write_commands, write_examples
from ampho.cli.json_output import FLAG, LONGEST_MESSAGE, ask, json_errors, keeping_stdout
from ampho.cli.lines import say, warn, warning_once
from ampho.cli.streams import lasting, lost
from ampho.cli.terminal import no_color_option
from ampho.errors import AmphoError, AppNotFoundError

_STEPS_BACK = re.compile(r"\A-(?=[0-9]+\Z)")
_ELSEWHERE = {
    "migrate": "db-rev",
    "makemigrations": "db-rev",
    "revision": "db-rev",
    "autogenerate": "db-rev",
    "upgrade": "db-up",
    "downgrade": "db-down",
    "history": "db-show",
    "showmigrations": "db-status",
}
"""What other tools call it."""
_MINUS = "\N{MINUS SIGN}"


if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

    _StrType = click.ParamType[str]
else:
    _StrType = click.ParamType  # generic from Click 8.4 on


class Failure(click.ClickException):
    """An error as Click shows it: one line on standard error, and on a terminal where there is more about it.

    :ivar page: the entry in the index of errors; empty if there is none.
    """

    def __init__(self, message: str, exit_code: int, page: str = "") -> None:
        super().__init__(message)
        self.__dict__["exit_code"] = exit_code  # Click has it on the class
        self.page = page

    def show(self, file: IO[Any] | None = None) -> None:
        for line in f"Error: {self.message}".split("\n"):
            say(line, err=True)
        if self.page and sys.stderr.isatty():  # in a pipe an error is one line
            say(f"More: {address(self.page)}", err=True)


def address(page: str) -> str:
    """Return where a page is to be found: on the web if the package says where, else installed, or in the sources."""
    from importlib.metadata import PackageNotFoundError, metadata

    with suppress(PackageNotFoundError):
        for line in metadata("ampho").get_all("Project-URL") or ():
            label, _, url = line.partition(", ")
            if label == "Documentation":
                return f"{url.rstrip('/')}/{page.replace('.md', '.html')}"
    installed = Path(__file__).parent.parent / page.partition("#")[0]
    return f"{installed.parent}{os.sep}{page}" if installed.exists() else f"docs/{page}"


@contextmanager
def one_line_errors() -> Iterator[None]:
    """Show an error of Ampho, or an interruption, as one line."""
    try:
        yield
    except AppNotFoundError as exc:
        said = _no_app(exc) if exc.tried else printable(str(exc), LONGEST_MESSAGE)
        raise Failure(said, exc.exit_code, exc.page) from exc
    except AmphoError as exc:
        raise Failure(printable(str(exc), LONGEST_MESSAGE), exc.exit_code, exc.page) from exc
    except click.ClickException as exc:
        exc.__dict__["message"] = escaped_lines(exc.message)  # which is final
        raise
    except Terminated as exc:
        raise Failure("Terminated. What was running was rolled back where the database can.", 143) from exc
    except KeyboardInterrupt as exc:
        raise Failure("Interrupted. What was running was rolled back where the database can.", 130) from exc
    except click.Abort as exc:
        if not isinstance(exc.__context__, KeyboardInterrupt):  # but the end of the input
            raise
        say(err=True)  # a terminal leaves its ^C behind the question
        raise Failure("Interrupted. Nothing was changed.", 130) from exc.__context__


def _no_app(exc: AppNotFoundError) -> str:
    """Say what was tried, and how to say it; in a few lines, since whoever reads that is new here."""
    context = click.get_current_context(silent=True)
    command = f" {context.invoked_subcommand}" if context and context.invoked_subcommand else " COMMAND"
    ways = {f"ampho --app NAME{command}": "", f"AMPHO_APP=NAME ampho{command}": "or that variable in a file .flaskenv"}
    width = max(map(len, ways))
    return "\n".join(
        [
            "No app found. This was tried, in this order:",
            *(f"  {printable(line, 1000)}" for line in exc.tried),
            "Say which it is, where NAME is module, module:name, path/to/file.py or module:create_app():",
            *(f"  {way:<{width}}  {note}".rstrip() for way, note in ways.items()),
        ]
    )


class SpecifierType(_StrType):
    """A specifier; gives ``-1`` its own sign back."""

    name = "spec"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        return str(value).replace(_MINUS, "-")

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        return specifiers(ctx, param, incomplete)


class SpecifierCommand(click.Command):
    """A command among whose arguments ``-1`` is a specifier and no option; ``--cascad`` stays an unknown option."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.params.append(no_color_option())

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        try:
            return super().parse_args(ctx, [_STEPS_BACK.sub(_MINUS, arg) for arg in args])
        except click.UsageError as exc:
            if FLAG in args:  # which may not have been read yet
                ask(ctx)
            if isinstance(exc, click.NoSuchOption) and (way := _way(exc.option_name, ctx)):
                raise click.UsageError(f"{exc.option_name} goes before the command, as in '{way}'.", ctx) from exc
            raise

    def invoke(self, ctx: click.Context) -> Any:
        with _complete(ctx), keeping_stdout(ctx):
            return super().invoke(ctx)

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        write_examples(ctx, formatter)


@contextmanager
def _complete(ctx: click.Context) -> Iterator[None]:
    """Raise an error if the output could not be written; only warn of it if the command has changed something."""
    try:
        yield
    except click.exceptions.Exit as exc:
        if exc.exit_code:
            raise
    error = lost()
    if error is None:
        return
    said = f"Standard output cannot be written to: {error.strerror}."
    if ctx.info_name not in CHANGING or ctx.params.get("sql") or ctx.params.get("planned"):
        raise Failure(said, 1)
    warn(f"{said} The command has done its work.")


def _way(option: str, ctx: click.Context) -> str:
    """Return how an option with a value, such as ``--app``, is typed where a group before the command has it."""
    group = ctx.parent
    while group is not None:
        for param in group.command.params:
            if option in param.opts and not getattr(param, "is_flag", True):
                after = ctx.command_path.removeprefix(group.command_path)
                return f"{group.command_path} {option} {param.metavar or '...'}{after}"
        group = group.parent
    return ""


class AmphoGroup(click.Group):
    """A group whose errors are one line, wherever it is mounted."""

    command_class: type[click.Command] | None = SpecifierCommand

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        commands = {name: self.get_command(ctx, name) for name in self.list_commands(ctx)}
        write_commands({name: each for name, each in commands.items() if each and not each.hidden}, formatter)

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        write_examples(ctx, formatter)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if self.get_command(ctx, args[0]) is None and not ctx.resilient_parsing and args[0][:1].isalnum():
            if FLAG in args:
                ask(ctx)
            ctx.invoked_subcommand = args[0]
            typed = args[0].removeprefix("db-").removeprefix("db_")
            meant = did_you_mean(_ELSEWHERE.get(typed, f"db-{typed}"), self.list_commands(ctx))
            ctx.fail(sentences(f"No such command {args[0]!r}.", meant))
        return super().resolve_command(ctx, args)

    def make_context(
        self, info_name: str | None, args: list[str], parent: click.Context | None = None, **extra: Any
    ) -> click.Context:
        with one_line_errors():
            return super().make_context(info_name, args, parent, **extra)

    def invoke(self, ctx: click.Context) -> Any:
        with lasting(), warning_once(), json_errors(ctx), one_line_errors():
            return super().invoke(ctx)
