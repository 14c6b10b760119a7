"""Keep a server running until the test run that started it ends: stopped on request, or when the run is gone.

``python keep.py OWNER STOP_SIGNAL USER FOLDER COMMAND...``; ``FOLDER/stop`` asks for the end, and the folder's
disappearance reports it. A process of its own, because the pytest worker that wants a server first may well be gone
before the others have finished with it, and because a run that was killed must not leave servers behind.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path


def alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return True


def keep(owner: int, stop_signal: int, user: str | None, folder: Path, command: list[str]) -> None:
    with (folder / "log").open("ab") as log:
        server = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, user=user, cwd=folder, start_new_session=True
        )
    while server.poll() is None and alive(owner) and not (folder / "stop").exists():
        time.sleep(0.1)
    crashed = server.poll() is not None
    if not crashed:
        server.send_signal(stop_signal)
        try:
            server.wait(20)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()
    while crashed and alive(owner) and not (folder / "stop").exists():
        time.sleep(0.1)  # whoever started it may want to read the log
    shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    keep(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3] or None, Path(sys.argv[4]), sys.argv[5:])
