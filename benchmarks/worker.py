"""What Ampho adds to a process that serves an app: a program that the benchmarks run several times.

    python worker.py flask | quart | import | alone

Prints the seconds of CPU and the MiB that ``Ampho(app)`` or ``AsyncAmpho(app)`` takes, its import included, in a
process that has an app and SQLAlchemy already; with ``import``, those of ``import ampho`` in a process that has a Flask
app, and with ``alone`` in one that has nothing, where much of it is the standard library's.
"""

from __future__ import annotations

import os
import sys
import time

TYPE_CHECKING = False  # typing would import what is measured
if TYPE_CHECKING:
    from collections.abc import Callable

PAGE = os.sysconf("SC_PAGE_SIZE")


def main(what: str) -> None:
    add = {"flask": on_flask, "quart": on_quart, "import": on_flask, "alone": on_nothing}[what]()
    if what == "import":
        add = on_nothing()
    memory, started = resident(), time.process_time()
    add()
    seconds = time.process_time() - started
    print(seconds, (resident() - memory) / 1024**2)


def on_flask() -> Callable[[], None]:
    from flask import Flask
    from flask_sqlalchemy import SQLAlchemy

    app = Flask(__name__)
    app.config["SQLALCHEMY_DATABASE_URI"] = "sqlite://"
    db = SQLAlchemy(app)

    def add() -> None:
        from ampho import Ampho

        Ampho(app, db)

    return add


def on_quart() -> Callable[[], None]:
    from quart import Quart
    from sqlalchemy.ext.asyncio import create_async_engine

    app = Quart(__name__)
    app.config["SQLALCHEMY_DATABASE_URI"] = "sqlite+aiosqlite://"
    create_async_engine("sqlite+aiosqlite://")

    def add() -> None:
        from ampho import AsyncAmpho

        AsyncAmpho(app)

    return add


def on_nothing() -> Callable[[], None]:
    def add() -> None:
        import ampho  # noqa: F401

    return add


def resident() -> int:
    """The bytes of this process that are in memory."""
    with open("/proc/self/statm", encoding="ascii") as file:  # noqa: PTH123  # pathlib would be imported here first
        return int(file.read().split()[1]) * PAGE


if __name__ == "__main__":
    main(sys.argv[1])
