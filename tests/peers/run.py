"""Run the test suite of Flask-SQLAlchemy against AsyncSQLAlchemy, and compare what fails with `differences.txt`.

    .venv/bin/python tests/peers/run.py [PYTEST ARGUMENT ...]

The source distribution of the installed version of Flask-SQLAlchemy is downloaded from the package index to
`build/peers`. Its tests run unchanged, against the stand-in in `standin.py`. The exit code is 1 if a test fails that is
not in `differences.txt`, or if a test passes that is. It takes about a minute, and is not a part of `make test`.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path

import pytest

HERE = Path(__file__).parent
BUILD = HERE.parents[1] / "build" / "peers"
DIFFERENCES = HERE / "differences.txt"


def main(arguments: list[str]) -> int:
    tests = fetch() / "tests"
    sys.path.insert(0, str(HERE))
    import standin

    standin.install()
    outcomes = Outcomes(standin.close)
    # The plug-ins of this environment are not for those tests.
    os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
    settings = ["-c", str(tests.parent / "pyproject.toml"), "--rootdir", str(tests.parent)]
    # From Python 3.12 on, the function that the tests use for default times is deprecated.
    settings += ["-W", "ignore:datetime.datetime.utcnow:DeprecationWarning"]
    pytest.main(["-q", "--no-header", "-p", "no:cacheprovider", *settings, str(tests), *arguments], [outcomes])
    standin.loop.close()
    return report(outcomes)


def fetch() -> Path:
    """Return the folder of Flask-SQLAlchemy's source distribution, which is downloaded if it is missing."""
    name = f"flask_sqlalchemy-{version('flask-sqlalchemy')}"
    if not (BUILD / name).exists():
        wanted = f"flask-sqlalchemy=={version('flask-sqlalchemy')}"
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-binary", ":all:", wanted]
        subprocess.run([*command, "--dest", str(BUILD)], check=True)
        with tarfile.open(BUILD / f"{name}.tar.gz") as archive:
            archive.extractall(BUILD, filter="data")
    return BUILD / name


class Outcomes:
    """A plug-in of pytest that notes which tests passed and which failed, and closes the connections of each test."""

    def __init__(self, close: Callable[[], None]) -> None:
        self.close = close
        self.passed: dict[str, bool] = {}

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        name = report.nodeid.rpartition("tests/")[2]
        self.passed[name] = self.passed.get(name, True) and report.passed

    @pytest.hookimpl(trylast=True)
    def pytest_runtest_teardown(self) -> None:
        self.close()


def report(outcomes: Outcomes) -> int:
    differences = dict(read_differences())
    failed = [name for name, passed in outcomes.passed.items() if not passed]
    listed = {name: entry for name in outcomes.passed for entry in differences if matches(name, entry)}
    say(f"{len(outcomes.passed) - len(failed)} of {len(outcomes.passed)} tests passed, {len(failed)} failed.")
    for entry, reason in differences.items():
        say(f"{sum(found == entry for found in listed.values()):4} {entry}: {reason}")
    wrong = [f"{name} failed, and is not in {DIFFERENCES.name}." for name in failed if name not in listed]
    wrong += [f"{name} passed, and is in {DIFFERENCES.name}." for name in listed if name not in failed]
    say(*wrong)
    return bool(wrong)


def say(*lines: str) -> None:
    sys.stdout.writelines(f"{line}\n" for line in lines)


def read_differences() -> Iterator[tuple[str, str]]:
    for line in DIFFERENCES.read_text().splitlines():
        if line and not line.startswith("#"):
            entry, _, reason = line.partition(": ")
            yield entry, reason


def matches(name: str, entry: str) -> bool:
    """Return whether an entry is a test, or the file or the function that a test belongs to."""
    return name == entry or name.startswith((f"{entry}[", f"{entry}::"))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
