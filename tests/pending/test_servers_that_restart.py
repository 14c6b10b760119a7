"""A development server that restarts because a file was changed, in the middle of a run."""

from __future__ import annotations

import http.client
import re
import time
from contextlib import closing
from urllib.parse import urlencode, urlsplit

import pytest
from pending.asking import BROWSER, PATH
from pending.serving import HOME, serving
from project import Project

SLEEP = "import time\ntime.sleep(1.5)"


def ask(url: str) -> tuple[int, str]:
    """Return the answer to a request; 0 if the server does not listen."""
    address = urlsplit(url)
    with closing(http.client.HTTPConnection("127.0.0.1", address.port or 0, timeout=30)) as connection:
        try:
            connection.request("GET", "/", None, {"Host": address.netloc, "Accept": BROWSER})
            response = connection.getresponse()
            return response.status, response.read().decode()
        except (OSError, http.client.HTTPException):
            return 0, ""


def press(url: str, page: str) -> http.client.HTTPConnection:
    """Press the button, and return the connection on which the events of the run come."""
    address = urlsplit(url)
    (token,) = set(re.findall(r'name="token" value="(.+?)"', page))
    key, *_ = re.findall(r'name="do" value="(.+?)"', page)
    headers = {
        "Host": address.netloc,
        "Accept": "text/event-stream",
        "Origin": f"http://{address.netloc}",
        "Content-Type": "application/x-www-form-urlencoded",
    }
    connection = http.client.HTTPConnection("127.0.0.1", address.port or 0, timeout=30)
    connection.request("POST", PATH, urlencode({"token": token, "do": key, "next": "/"}), headers)
    return connection


def until(url: str, code: int) -> str:
    """Return the page of a server, once it answers with a status code, and no run is in progress."""
    deadline = time.monotonic() + 30
    while True:
        found, page = ask(url)
        if found == code and "are being applied" not in page:
            return page
        assert time.monotonic() < deadline, (found, page[:200])
        time.sleep(0.3)


@pytest.mark.parametrize("server", ["flask", "quart"])
def test_a_run_goes_on_or_ends_cleanly(server: str, project: Project) -> None:
    """Flask's server waits for the thread of the run; Quart's cancels all tasks, and replaces its process."""
    project.package("core")
    for number in (1, 2, 3):
        down = f"core_170000000{number - 1}" if number > 1 else None
        project.revision("core", f"core_170000000{number}", down, upgrade=SLEEP)
    url = {"flask": "sqlite:///app.db", "quart": "sqlite+aiosqlite:///app.db"}[server]
    project.app(server, ["core"], url, body=HOME.format("async " if server == "quart" else ""))
    with serving(project, server, "--reload") as address:
        with closing(press(address, until(address, 503))):
            time.sleep(0.7)
            project.write("app.py", project.read("app.py") + "\n# changed\n")
            time.sleep(0.5)
        if server == "quart":
            until_restarted = until(address, 503)
            assert re.search(r"<h1>[123] revisions? (is|are) pending</h1>", until_restarted)
            with closing(press(address, until_restarted)) as connection:
                assert "event: done" in connection.getresponse().read().decode()
        until(address, 200)
    assert "3 applied" in project.run("ampho", "db-status", "--all").stdout
