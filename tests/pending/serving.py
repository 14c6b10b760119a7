"""Real servers in front of which the page appears."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager

from project import FOREIGN, PROGRAMS, Project

SERVERS = {
    "flask": ("flask", "run", "--debug"),
    "quart": ("quart", "run", "--debug"),
    "hypercorn": ("hypercorn", "app:app"),
}
HOME = """
@app.get("/")
{}def home():
    return "<title>Shop</title><h1>Welcome to the shop</h1>"
"""


@contextmanager
def serving(project: Project, server: str, *options: str) -> Iterator[str]:
    """Serve the app of a project in debug mode, and yield its address."""
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    where = ["--bind", f"127.0.0.1:{port}"] if server == "hypercorn" else ["--port", str(port)]
    environment = {name: value for name, value in os.environ.items() if not FOREIGN.match(name)}
    program, *arguments = SERVERS[server]
    log = project.folder / "server.log"
    with log.open("w") as output:
        process = subprocess.Popen(
            [PROGRAMS / program, *arguments, *options, *where],
            cwd=project.folder,
            env={**environment, "FLASK_DEBUG": "1", "PYTHONDONTWRITEBYTECODE": "1"},
            stdout=output,
            stderr=output,
            start_new_session=True,  # so that the child of a reloader ends, too
        )
        try:
            deadline = time.monotonic() + 30
            while True:
                try:
                    socket.create_connection(("127.0.0.1", port)).close()
                    break
                except ConnectionError:
                    assert process.poll() is None, log.read_text()
                    assert time.monotonic() < deadline, log.read_text()
                    time.sleep(0.05)
            yield f"http://localhost:{port}/"
        finally:
            os.killpg(process.pid, signal.SIGTERM)
            process.wait(20)
    assert "/ampho/" not in log.read_text(), log.read_text()  # in no traceback
