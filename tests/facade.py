"""One app with Ampho in the test's own process, in Flask or in Quart, asked the same way."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from click.testing import Result
from flask import Flask
from project import Project
from quart import Quart
from sqlalchemy import URL

from ampho import Ampho, AsyncAmpho
from ampho.cli.commands import cli

FRAMEWORKS = ("flask", "quart")
URLS = {"flask": "sqlite:///app.db", "quart": "sqlite+aiosqlite:///app.db"}


@dataclass(frozen=True)
class Facade:
    """An app and its ``Ampho`` or ``AsyncAmpho``, whose methods :meth:`call` waits for where that is needed."""

    app: Any
    ampho: Any

    def call(self, method: str, *args: object, **kwargs: object) -> Any:
        if not self.ampho.is_async:
            with self.app.app_context():
                return getattr(self.ampho, method)(*args, **kwargs)
        return asyncio.run(self._call(method, *args, **kwargs))

    async def _call(self, method: str, *args: object, **kwargs: object) -> Any:
        async with self.app.app_context():
            try:
                return await getattr(self.ampho, method)(*args, **kwargs)
            finally:
                await self.ampho.dispose(self.app)

    def run(self, *args: str) -> Result:
        """Run a command of the group in this process, as the frameworks' test runners do."""
        return self.app.test_cli_runner().invoke(cli, args)  # type: ignore[no-any-return]  # Quart's is untyped

    def error_line(self, *args: str, exit_code: int = 1) -> str:
        """Run a command that must fail, and return the one line that it says."""
        result = self.run(*args)
        assert result.exit_code == exit_code, result.output
        return one_error_line(result.stderr)

    def dispose(self) -> None:
        if not self.ampho.is_async:
            with self.app.app_context():
                for engine in self.ampho.db.engines.values():
                    engine.dispose()


def one_error_line(stderr: str) -> str:
    """Return the one line on standard error, after the warnings that may come before it and the usage of Click."""
    lines = [line for line in stderr.splitlines() if not line.startswith(("Warning: ", "Waiting ", "Usage: ", "Try "))]
    assert "Traceback" not in stderr, stderr
    lines = [line for line in lines if line]
    assert len(lines) == 1, stderr
    assert lines[0].startswith("Error: "), stderr
    assert lines[0].isprintable()
    return lines[0].removeprefix("Error: ")


@contextmanager
def facade(
    project: Project, framework: str, packages: Sequence[str] | str | None, url: URL | str, **config: object
) -> Iterator[Facade]:
    """Make an app in the folder of a project, which is the current one meanwhile."""
    here = Path.cwd()
    with project.importing():
        os.chdir(project.folder)
        try:
            made: Flask | Quart = Flask("app", root_path=".") if framework == "flask" else Quart("app", root_path=".")
            made.config.update(SQLALCHEMY_DATABASE_URI=url, **config)
            if packages is not None:
                made.config["AMPHO_MIGRATION_PACKAGES"] = packages
            each = Facade(made, Ampho(made) if isinstance(made, Flask) else AsyncAmpho(made))
            try:
                yield each
            finally:
                each.dispose()
        finally:
            os.chdir(here)
