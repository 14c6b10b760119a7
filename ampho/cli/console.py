"""The console script ``ampho``: the same commands, with an app that it finds itself."""

from __future__ import annotations

import gc
import os
from typing import TYPE_CHECKING

import click

from ampho.cli.commands import cli
from ampho.cli.group import AmphoGroup
from ampho.cli.streams import lasting
from ampho.cli.terminal import no_color

if TYPE_CHECKING:
    from flask.sansio.app import App

_COLLECT = (50_000, 20, 20)
"""When to look for garbage. What a command imports and reads stays until its end, so to look often finds nothing."""


class ConsoleLoader:
    """Finds the app when a command first needs it, so that help needs none, and a factory is called once.

    :param import_path: what ``--app`` says.
    """

    def __init__(self, import_path: str | None) -> None:
        self._import_path = import_path
        self._app: App | None = None

    def load_app(self) -> App:
        """Load the app, after the environment files; the same one when it is asked for again."""
        if self._app is None:
            from ampho.apps import AppLoader, load_env_files

            load_env_files()
            self._app = AppLoader(self._import_path).load_app()
        return self._app


@click.group("ampho", cls=AmphoGroup, help=cli.help, commands=dict(cli.commands))
@click.option(
    "-A", "--app", "import_path", metavar="IMPORT", help="The app, or a factory: module, module:name, path.py:name."
)
@click.option("-v", "--verbose", is_flag=True, help="Say more.")
@no_color
@click.version_option(package_name="ampho", message="Ampho %(version)s")
@click.pass_context
def console(ctx: click.Context, import_path: str | None, verbose: bool) -> None:
    """Hand the loader to the commands."""
    ctx.obj = ConsoleLoader(import_path)
    ctx.meta["ampho.verbose"] = verbose


def main() -> None:
    """Run the console script."""
    gc.set_threshold(*_COLLECT)
    if "_AMPHO_COMPLETE" in os.environ:
        from ampho.cli.completion import prepare_shells

        prepare_shells()
    with lasting():
        console(prog_name="ampho")
