"""Whole processes: their CPU and that of their children, their wall time, and their peak memory.

Linux carries the peak memory of a process over to the program that it becomes, so a large benchmark would lend its own
to every small program. So this file is also a program, a very small one, that starts the program to measure:

    python -ISE measure.py RESULT_FILE SECONDS COMMAND...
"""

from __future__ import annotations

import os
import signal
import sys
import time

if __name__ == "__main__":

    def main(result_file: str, limit: int, command: list[str]) -> None:
        started = time.perf_counter()
        # A session of its own, so that the limit ends its children, too.
        process = os.posix_spawn(command[0], command, os.environ, setsid=True)

        def stop(*_: object) -> None:
            os.killpg(process, signal.SIGKILL)

        signal.signal(signal.SIGALRM, stop)
        signal.signal(signal.SIGTERM, stop)
        signal.alarm(limit)
        _, status, usage = os.wait4(process, 0)
        wall = time.perf_counter() - started
        code = os.waitstatus_to_exitcode(status)
        figures = (code, usage.ru_utime + usage.ru_stime, wall, usage.ru_maxrss)
        with open(result_file, "w", encoding="ascii") as file:  # noqa: PTH123  # pathlib is larger than this program
            file.write(" ".join(map(str, figures)))

    main(sys.argv[1], int(sys.argv[2]), sys.argv[3:])
    sys.exit()

import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

PROGRAMS = Path(sys.executable).parent


@dataclass(frozen=True)
class Usage:
    """What a process took: seconds, seconds, and MiB at its peak."""

    cpu: float
    wall: float
    memory: float


@dataclass(frozen=True)
class Finished:
    """What a process left behind: ``output`` is what it wrote to both of its streams."""

    usage: Usage
    exit_code: int
    output: str


def run(command: Sequence[str], folder: Path, environment: Mapping[str, str], limit: int) -> Finished:
    """Run a program of the virtual environment, and measure it.

    :param environment: what it has besides the few variables that every program needs.
    :param limit: the seconds after which it is ended, with its children; its exit code is -9 then.
    """
    program = PROGRAMS / command[0]
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "TMPDIR", "LD_LIBRARY_PATH") if name in os.environ}
    with tempfile.TemporaryDirectory(prefix="ampho-measure-") as scratch:
        figures, output = Path(scratch, "figures"), Path(scratch, "output")
        with output.open("wb") as stream:
            launcher = subprocess.Popen(
                [sys.executable, "-ISE", __file__, str(figures), str(limit), str(program), *command[1:]],
                cwd=folder,
                env={**kept, "PYTHONUTF8": "1", "NO_COLOR": "1", **environment},
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=subprocess.STDOUT,
            )
            try:
                launcher.wait()
            except BaseException:
                launcher.terminate()
                launcher.wait()
                raise
        text = output.read_text("utf-8", "replace")
        if not figures.exists():
            return Finished(Usage(0, 0, 0), 1, text)
        code, cpu, wall, kibibytes = figures.read_text("ascii").split()
    # Linux counts in KiB, macOS in bytes.
    unit = 1024 if sys.platform == "linux" else 1024 * 1024
    return Finished(Usage(float(cpu), float(wall), float(kibibytes) / unit), int(code), text)
