"""What db-lint finds among planted faults and harmless revisions, beside other linters.

    python benchmarks/lint.py
    python benchmarks/lint.py --postgresql URL --mariadb URL --alembic-guard PROGRAM

The revisions are those of the tests, in ``tests/revise/corpus/``. For Ampho, only a finding by the right rule counts as
found; for the others, any finding does. squawk sees the SQL that Ampho writes, and a lock timeout before it.
alembic-guard, which the project does not need, is best installed into a virtual environment of its own. The checks of
strong_migrations, which is for Ruby on Rails, are tried as revisions of Alembic.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from planted import Case, cases, drafted, reported, strong_migrations
from project import Project
from sqlalchemy import URL, make_url

from ampho.migrate.sql import Excerpt
from ampho.revise.lint import squawk


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--postgresql", type=make_url)
    parser.add_argument("--mariadb", type=make_url)
    parser.add_argument("--alembic-guard", help="the program")
    given = parser.parse_args()
    urls = {"sqlite": make_url("sqlite:///app.db"), "postgresql": given.postgresql, "mariadb": given.mariadb}
    for backend, server in urls.items():
        if server is None:
            continue
        url = server.set(
            drivername={"postgresql": "postgresql+psycopg", "mariadb": "mariadb+pymysql"}.get(backend, "sqlite")
        )
        planted = cases(backend)
        faults = sum(bool(case.rules) for case in planted)
        print(f"\n{backend}: {faults} faults, {len(planted) - faults} harmless")
        for name, found in _linters(planted, url, given.alembic_guard):
            faults = sum(hit for case, hit in zip(planted, found, strict=True) if case.rules)
            alarms = sum(hit for case, hit in zip(planted, found, strict=True) if not case.rules)
            print(f"  {name:<34} found {faults:>2}, false alarms {alarms:>2}")
        if backend != "sqlite":
            _strong(backend, url)


def _linters(planted: Sequence[Case], url: URL, guard: str | None) -> Iterator[tuple[str, list[bool]]]:
    """Yield the name of each linter, and of which revisions it reports something."""
    with tempfile.TemporaryDirectory(prefix="bench-lint-") as folder:
        draft = drafted(Project(Path(folder)), planted, url)
        rules = reported(draft)
        yield (
            "ampho",
            [bool(case.rules & found if case.rules else found) for case, found in zip(planted, rules, strict=True)],
        )
        if url.get_backend_name() == "postgresql":
            sql = [draft.sql[revision.id] for revision in draft.revisions]
            written = [each.sql if isinstance(each, Excerpt) else "" for each in sql]
            found = [(one.number, one.rule) for one in squawk.run(written, "18", 5)]
            for name, style in (("squawk", ""), ("squawk, without style and timeouts", "prefer-|.*timeout")):
                hits = {number for number, rule in found if not style or not re.match(style, rule)}
                yield name, [number in hits for number in range(len(written))]
        if guard:
            yield "alembic-guard", [_guard(guard, revision.path) for revision in draft.revisions]


def _guard(program: str, path: Path) -> bool:
    done = subprocess.run([program, "--format", "json", str(path)], capture_output=True, text=True, check=False)
    return bool(json.loads(done.stdout))


def _strong(backend: str, url: URL) -> None:
    checks = strong_migrations(backend)
    with tempfile.TemporaryDirectory(prefix="bench-lint-") as folder:
        rules = reported(drafted(Project(Path(folder)), list(checks.values()), url))
    missed = [name for name, found in zip(checks, rules, strict=True) if not found]
    covered = f"{len(checks) - len(missed)} of {len(checks)}"
    print(f"  strong_migrations' checks covered: {covered}; not: {', '.join(missed) or 'none'}")


if __name__ == "__main__":
    main()
