"""How the group parses and fails: ``-1`` is an argument, and each error is one line and an exit code."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import IO, TYPE_CHECKING, Any

import click

from ampho._describe import printable
from ampho.cli.driver import Terminated
from ampho.errors import AmphoError

_STEPS_BACK = re.compile(r"\A-(?=[0-9]+\Z)")
_MINUS = "\N{MINUS SIGN}"


if TYPE_CHECKING:
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
        super().show(file)
        if self.page and sys.stderr.isatty():  # in a pipe an error is one line
            click.echo(f"More: {address(self.page)}", err=True)


def address(page: str) -> str:
    """Return where a page is to be found: on the web if the package says where, else in the sources."""
    from importlib.metadata import PackageNotFoundError, metadata

    with suppress(PackageNotFoundError):
        for line in metadata("ampho").get_all("Project-URL") or ():
            label, _, url = line.partition(", ")
            if label == "Documentation":
                return f"{url.rstrip('/')}/{page.replace('.md', '.html')}"
    return f"docs/{page}"


@contextmanager
def one_line_errors() -> Iterator[None]:
    """Show an error of Ampho, or an interruption, as one line."""
    try:
        yield
    except AmphoError as exc:
        raise Failure(printable(str(exc), 20_000), exc.exit_code, exc.page) from exc
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
        return super().parse_args(ctx, [_STEPS_BACK.sub(_MINUS, arg) for arg in args])


class AmphoGroup(click.Group):
    """A group whose errors are one line, wherever it is mounted."""

    command_class: type[click.Command] | None = SpecifierCommand

    def make_context(
        self, info_name: str | None, args: list[str], parent: click.Context | None = None, **extra: Any
    ) -> click.Context:
        with one_line_errors():
            return super().make_context(info_name, args, parent, **extra)

    def invoke(self, ctx: click.Context) -> Any:
        with one_line_errors():
            return super().invoke(ctx)
