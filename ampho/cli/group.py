"""How the group parses and fails: ``-1`` is an argument, and each error is one line and an exit code."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click

from ampho._describe import printable
from ampho._suggest import did_you_mean, sentences
from ampho.cli.driver import Terminated
from ampho.cli.json_output import FLAG, ask, json_errors, keeping_stdout
from ampho.errors import AmphoError

_STEPS_BACK = re.compile(r"-(?=[0-9]+\Z)")
_MINUS = "\N{MINUS SIGN}"


if TYPE_CHECKING:
    _StrType = click.ParamType[str]
else:
    _StrType = click.ParamType  # generic from Click 8.4 on


class Failure(click.ClickException):
    """An error as Click shows it: one line on standard error."""

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.__dict__["exit_code"] = exit_code  # Click has it on the class


@contextmanager
def one_line_errors() -> Iterator[None]:
    """Show an error of Ampho, or an interruption, as one line."""
    try:
        yield
    except AmphoError as exc:
        raise Failure(printable(str(exc), 20_000), exc.exit_code) from exc
    except Terminated as exc:
        raise Failure("Terminated. What was running was rolled back where the database can.", 143) from exc
    except KeyboardInterrupt as exc:
        raise Failure("Interrupted. What was running was rolled back where the database can.", 130) from exc


class SpecifierType(_StrType):
    """A specifier; gives ``-1`` its own sign back."""

    name = "spec"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        return str(value).replace(_MINUS, "-")


class SpecifierCommand(click.Command):
    """A command among whose arguments ``-1`` is a specifier and no option; ``--cascad`` stays an unknown option."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        try:
            return super().parse_args(ctx, [_STEPS_BACK.sub(_MINUS, arg) for arg in args])
        except click.UsageError:
            if FLAG in args:  # which may not have been read yet
                ask(ctx)
            raise

    def invoke(self, ctx: click.Context) -> Any:
        with keeping_stdout(ctx):
            return super().invoke(ctx)


class AmphoGroup(click.Group):
    """A group whose errors are one line, wherever it is mounted."""

    command_class: type[click.Command] | None = SpecifierCommand

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if self.get_command(ctx, args[0]) is None and not ctx.resilient_parsing and args[0][:1].isalnum():
            if FLAG in args:
                ask(ctx)
            ctx.invoked_subcommand = args[0]
            ctx.fail(sentences(f"No such command {args[0]!r}.", did_you_mean(args[0], self.list_commands(ctx))))
        return super().resolve_command(ctx, args)

    def make_context(
        self, info_name: str | None, args: list[str], parent: click.Context | None = None, **extra: Any
    ) -> click.Context:
        with one_line_errors():
            return super().make_context(info_name, args, parent, **extra)

    def invoke(self, ctx: click.Context) -> Any:
        with json_errors(ctx), one_line_errors():
            return super().invoke(ctx)
