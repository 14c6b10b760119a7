"""Programs in processes that are forked from one which has imported everything: as real as others, and quicker.

Most of what a short command takes is importing, which is paid once here: run as a program, this module waits for
commands, and is the console script, or Python, for each in a child of its own.
"""

from __future__ import annotations

import atexit
import fcntl
import gc
import importlib
import json
import os
import pkgutil
import runpy
import select
import signal
import socket
import subprocess
import sys
import tempfile
import termios
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import cache
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, BinaryIO, Self

import measuring

import ampho

PROGRAMS = Path(sys.executable).parent
SCRIPTS = ("ampho", "alembic", "flask", "quart")
MODULES = (
    *("aiosqlite", "alembic.command", "anyio._backends._asyncio", "concurrent.futures.thread", "encodings.utf_8_sig"),
    *("flask_migrate", "flask_sqlalchemy", "mako.template", "rich.console"),
    *("sqlite3", "sqlalchemy.dialects.sqlite.aiosqlite", "sqlalchemy.dialects.mysql.asyncmy"),
    *("sqlalchemy.dialects.mysql.pymysql", "sqlalchemy.dialects.postgresql.asyncpg"),
    "sqlalchemy.dialects.postgresql.psycopg",
    *("asyncmy", "asyncpg", "psycopg", "pymysql"),
)
MEASURED = "COVERAGE_PROCESS_CONFIG"
FIXED = {"PYTHONDONTWRITEBYTECODE": "1", "PYTHONIOENCODING": "utf-8"}
"""What the interpreter reads from the environment when it starts, and so is the same for all."""
UNBUFFERED, SEARCHED = "PYTHONUNBUFFERED", "PYTHONPATH"
LARGEST = 2**20
"""The bytes of a command with its environment, at most."""
ENDING = 30
"""The seconds in which a process that forks others has to end."""

_servers: list[tuple[socket.socket, subprocess.Popen[bytes]]] = []


def can_run(program: str, env: Mapping[str, str]) -> bool:
    """Tell whether a program has this environment here, too."""
    return (
        program in (*SCRIPTS, "python")
        and _read_at_start(env) == _read_at_start(os.environ)
        and hasattr(os, "pidfd_open")
    )


def _read_at_start(env: Mapping[str, str]) -> dict[str, str]:
    later = (UNBUFFERED, SEARCHED)  # what a child can still do
    return FIXED | {name: value for name, value in env.items() if name.startswith("PYTHON") and name not in later}


def run(
    program: str,
    *args: str,
    cwd: Path,
    env: Mapping[str, str],
    stdin: str = "",
    timeout: float = 60,
    merged: bool = False,
) -> tuple[int, str, str]:
    """Run a program in a folder; return its exit code, and what it wrote to its streams.

    :param program: one of :data:`SCRIPTS`, or ``python`` with the path of a script, or with ``-c`` and code.
    :param env: its whole environment.
    :param merged: whether both streams are one, the first.
    """
    with tempfile.TemporaryFile() as given, tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        given.write(stdin.encode())
        given.seek(0)
        streams = [given.fileno(), out.fileno(), (out if merged else err).fileno()]
        process = Process(program, *args, cwd=cwd, env=env, streams=streams)
        try:
            process.wait(timeout)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise
        for file in (out, err):
            file.seek(0)
        assert process.returncode is not None
        return process.returncode, out.read().decode(), err.read().decode()


