"""Write the figures of a benchmark into the page on benchmarks, and draw its charts: ``python docs/figures.py``.

They are made from ``benchmarks.json``, which is the file of results that ``make bench`` wrote for this page.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path

FOLDER = Path(__file__).parent
sys.path.append(str(FOLDER.parent / "benchmarks"))

from projects import Shape  # noqa: E402 (benchmarks/ is no package)
from report import TITLES, Figure, Results, plot  # noqa: E402
from tools import TOOLS  # noqa: E402

PAGE = FOLDER / "benchmarks.md"
RESULTS = FOLDER / "benchmarks.json"
FIGURES = re.compile(r"(?<=<!-- made from benchmarks\.json by docs/figures\.py -->\n).*?(?=<!-- end -->)", re.DOTALL)
MEASURED = {"flask": "`Ampho(app)`", "quart": "`AsyncAmpho(app)`", "import": "`import ampho`"}
GOALS = """\
These are the goals for Ampho. No tool can meet a goal if the app alone, or creating the tables alone, already takes
longer. This is the case for a start with nothing to do, where a bare app takes half as long as Flask-Migrate, and for a
downgrade, where the floor takes an eighth as long as Alembic."""
MET = {True: "yes", False: "no", None: "not measured"}


def read() -> Results:
    """Read the results, with the small projects first, and the tools as they are listed."""
    results = Results.read(RESULTS)
    order = {tool.name: number for number, tool in enumerate(TOOLS)}
    results.figures.sort(key=lambda one: (one.backend != "sqlite", Shape.parse(one.size).total, order[one.tool]))
    return results


def figures(results: Results) -> str:
    """Return the figures, in Markdown."""
    parts = [_setting(results)]
    groups = dict.fromkeys((one.backend, one.size) for one in results.figures)
    parts += [_table(size, backend, results) for backend, size in groups]
    return "\n" + "\n\n".join([*parts, _worker(results), _goals(results)]) + "\n\n"


def _setting(results: Results) -> str:
    versions = ", ".join(f"{name} {version}" for name, version in results.versions.items())
    place = "in memory" if results.machine["in_memory"] else "on a disk"
    return (
        f"Measured on {results.made[:10]} with Python {results.machine['python']} on {results.machine['processors']}"
        f" processors, with SQLite files {place}: {versions}. The tables show the CPU time of the whole process in"
        " seconds (medians). The last column is the peak memory of a `noop` in MiB."
    )


def _table(size: str, backend: str, results: Results) -> str:
    here = [one for one in results.figures if (one.size, one.backend) == (size, backend)]
    operations = [name for name in TITLES if any(one.operation == name for one in here)]
    columns = [*operations, *(["MiB"] if "noop" in operations else [])]
    rows = [f"### {size}, {backend}\n", f"| | {' | '.join(columns)} |", "| --- |" + " ---: |" * len(columns)]
    for tool, driver in dict.fromkeys((one.tool, one.driver) for one in here):
        found = {one.operation: one for one in here if (one.tool, one.driver) == (tool, driver)}
        cells = [_seconds(found.get(name)) for name in operations]
        cells += [_mebibytes(found.get("noop"))] if "noop" in operations else []
        rows.append(f"| {tool}, {driver} | {' | '.join(cells)} |")
    return "\n".join(rows)


def _seconds(figure: Figure | None) -> str:
    return f"{figure.cpu:.2f}" if figure else ""


def _mebibytes(figure: Figure | None) -> str:
    return f"{figure.memory:.0f}" if figure else ""


def _worker(results: Results) -> str:
    rows = ["### In a web worker\n", "| adds | ms of CPU | MiB |", "| --- | ---: | ---: |"]
    for what, name in MEASURED.items():
        if what in results.worker:
            found = results.worker[what]
            rows.append(f"| {name} | {found.cpu * 1000:.1f} | {found.memory:.1f} |")
    return "\n".join(rows)


def _goals(results: Results) -> str:
    rows = ["### Goals\n", f"{GOALS}\n", "| ratio of medians | goal | measured | met |", "| --- | ---: | ---: | --- |"]
    return "\n".join([*rows, *_goal_rows(results)])


def _goal_rows(results: Results) -> Iterator[str]:
    for must in results.musts:
        if must.value is not None:
            yield f"| {must.claim} | {must.bound:g} | {must.value:.2f} | {MET[must.passed]} |"


def page(text: str, results: Results) -> str:
    """Return the page with the figures as they have to be."""
    written, times = FIGURES.subn(lambda _: figures(results), text)
    if times != 1:
        sys.exit(f"{PAGE} has {times} places for figures, and not one.")
    return written


def charts(results: Results) -> dict[Path, str]:
    """Return the charts, one for each backend."""
    backends = dict.fromkeys(one.backend for one in results.figures)
    return {FOLDER / f"benchmarks-{backend}.svg": plot(results, backend) for backend in backends}


if __name__ == "__main__":
    found = read()
    PAGE.write_text(page(PAGE.read_text("utf-8"), found), "utf-8")
    for path, chart in charts(found).items():
        path.write_text(chart, "utf-8")
