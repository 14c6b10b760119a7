"""The options of ``db-up`` for groups of databases."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import click

Command = TypeVar("Command", bound=Callable[..., object])

_JOBS = 4  # the maximum number of worker processes if none was given


@dataclass(frozen=True)
class Options:
    """The options of ``db-up`` for many databases.

    :ivar jobs: the number of worker processes.
    :ivar canary: how many databases to upgrade first, or the name of one; None if there is no canary.
    :ivar keep_going: whether to go on after failures.
    :ivar max_failures: the number of failures after which nothing new begins.
    :ivar create: whether to create missing databases and schemas.
    """

    jobs: int | None = None
    canary: int | str | None = None
    keep_going: bool = False
    max_failures: int | None = None
    create: bool = False

    @property
    def of_groups(self) -> str:
        """The first of the options that only groups have; empty if none was given."""
        given = {"--jobs": self.jobs, "--canary": self.canary, "--max-failures": self.max_failures}
        return next((name for name, value in given.items() if value is not None), "")

    @property
    def first(self) -> str:
        """The first of all options; empty if none was given."""
        return self.of_groups or ("--keep-going" if self.keep_going else "--create" if self.create else "")

    @property
    def limit(self) -> int | None:
        """The number of failures after which nothing new begins; None if there is no limit."""
        return self.max_failures or (None if self.keep_going else 1)

    @property
    def processes(self) -> int:
        """The maximum number of worker processes."""
        return self.jobs or min(_JOBS, os.cpu_count() or 1)

    def is_canary(self, database: str) -> bool:
        """Return whether ``--canary`` names a database, with its group or without."""
        return self.canary in (database, database.partition("/")[2])


def fleet_options(command: Command) -> Command:
    """Add the options for many databases to a command, which gets them as ``jobs``, ``canary``, and so on."""
    many = click.IntRange(min=1)
    for option in (
        click.option("--create", is_flag=True, help="Create databases and schemas that do not exist yet."),
        click.option("--max-failures", type=many, metavar="N", help="Go on after failures, but stop after N."),
        click.option(
            "--canary",
            metavar="N|NAME",
            callback=_read_canary,
            help="In a group, begin with N databases, or with the one with this name, and stop there if one fails.",
        ),
        click.option(
            "-j", "--jobs", type=many, metavar="N", help=f"In a group, use N processes; by default, up to {_JOBS}."
        ),
    ):
        command = option(command)
    return command


def _read_canary(ctx: click.Context, parameter: click.Parameter, value: str | None) -> int | str | None:
    if value is not None and value.strip("0") == "":
        raise click.BadParameter("Use a number of at least 1, or the name of a database.")
    return int(value) if value and value.isdecimal() else value