class Process:
    """A program that runs meanwhile, with what the tests need of a ``Popen``.

    :ivar stdout: what it writes to its streams, unless it was given others.
    """

    def __init__(
        self, program: str, *args: str, cwd: Path, env: Mapping[str, str], streams: Sequence[int] | None = None
    ) -> None:
        self.args = (program, *args)
        self.returncode: int | None = None
        mine: list[int] = []
        its: list[int] = []
        if streams is None:
            mine, its = map(list, zip(os.pipe(), os.pipe(), strict=True))
            self.stdout, self.stderr = (os.fdopen(number, encoding="utf-8") for number in mine)
            streams = [null := os.open(os.devnull, os.O_RDONLY), *its]
            its.append(null)
        status, told = os.pipe()
        self._status = os.fdopen(status, encoding="ascii", buffering=1)
        command = json.dumps({"program": program, "args": args, "cwd": str(cwd), "env": dict(env)})
        socket.send_fds(_started(MEASURED in env), [command.encode()], [*streams, told])
        for number in (*its, told):
            os.close(number)
        self.pid = int(self._status.readline())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self._close()
        self.wait()

    def poll(self) -> int | None:
        with suppress(subprocess.TimeoutExpired):
            return self.wait(0)
        return None

    def wait(self, timeout: float | None = None) -> int:
        """Wait for its end, and return its exit code.

        :param timeout: seconds.
        :raises subprocess.TimeoutExpired: if it runs still.
        """
        if self.returncode is None:
            if not select.select([self._status], [], [], timeout)[0]:
                raise subprocess.TimeoutExpired(self.args, timeout or 0)
            self.returncode = int(self._status.readline())
            self._status.close()
        return self.returncode

    def communicate(self, timeout: float | None = None) -> tuple[str, str]:
        """Return what it wrote, after its end; no more to its second stream than a pipe holds."""
        out, err = self.stdout.read(), self.stderr.read()
        self._close()
        self.wait(timeout)
        return out, err

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def _close(self) -> None:
        for name in ("stdout", "stderr"):
            if hasattr(self, name):
                getattr(self, name).close()


STUB = """\
#!{python} -ISE
import json, os, socket, sys

status, told = os.pipe()
program = os.path.basename(sys.argv[0])
command = {{"program": program, "args": sys.argv[1:], "cwd": os.getcwd(), "env": {{**os.environ}}}}
with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as server:
    server.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, {largest})
    server.connect({address!r})
    socket.send_fds(server, [json.dumps(command).encode()], [0, 1, 2, told])
os.close(told)
with open(status) as said:
    sys.exit(int(said.read().split()[1]))
"""


@cache
def stubs(measured: bool) -> Path:
    """Return a folder of programs for a shell, which let others be forked and end as these do."""
    _started(measured)
    for name in SCRIPTS:
        stub = _folder() / f"measured-{measured}" / name
        stub.parent.mkdir(exist_ok=True)
        stub.write_text(STUB.format(python=sys.executable, largest=LARGEST, address=_address(measured)), "utf-8")
        stub.chmod(0o755)
    return stub.parent


def _address(measured: bool) -> str:
    return str(_folder() / f"socket-{measured}")


@cache
def _folder() -> Path:
    folder = tempfile.TemporaryDirectory(prefix="ampho-forks-")
    atexit.register(folder.cleanup)
    return Path(folder.name)


@cache
def _started(measured: bool) -> socket.socket:
    env = {name: value for name, value in os.environ.items() if measured or name != MEASURED}
    env["TMPDIR"] = tempfile.gettempdir()  # that of the run, because a test may have set one that it removes
    mine, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    mine.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, LARGEST)
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
        listener.bind(_address(measured))
        listener.listen()
        process = subprocess.Popen(
            [sys.executable, __file__, str(listener.fileno())],
            stdin=its,
            stdout=subprocess.DEVNULL,
            env=env | FIXED,
            pass_fds=[listener.fileno()],
            start_new_session=True,
        )
    its.close()

    _servers.append((mine, process))
    return mine


