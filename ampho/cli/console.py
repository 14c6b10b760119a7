"""The console script ``ampho``: the commands, with a loader that finds the app."""

from __future__ import annotations

import gc
import os
from typing import TYPE_CHECKING

import click

from ampho.cli.commands import begin, cli
from ampho.cli.group import AmphoGroup
from ampho.cli.streams import safe_streams

if TYPE_CHECKING:
    from flask.sansio.app import App

_COLLECT = (50_000, 20, 20)
"""The thresholds of the garbage collector. Most objects live as long as the command, so there is rarely any garbage."""


class ConsoleLoader:
    """Loads the app when a command first needs it. Help needs no app, and a factory is called only once.

    :param import_path: the value of ``--app``.
    """

    def __init__(self, import_path: str | None) -> None:
        self._import_path = import_path
        self._app: App | None = None

    def load_app(self) -> App:
        """Return the app. The first call loads the environment files, and then the app."""
        if self._app is None:
            from ampho.apps import AppLoader, load_env_files

            try:
                load_env_files()
                self._app = AppLoader(self._import_path).load_app()
            finally:
                gc.freeze()  # what was imported lives as long as the command
                gc.enable()
        return self._app


@click.group("ampho", cls=AmphoGroup, invoke_without_command=True, help=cli.help, commands=dict(cli.commands))
@click.option(
    "-A",
    "--app",
    "import_path",
    metavar="IMPORT",
    help="The app or factory: module, module:name, or path.py:name.",
)
@click.option("-v", "--verbose", is_flag=True, help="Print more details.")
@click.version_option(package_name="ampho", message="Ampho %(version)s")
@click.pass_context
def console(ctx: click.Context, import_path: str | None, verbose: bool) -> None:
    """Pass the loader to the commands."""
    ctx.obj = ConsoleLoader(import_path)
    begin(ctx, verbose=verbose)


def main() -> None:
    """Run the console script."""
    gc.disable()  # until the app is loaded
    gc.set_threshold(*_COLLECT)
    if "_AMPHO_COMPLETE" in os.environ:
        from ampho.cli.completion import prepare_shells

        prepare_shells()
    with safe_streams():
        console(prog_name="ampho")
