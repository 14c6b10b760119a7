"""The command line: ``ampho``, ``flask ampho``, and ``quart ampho`` are one Click group.

The commands parse their arguments, call the extension of the app, and show the result. The layers below make every
decision about migrations.
"""

from ampho.cli.commands import cli
from ampho.cli.console import main

__all__ = ["cli", "main"]