@atexit.register
def end() -> None:
    """End the processes that fork others, which save then what these have run."""
    while _servers:
        connection, process = _servers.pop()
        connection.close()
        try:
            process.wait(ENDING)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _serve() -> None:
    sys.path[0] = str(PROGRAMS)  # as for a console script
    for name in (*MODULES, *_modules_of_ampho()):
        importlib.import_module(name)
    scripts = {script.name: script for script in entry_points(group="console_scripts") if script.name in SCRIPTS}
    mains = {name: script.load() for name, script in scripts.items()}
    gc.collect()
    gc.freeze()  # or the first collection of each child would copy the memory that they share
    # Or each child would write down anew what importing ran, which takes as long as the command.
    measuring.end()
    commands, listener = socket.socket(fileno=os.dup(0)), socket.socket(fileno=int(sys.argv[1]))
    running: dict[int, tuple[int, int, BinaryIO]] = {}
    while True:
        for ready in select.select([commands, listener, *running], [], [])[0]:
            if isinstance(ready, int):
                _end(ready, *running.pop(ready))
                continue
            told, descriptors = _told(commands if ready is commands else ready.accept()[0])
            if not told:
                measuring.save_known()
                return
            note = tempfile.TemporaryFile()  # noqa: SIM115 (closed when the child has ended)
            child = os.fork()
            if not child:
                measuring.start_child(note)
                parents = [commands.fileno(), listener.fileno(), *running, *descriptors]
                _run(mains, json.loads(told), descriptors[:3], parents)
            os.write(descriptors[3], f"{child}\n".encode())
            for number in descriptors[:3]:
                os.close(number)
            running[os.pidfd_open(child)] = (child, descriptors[3], note)


def _modules_of_ampho() -> Iterator[str]:
    """Yield all modules, which most commands import late and in part."""
    for module in pkgutil.walk_packages(ampho.__path__, "ampho."):
        if not module.name.startswith(("ampho.templates", "ampho.__main__")):
            yield module.name


def _told(source: socket.socket) -> tuple[bytes, list[int]]:
    told, descriptors, _, _ = socket.recv_fds(source, LARGEST, 4)
    return told, descriptors


def _end(handle: int, child: int, status: int, note: BinaryIO) -> None:
    os.close(handle)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    with note:
        measuring.learn(note)
    with suppress(BrokenPipeError):  # who started it has given up
        os.write(status, f"{code}\n".encode())
    os.close(status)


def _run(
    mains: Mapping[str, Callable[[], Any]], told: Mapping[str, Any], streams: Sequence[int], parents: Sequence[int]
) -> None:
    """Be the program, in a child that has nothing to do with what its parent has open."""
    exit_code = 1
    os.environ.clear()
    os.environ.update(told["env"])
    tempfile.tempdir = None
    os.chdir(told["cwd"])
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
    for number in parents:
        os.close(number)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)  # whose handler is coverage's, and would be taken for the app's
    if os.isatty(0):
        os.setsid()
        with suppress(OSError):  # the terminal of a shell that runs the program
            fcntl.ioctl(0, termios.TIOCSCTTY, 0)
        sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    if UNBUFFERED in os.environ:
        sys.stdout.reconfigure(write_through=True)  # type: ignore[union-attr]
    searched = os.environ.get(SEARCHED, "").split(os.pathsep)
    sys.path[1:1] = [folder for folder in searched if folder and folder not in sys.path]
    importlib.invalidate_caches()
    try:
        _be(mains, told["program"], told["args"])
        exit_code = 0
    except SystemExit as exc:
        exit_code = exc.code if isinstance(exc.code, int) else int(exc.code is not None)
        if isinstance(exc.code, str):
            sys.stderr.write(f"{exc.code}\n")
    except BaseException:  # noqa: BLE001 (shown as the interpreter would)
        sys.excepthook(*sys.exc_info())
    with suppress(Exception):
        atexit._run_exitfuncs()
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(exit_code)


def _be(mains: Mapping[str, Callable[[], Any]], program: str, args: Sequence[str]) -> None:
    if program in mains:
        sys.argv = [str(PROGRAMS / program), *args]
        sys.exit(mains[program]())
    sys.argv = [*args]
    if args[0] == "-c":
        sys.argv[1:] = args[2:]
        sys.path[0] = ""
        exec(compile(args[1], "<string>", "exec", dont_inherit=True), {"__name__": "__main__"})
    else:
        sys.path[0] = str(Path(args[0]).resolve().parent)
        runpy.run_path(args[0], run_name="__main__")


if __name__ == "__main__":
    _serve()
