"""What Ampho adds to a process that serves an app: a program that the benchmarks run several times.

    python worker.py flask | quart | import

Prints the seconds of CPU and the MiB that ``Ampho(app)`` takes, its import included, in a process that has an app with
a database extension already; with ``import``, those of ``import ampho`` in a process that has nothing.
"""

from __future__ import annotations

import os
import sys
import time

PAGE = os.sysconf("SC_PAGE_SIZE")


def main(what: str) -> None:
    add = {"flask": on_flask, "quart": on_quart, "import": on_nothing}[what]()
    memory, started = resident(), time.process_time()
    add()
    seconds = time.process_time() - started
    print(seconds, (resident() - memory) / 1024**2)


def on_flask():  # type: ignore[no-untyped-def]  # typing would import what is measured
    from flask import Flask
    from flask_sqlalchemy import SQLAlchemy

    app = Flask(__name__)
    app.config["SQLALCHEMY_DATABASE_URI"] = "sqlite://"
    db = SQLAlchemy(app)

    def add() -> None:
        from ampho import Ampho

        Ampho(app, db)

    return add


def on_quart():  # type: ignore[no-untyped-def]  # as above
    from quart import Quart
    from sqlalchemy.ext.asyncio import create_async_engine

    app = Quart(__name__)
    app.config["SQLALCHEMY_DATABASE_URI"] = "sqlite+aiosqlite://"
    create_async_engine("sqlite+aiosqlite://")

    def add() -> None:
        from ampho import AsyncAmpho

        AsyncAmpho(app)

    return add


def on_nothing():  # type: ignore[no-untyped-def]  # as above
    def add() -> None:
        import ampho  # noqa: F401

    return add


def resident() -> int:
    """The bytes of this process that are in memory."""
    with open("/proc/self/statm", encoding="ascii") as file:  # noqa: PTH123  # pathlib would be imported here first
        return int(file.read().split()[1]) * PAGE


if __name__ == "__main__":
    main(sys.argv[1])
