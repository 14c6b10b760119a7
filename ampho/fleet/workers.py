"""Worker processes, each of which upgrades one database at a time, because Alembic's ``op`` belongs to the process.

On Linux and other POSIX systems, a worker is a fork, which shares the loaded app with the command. If other threads are
running, or on macOS and Windows, a fork is not safe, so a worker is a new process, which loads the app itself. If it
could not, as in a test that calls a command with its own app, the command itself upgrades one database after the other.

Whatever a worker or a revision prints goes through a pipe to the command, which adds the name of the database.
"""

from __future__ import annotations

import gc
import multiprocessing
import os
import pickle
import signal
import sys
import threading
import time
from collections.abc import Callable, Container, Iterator, Sequence
from contextlib import redirect_stdout, suppress
from itertools import count
from multiprocessing.connection import Connection, wait
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, TypeAlias

from ampho._text import describe, notes
from ampho.errors import AppNotFoundError
from ampho.fleet.driver import Turn
from ampho.fleet.report import Ending, FleetOutcome

if TYPE_CHECKING:
    from multiprocessing.context import ForkContext, SpawnContext

Work: TypeAlias = Callable[[Turn], Ending]
_Context: TypeAlias = "ForkContext | SpawnContext"

SECONDS_TO_END = 5.0
"""How long a process has to roll back and end, after which it is killed."""
INTERRUPTED = "The revision was rolled back if the database supports that."

_POLL_SECONDS = 0.5
_CHUNK = 65536
_TURNS = 50  # the number of databases after which a worker frees memory
_TRIES, _TRY_SECONDS = 20, 0.01
_IS_POSIX = os.name == "posix"
_THREADS = Path("/proc/self/task")  # Linux lists all threads there, also those of libraries in C


class Workers:
    """The worker processes of a command. They end when this object is closed, and with the process.

    :param make: returns the function that upgrades a database; in a new process, it is called there, so that it must be
        possible to pickle it.
    :param jobs: the maximum number of processes.
    :param printed: called with each line that a worker prints, and the name of the database that it is upgrading.
    :ivar is_upgrading: whether this process itself is upgrading a database now, which :class:`KeyboardInterrupt` ends.
    """

    def __init__(self, make: Callable[[], Work], jobs: int, printed: Callable[[str, str], None]) -> None:
        self._make = make
        self._count = jobs
        self._printed = printed
        self._workers: list[_Worker] = []
        self._context: _Context | None = None
        self._work: Work | None = None  # if there are no processes
        self._turn: Turn | None = None
        self.is_upgrading: bool = False

    def close(self) -> None:
        """Interrupt the upgrades that are running, and wait for the end of the processes."""
        self.terminate()
        deadline = time.monotonic() + SECONDS_TO_END
        for worker in self._workers:
            worker.end(max(0.0, deadline - time.monotonic()))
        self._workers.clear()

    @property
    def is_full(self) -> bool:
        """Whether all workers are busy."""
        return self._turn is not None or sum(worker.turn is not None for worker in self._workers) >= self._count

    def begin(self, turn: Turn) -> None:
        """Pass a turn to a free worker, and start one if there is none."""
        if self._context is None and self._work is None:
            self._choose()
        if self._context is None:
            self._turn = turn
            return
        worker = next((worker for worker in self._workers if worker.turn is None), None)
        if worker is None:
            pipes = [pipe for worker in self._workers for pipe in worker.pipes]
            worker = _Worker(self._context, self._make, pipes, self._printed)
            self._workers.append(worker)
        worker.begin(turn)

    def _choose(self) -> None:
        """Choose how processes are started, and prepare this one for it."""
        if hasattr(os, "fork") and sys.platform != "darwin" and _is_single_threaded():
            work = self._make()
            self._make = lambda: work
            gc.collect()
            gc.freeze()  # otherwise, the collections of the workers would copy the memory that they share
            self._context = multiprocessing.get_context("fork")
            return
        with suppress(Exception):  # from an app that was created by a function of this process
            pickle.dumps(self._make)
            self._context = multiprocessing.get_context("spawn")
            return
        self._work = self._make()

    def wait(self, seconds: float) -> Iterator[Ending]:
        """Yield the endings of turns, after at most a number of seconds."""
        if self._work is not None and self._turn is not None:
            turn, self._turn = self._turn, None
            self.is_upgrading = True
            with redirect_stdout(sys.stderr):
                ending = _turn(self._work, turn)
            self.is_upgrading = False
            yield ending
            return
        ready = set(wait([pipe for worker in self._workers for pipe in worker.pipes], seconds))
        for worker in list(self._workers):
            yield from worker.received(ready)
            if worker.connection.closed:
                self._workers.remove(worker)

    def terminate(self) -> None:
        """Interrupt the upgrades that are running, as Ctrl-C would interrupt the upgrade of one database."""
        for worker in self._workers:
            worker.process.terminate()

    def kill(self) -> None:
        """End all processes at once."""
        for worker in self._workers:
            worker.process.kill()


