"""Mistakes in calls of commands. Type checkers have to report each line that ends with "wrong", and no others."""

# pyright: strict

from __future__ import annotations

import click

from ampho import Ampho, AsyncAmpho, Run
from ampho.cli.call import call
from ampho.commands import Commands


def on_flask(ampho: Ampho) -> str:
    ampho.upgrade(observr=None)  # wrong
    ampho.upgrade(specifier=1)  # wrong
    ampho.resolve("blog_1")  # wrong
    ampho.wait(60.0)  # wrong
    ampho.status("blog", all="yes")  # wrong
    return ampho.upgrade()  # wrong


async def on_quart(ampho: AsyncAmpho) -> str:
    ampho.upgrade()  # wrong
    await ampho.upgrade(observr=None)  # wrong
    await ampho.graph("blog", full="yes")  # wrong
    run: Run = ampho.downgrade()  # wrong
    del run
    return await ampho.upgrade()  # wrong


def on_the_command_line(ctx: click.Context) -> str:
    call(ctx, Commands.upgrade, "heads", x=["key=value"])
    call(ctx, Commands.upgrade, "heads", observr=None)  # wrong
    call(ctx, Commands.resolve, "blog_1")  # wrong
    return call(ctx, Commands.upgrade)  # wrong
