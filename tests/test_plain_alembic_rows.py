"""The benchmark that compares version rows runs, and says what the documentation quotes from it."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[1] / "benchmarks" / "plain_alembic_rows.py"


@pytest.mark.usefixtures("unmeasured")
def test_benchmark_prints_a_table_in_which_ampho_never_fails() -> None:
    done = subprocess.run(
        [sys.executable, SCRIPT, "--graphs", "4", "--seed", "7"],
        capture_output=True,
        text=True,
        timeout=100,
        check=True,
    )
    lines = done.stdout.splitlines()
    assert lines[0] == "4 histories of each kind, 12 commands each; failed histories:"
    assert lines[2].split() == ["dependencies", "plain", "Alembic", "Ampho"]
    rows = [re.fullmatch(r"(.+?) {2,}(\d) +(\d)", line) for line in lines[3:8]]
    assert [row and row[3] for row in rows] == ["0"] * 5
    assert rows[0] is not None
    assert rows[0][2] == "0", "without dependencies, plain Alembic is right too"
    assert rows[4] is not None
    assert rows[4][1] == "at most 3 a revision, to and fro"
    assert int(rows[4][2]) > 0, "the seeds are chosen so that there is something to see"
    assert lines[9] == "errors:"
    assert all(re.match(r" +\d+  [A-Za-z]", line) for line in lines[10:])
