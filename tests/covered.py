"""What `make test` says of coverage: required where every server is installed, and for information elsewhere.

Run as a program, after the data files of a run were combined, with the percentage that is required, and ``--partial``
where only some of the tests ran.
"""

from __future__ import annotations

import json
import subprocess
import sys

from servers import missing


def judge(required: float, *, partial: bool) -> tuple[int, str]:
    """Return an exit code and what to say; the code is 1 if a share that counts is below what is required."""
    options = ["--fail-under=0", "--quiet", "-o", "-"]
    report = subprocess.run([sys.executable, "-m", "coverage", "json", *options], capture_output=True, check=True)
    totals = json.loads(report.stdout)["totals"]
    lines, branches = totals["percent_statements_covered"], totals["percent_branches_covered"]
    found = f"Coverage: {lines:.1f} % of the lines, {branches:.1f} % of the branches"
    if partial:
        return 0, f"{found}. PYTEST_ARGS chose the tests, so none is required."
    if reasons := missing():
        return 0, f"{found}. None is required, because a server is missing: {'; '.join(reasons)}."
    return int(min(lines, branches) < required), f"{found}; {required:g} % are required."


if __name__ == "__main__":
    code, text = judge(float(sys.argv[1]), partial="--partial" in sys.argv[2:])
    sys.stdout.write(f"{text}\n")
    sys.exit(code)
