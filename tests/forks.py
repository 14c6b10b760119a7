"""The command line in processes that are forked from one which has imported everything: as real as others, and quicker.

Most of what a short command takes is importing, which is paid once here: run as a program, this module waits for
commands, and is the console script for each in a child of its own.
"""

from __future__ import annotations

import atexit
import importlib
import json
import os
import select
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path

from coverage import Coverage

PROGRAMS = Path(sys.executable).parent
MODULES = (
    *("aiosqlite", "alembic.command", "ampho.aio", "ampho.cli", "ampho.environment", "ampho.revise", "ampho.stamp"),
    *("ampho.sync", "ampho.autogenerate", "flask_migrate", "mako.template", "rich.console", "sqlite3"),
    *("asyncmy", "asyncpg", "psycopg", "pymysql"),
)
MEASURED = "COVERAGE_PROCESS_CONFIG"
FIXED = {"PYTHONDONTWRITEBYTECODE": "1", "PYTHONIOENCODING": "utf-8"}
"""What the interpreter reads from the environment when it starts, and so is the same for all."""


def can_run(env: Mapping[str, str]) -> bool:
    """Tell whether a command has this environment here, too."""
    given = {name: value for name, value in env.items() if name.startswith("PYTHON")}
    own = {name: value for name, value in os.environ.items() if name.startswith("PYTHON")}
    return FIXED | given == own | FIXED and hasattr(os, "fork")


def run(
    *args: str, cwd: Path, env: Mapping[str, str], stdin: str = "", timeout: float = 60, merged: bool = False
) -> tuple[int, str, str]:
    """Run ``ampho`` in a folder; return its exit code, and what it wrote to its streams.

    :param env: its whole environment.
    :param merged: whether both streams are one, the first.
    """
    with tempfile.TemporaryDirectory(prefix="ampho-fork-") as folder:
        given, out, err = (Path(folder, name) for name in ("in", "out", "err"))
        given.write_text(stdin, "utf-8")
        err.touch()
        streams = [str(given), str(out), str(out if merged else err)]
        told = {"args": args, "cwd": str(cwd), "env": dict(env), "streams": streams}
        exit_code = _tell(_started(MEASURED in env), json.dumps(told), timeout)
        return exit_code, out.read_bytes().decode(), err.read_bytes().decode()


def run_on_a_terminal(*args: str, cwd: Path, env: Mapping[str, str], terminal: str, timeout: float = 60) -> int:
    """Run ``ampho`` with all of its streams on a terminal, and return its exit code.

    :param env: its whole environment.
    :param terminal: the path of its device; who reads from its other end does so meanwhile.
    """
    told = {"args": args, "cwd": str(cwd), "env": dict(env), "streams": [terminal] * 3}
    return _tell(_started(MEASURED in env), json.dumps(told), timeout)


def _tell(process: subprocess.Popen[str], told: str, timeout: float) -> int:
    assert process.stdin
    assert process.stdout
    process.stdin.write(f"{told}\n")
    process.stdin.flush()
    if not select.select([process.stdout], [], [], timeout)[0]:
        os.killpg(process.pid, signal.SIGKILL)
        _started.cache_clear()
        raise subprocess.TimeoutExpired("ampho", timeout)
    return int(process.stdout.readline())


@cache
def _started(measured: bool) -> subprocess.Popen[str]:
    env = {name: value for name, value in os.environ.items() if measured or name != MEASURED}
    process = subprocess.Popen(
        [sys.executable, __file__],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        encoding="utf-8",
        env=env | FIXED,
        start_new_session=True,
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
    coverage = Coverage.current()
    if coverage is not None:
        # Or each child would write down anew what importing ran, which takes as long as the command.
        coverage.stop()
        coverage.save()
    for line in sys.stdin:
        told = json.loads(line)
        child = os.fork()
        if not child:
            if coverage is not None:
                coverage.start()
            _run(told["args"], told["cwd"], told["env"], told["streams"])
        _, status = os.waitpid(child, 0)
        sys.stdout.write(f"{os.waitstatus_to_exitcode(status)}\n")
        sys.stdout.flush()


def _run(args: Sequence[str], cwd: str, env: Mapping[str, str], streams: Sequence[str]) -> None:
    """Be the console script, in a child."""
    from ampho.cli import main

    exit_code = 1
    os.environ.clear()
    os.environ.update(env)
    os.chdir(cwd)
    for number, path in enumerate(streams):
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND if number else os.O_RDONLY
        os.dup2(os.open(path, flags), number)
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
