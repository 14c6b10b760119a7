"""A Python shell in which ``await`` works: the command ``quart async-shell``."""

from __future__ import annotations

import ast
import asyncio
import inspect
import sys
from code import InteractiveConsole
from contextlib import suppress
from importlib import import_module
from types import CodeType, FunctionType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from quart import Quart

    from ampho.aio.sqlalchemy.extension import AsyncSQLAlchemy


def run_shell(app: Quart, db: AsyncSQLAlchemy) -> None:
    """Read statements from the terminal, and run them in one app context, until the input ends."""
    with suppress(ImportError):
        import_module("readline")  # which makes the lines editable

    context = app.app_context()
    with asyncio.Runner() as runner:
        runner.run(context.push())
        try:
            banner = f"Python {sys.version} on {sys.platform}\nApp: {app.import_name}\n'await' works here."
            _Console(app.make_shell_context(), runner).interact(banner, exitmsg="")
        finally:
            runner.run(db.dispose())
            runner.run(context.pop())


class _Console(InteractiveConsole):
    """Runs each statement as a task. All tasks of a runner share their context variables, and so the app context."""

    def __init__(self, names: dict[str, object], runner: asyncio.Runner) -> None:
        super().__init__(names)
        self.compile.compiler.flags |= ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
        self._runner = runner

    def runcode(self, code: CodeType) -> None:
        """Run a statement, and await it if it contains ``await``."""

        async def run() -> None:
            result = FunctionType(code, self.locals)()
            if inspect.iscoroutine(result):
                await result

        try:
            self._runner.run(run())
        except SystemExit:
            raise
        except BaseException:  # noqa: BLE001 (the shell goes on, also after Ctrl-C)
            self.showtraceback()
