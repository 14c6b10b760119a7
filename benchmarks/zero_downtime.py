"""The ten changes of the guide "Changes without downtime" while two releases of an app are used, on large tables.

    python benchmarks/zero_downtime.py
    python benchmarks/zero_downtime.py --backends postgresql --changes rename,index --rows 1000000

Each change is made as the guide does it, and by one revision at once. The table has the requests, how many of them
failed, the longest request, and the longest wait of a statement of the app for a lock, as the database sees it.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from itertools import product
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from live.changes import CHANGES
from live.load import Size, change_under_load
from servers import database_on, server_for, stop_servers

DRIVERS = {
    ("postgresql", "flask"): "postgresql+psycopg",
    ("postgresql", "quart"): "postgresql+asyncpg",
    ("mariadb", "flask"): "mariadb+pymysql",
    ("mariadb", "quart"): "mariadb+asyncmy",
}
HEAD = "| change | database | app | how | requests | failed | longest request | longest lock wait | deadlocks | rows |"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backends", default="postgresql,mariadb")
    parser.add_argument("--frameworks", default="flask")
    parser.add_argument("--changes", default=",".join(CHANGES))
    parser.add_argument("--ways", default="guide,naive")
    parser.add_argument("--rows", type=int, default=200_000)
    parser.add_argument("--seconds", type=float, default=3, help="how long both releases are used")
    parser.add_argument("--busy", type=float, default=4, help="how long a job's transaction uses the table meanwhile")
    parser.add_argument("--rate", type=float, default=25, help="requests of each of the four clients in a second")
    given = parser.parse_args()
    size = Size(given.rows, given.seconds, given.busy, given.rate)
    unexpected = 0
    print(HEAD, "| --- " * HEAD.count(" |") + "|", sep="\n", flush=True)
    with tempfile.TemporaryDirectory(prefix="ampho-live-") as name:
        run = Path(name)
        run.chmod(0o711)
        try:
            wanted = product(
                *(text.split(",") for text in (given.backends, given.frameworks, given.changes, given.ways))
            )
            for number, (backend, framework, change, way) in enumerate(wanted):
                folder = run / str(number)
                folder.mkdir()
                server = server_for(backend, run, os.getpid())
                with database_on(server, DRIVERS[backend, framework], folder) as database:
                    outcome = change_under_load(CHANGES[change], database, folder, size, naive=way == "naive")
                server.drop_emptied()
                unexpected += outcome.is_free_of_downtime == (way == "naive")
                figures = [f"{outcome.requests:,}", f"{len(outcome.failures):,}"]
                figures += [
                    f"{outcome.longest:.2f} s",
                    f"{outcome.waited:.2f} s",
                    str(outcome.retried),
                    f"{given.rows:,}",
                ]
                print("", change, backend, framework, way, *figures, "", sep=" | ", flush=True)
                if way != "naive":
                    print(*outcome.failures[:5], sep="\n", end="", file=sys.stderr, flush=True)
        finally:
            stop_servers(run)
    return unexpected


if __name__ == "__main__":
    sys.exit(main())
