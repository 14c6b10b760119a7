"""A group of commands that is imported when it is called, and not with the app that has it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click


class LazyGroup(click.Group):
    """Stands in for a group.

    :param load: imports and returns it.
    """

    def __init__(self, name: str, help: str, load: Callable[[], click.Group]) -> None:  # noqa: A002 (Click's own word)
        super().__init__(name, help=help)
        self._load = load

    def make_context(self, *args: Any, **kwargs: Any) -> click.Context:  # noqa: ANN401, D102 (Click's signature)
        return self._load().make_context(*args, **kwargs)

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: D102
        return self._load().list_commands(ctx)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: D102
        return self._load().get_command(ctx, cmd_name)

    def invoke(self, ctx: click.Context) -> Any:  # noqa: ANN401, D102
        return ctx.command.invoke(ctx) if ctx.command is not self else super().invoke(ctx)
