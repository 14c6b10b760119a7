"""The command line in processes that are forked from one which has imported everything: as real as others, and quicker.

Most of what a short command takes is importing. A page has dozens of commands, so here that is paid once: run as a
program, this module waits for commands, and runs the console script for each in a child of its own.
"""

from __future__ import annotations

import atexit
import importlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path

PROGRAMS = Path(sys.executable).parent
MODULES = (
    *("aiosqlite", "alembic.command", "ampho.aio", "ampho.cli", "ampho.environment", "ampho.revise", "ampho.stamp"),
    *("ampho.sync", "ampho.autogenerate", "flask_migrate", "mako.template", "rich.console", "sqlite3"),
)


def ampho(*args: str, cwd: Path, env: Mapping[str, str]) -> tuple[int, str]:
    """Run ``ampho`` in a folder; return its exit code, and what it wrote to both streams.

    :param env: its whole environment.
    """
    with tempfile.NamedTemporaryFile() as written:
        process = _started()
        assert process.stdin
        assert process.stdout
        told = {"args": args, "cwd": str(cwd), "env": dict(env), "output": written.name}
        process.stdin.write(json.dumps(told) + "\n")
        process.stdin.flush()
        exit_code = int(process.stdout.readline())
        written.seek(0)
        return exit_code, written.read().decode()


@cache
def _started() -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, __file__],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        encoding="utf-8",
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
    )

    def end() -> None:
        with process:
            process.kill()

    atexit.register(end)
    return process


def _serve() -> None:
    sys.path[0] = str(PROGRAMS)  # as for a console script
    for name in MODULES:
        importlib.import_module(name)
    for line in sys.stdin:
        told = json.loads(line)
        child = os.fork()
        if not child:
            _run(told["args"], told["cwd"], told["env"], told["output"])
        _, status = os.waitpid(child, 0)
        sys.stdout.write(f"{os.waitstatus_to_exitcode(status)}\n")
        sys.stdout.flush()


def _run(args: Sequence[str], cwd: str, env: Mapping[str, str], output: str) -> None:
    """Be the console script, in a child."""
    from ampho.cli import main

    exit_code = 1
    os.environ.clear()
    os.environ.update(env)
    os.chdir(cwd)
    target = os.open(output, os.O_WRONLY | os.O_APPEND)
    for stream in (1, 2):
        os.dup2(target, stream)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    importlib.invalidate_caches()
    sys.argv = [str(PROGRAMS / "ampho"), *args]
    try:
        main()
        exit_code = 0
    except SystemExit as exc:
        exit_code = exc.code if isinstance(exc.code, int) else int(exc.code is not None)
    except BaseException:  # noqa: BLE001 (shown as the interpreter would)
        sys.excepthook(*sys.exc_info())
    with suppress(Exception):
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(exit_code)


if __name__ == "__main__":
    _serve()
