"""What the pending page costs a request: without it, with it while nothing has changed, and when it looks again.

``python benchmarks/pending.py [--rounds 5] [--requests 2000]`` prints medians in microseconds. The ways take turns.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from flask import Flask
from quart import Quart

import ampho

if TYPE_CHECKING:
    from ampho.pending.watch import Watch

AMPHO = Path(sys.executable).parent / "ampho"
CONCURRENT = 200


def make_app(framework: str, *, is_on: bool) -> Flask | Quart:
    app = (Flask if framework == "flask" else Quart)("app", root_path=str(Path.cwd()))
    driver = "sqlite" if framework == "flask" else "sqlite+aiosqlite"
    app.config.update(SQLALCHEMY_DATABASE_URI=f"{driver}:///app.db", DEBUG=True, AMPHO_PENDING_PAGE=is_on)
    if isinstance(app, Flask):
        ampho.Ampho(app, packages=["core"])
        app.add_url_rule("/", "home", lambda: "home")
        return app

    async def home() -> str:
        return "home"

    ampho.AsyncAmpho(app, packages=["core"])
    app.add_url_rule("/", "home", home)
    return app


def watch_of(app: Flask | Quart) -> Watch:
    hook: Any = app.before_request_funcs[None][0]
    found: Watch = hook.__self__.watch
    return found


def seconds(app: Flask | Quart, number: int, before: Callable[[], object] = lambda: None) -> list[float]:
    """How long each of some requests takes."""
    found = []
    if isinstance(app, Flask):
        client = app.test_client()
        for _ in range(number):
            before()
            begun = time.perf_counter()
            client.get("/")
            found.append(time.perf_counter() - begun)
        return found

    async def ask() -> None:
        client = app.test_client()
        for _ in range(number):
            before()
            begun = time.perf_counter()
            await client.get("/")
            found.append(time.perf_counter() - begun)

    asyncio.run(ask())
    return found


def looks_at_once(app: Flask | Quart) -> int:
    """How often the databases are asked if many requests come at once, while they are behind."""
    from sqlalchemy import event
    from sqlalchemy.pool import Pool

    opened: list[object] = []
    event.listen(Pool, "connect", lambda *_: opened.append(1))
    seconds(app, 1)
    one = len(opened)
    watch_of(app).forget()
    opened.clear()
    if isinstance(app, Flask):
        with ThreadPoolExecutor(CONCURRENT) as threads:
            codes = {*threads.map(lambda _: app.test_client().get("/").status_code, range(CONCURRENT))}
    else:

        async def ask() -> set[int]:
            replies = await asyncio.gather(*(app.test_client().get("/") for _ in range(CONCURRENT)))
            return {reply.status_code for reply in replies}

        codes = asyncio.run(ask())
    assert codes == {503}
    return len(opened) // one


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--requests", type=int, default=2000)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        sys.path.insert(0, folder)
        Path("core").mkdir()
        Path("core/__init__.py").touch()
        app_py = "from flask import Flask\nfrom ampho import Ampho\napp = Flask('app', root_path='.')\n"
        app_py += "app.config['SQLALCHEMY_DATABASE_URI'] = 'sqlite:///app.db'\nAmpho(app, packages=['core'])\n"
        Path("app.py").write_text(app_py)
        for command in (["db-init", "core"], ["db-rev", "core", "Initial"]):
            subprocess.run([AMPHO, *command], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        for framework in ("flask", "quart"):
            print(f"{framework}: {CONCURRENT} requests at once: {looks_at_once(make_app(framework, is_on=True))} look")
        subprocess.run([AMPHO, "db-up"], check=True, stdout=subprocess.DEVNULL)
        for framework in ("flask", "quart"):
            off, on = make_app(framework, is_on=False), make_app(framework, is_on=True)
            seconds(off, 100)
            seconds(on, 100)
            found = defaultdict[str, list[float]](list)
            for _ in range(given.rounds):
                found["off"] += seconds(off, given.requests)
                found["on"] += seconds(on, given.requests)
                wait_no_more = partial(setattr, watch_of(on), "_glance", 0.0)
                found["looking at files"] += seconds(on, given.requests // 10, wait_no_more)
                found["looking at the database"] += seconds(on, given.requests // 100, watch_of(on).forget)
            for name, times in found.items():
                print(f"{framework}: {name}: {median(times) * 1e6:.0f} µs")


if __name__ == "__main__":
    main()