class _Worker:
    """One process, as the command sees it.

    :ivar turn: what it is doing.
    :ivar connection: the pipe through which it gets turns, and sends endings.
    """

    def __init__(
        self,
        context: _Context,
        make: Callable[[], Work],
        inherited: Sequence[Connection],
        printed: Callable[[str, str], None],
    ) -> None:
        self.turn: Turn | None = None
        self._printed = printed
        self.connection, theirs = context.Pipe()
        self._output, output = context.Pipe(duplex=False)
        self._line = b""
        others = [*inherited, self.connection, self._output] if context.get_start_method() == "fork" else []
        self.process = context.Process(target=_serve, args=(make, theirs, output, os.getpid(), others))
        self.process.start()
        theirs.close()
        output.close()
        if not _IS_POSIX:
            self._output.close()

    @property
    def pipes(self) -> list[Connection]:
        """The open pipes of the process."""
        return [pipe for pipe in (self.connection, self._output) if not pipe.closed]

    def begin(self, turn: Turn) -> None:
        self.turn = turn
        with suppress(OSError):  # it has ended, which received() reports
            self.connection.send(turn)

    def received(self, ready: Container[object]) -> Iterator[Ending]:
        """Pass on what the process printed, and yield the ending that it sent; if it has died, one that says so."""
        if self._output in ready:
            self._read_output()
        if self.connection not in ready:
            return
        try:
            ending = self.connection.recv()
        except (EOFError, OSError):  # OSError if it was killed while it was sending
            ending = self._died()
        if isinstance(ending, str):
            raise AppNotFoundError(f"A worker process could not load the app: {ending}.")
        while not self._output.closed and self._output.poll():
            self._read_output()
        self._print(b"\n" if self._line else b"")
        self.turn = None
        if ending is not None:
            yield ending

    def _died(self) -> Ending | None:
        self.end(SECONDS_TO_END)
        if self.turn is None:
            return None
        code = self.process.exitcode or 0
        how = f"was ended by signal {-code}" if code < 0 else f"ended with exit code {code}"
        name = self.turn.member.name
        cause = f"The worker process {how}. 'ampho db-current -d {quote(name)}' shows which revisions are applied."
        outcome = FleetOutcome.INTERRUPTED if code == -signal.SIGTERM else FleetOutcome.FAILED
        return Ending(name, outcome, cause=cause)

    def _read_output(self) -> None:
        data = os.read(self._output.fileno(), _CHUNK)
        if not data:
            self._output.close()
        self._print(data)

    def _print(self, data: bytes) -> None:
        """Pass on complete lines, and keep the beginning of the next one."""
        *lines, self._line = (self._line + data).split(b"\n")
        for line in lines:
            self._printed(self.turn.member.name if self.turn else "", line.decode(errors="backslashreplace"))

    def end(self, seconds: float) -> None:
        """Wait for the end of the process, and kill it if that takes too long."""
        self.connection.close()
        self.process.join(seconds)
        if self.process.exitcode is None:
            self.process.kill()
            self.process.join()


def _is_single_threaded() -> bool:
    """Return whether no other thread is running. Threads that were just joined may need a moment to end."""
    for _ in range(_TRIES):
        if threading.active_count() == 1 and (not _THREADS.exists() or len(list(_THREADS.iterdir())) == 1):
            return True
        time.sleep(_TRY_SECONDS)
    return False


# ---- In the worker process ----


def _serve(
    make: Callable[[], Work], connection: Connection, printed: Connection, parent: int, inherited: Sequence[Connection]
) -> None:
    """Do what the command asks for, until it closes the pipe.

    :param inherited: the command's ends of pipes, which a fork has to close, so that they end with the command.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the command, which decides what it means
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    for each in inherited:
        each.close()
    _print_to(printed)
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()
    with suppress(EOFError, ConnectionError):
        try:
            work = make()
        except Exception as exc:  # noqa: BLE001 (an app may raise anything)
            connection.send(describe(exc))
            return
        for number in count(1):
            connection.send(_turn(work, connection.recv()))
            if number % _TURNS == 0:
                gc.collect()  # engines are in cycles, and the command line hardly ever looks for garbage


def _turn(work: Work, turn: Turn) -> Ending:
    try:
        return work(turn)
    except KeyboardInterrupt as exc:
        return Ending(turn.member.name, FleetOutcome.INTERRUPTED, cause=notes(exc) or INTERRUPTED)
    finally:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()


def _print_to(pipe: Connection) -> None:
    """Send all output of this process to a pipe, also that of programs that it starts, and let it read nothing."""
    if not _IS_POSIX:
        return
    with Path(os.devnull).open("rb") as null:
        os.dup2(null.fileno(), 0)
    for descriptor in (1, 2):
        os.dup2(pipe.fileno(), descriptor)
    pipe.close()


def _end_with(parent: int) -> None:
    """End this process when the command has ended, however it ended. What is running is rolled back."""
    command = multiprocessing.parent_process()
    while os.getppid() == parent and command is not None and command.is_alive():
        time.sleep(_POLL_SECONDS)
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(SECONDS_TO_END)
    os._exit(1)
