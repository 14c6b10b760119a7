"""What the benchmarks found: as a table, as ``results.json``, and as bar charts in SVG.

``results.json`` is an object with these keys::

    made      when, in UTC, ISO 8601
    machine   system, python, processors, and in_memory: whether the SQLite files were in memory
    versions  of the packages that were compared
    rounds    how many rounds were asked for
    figures   a list: size, backend, driver, tool, operation; the medians cpu (seconds, of the process and its
              children), wall (seconds) and memory (MiB at the peak); samples, a list of [cpu, wall, memory]
    failures  a list: size, backend, driver, tool, operation, error. What failed, or did no work, has no figure.
    worker    flask, quart, import, alone: each with the cpu (seconds) and the memory (MiB) that Ampho adds to a
              process; see ``worker.py``
    musts     a list: number, claim, bound, value and passed, of the promises that these results can judge; value and
              passed are null where a figure is missing
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from html import escape
from pathlib import Path
from typing import Any

from measure import Usage

REFERENCE = "Ampho on Flask"
"""The tool that the ratios are to."""

TITLES = {
    "noop": "nothing to do",
    "fresh": "the same, no bytecode",
    "current": "current",
    "show": "show the history",
    "new": "new revision",
    "upgrade": "full upgrade",
    "downgrade": "full downgrade",
}
_SVG = """\
<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}" \
font-family="sans-serif" font-size="11">
<style>
text {{ fill: #333 }}
.ampho {{ fill: #0b7285 }}
.other {{ fill: #adb5bd }}
.floor, .bare {{ fill: #e9c46a }}
.title {{ font-weight: bold }}
.label {{ text-anchor: end }}
</style>
<rect width="{width}" height="{height}" fill="#fff"/>"""
# Pixels, but for the first one.
_COLUMNS, _PANEL, _LABEL, _BAR, _LINE, _TITLE, _VALUE = 4, 190, 210, 11, 16, 28, 56


@dataclass(frozen=True)
class Figure:
    """What one operation of one tool took: medians of its samples."""

    size: str
    backend: str
    driver: str
    tool: str
    operation: str
    cpu: float
    wall: float
    memory: float
    samples: list[tuple[float, float, float]]

    @classmethod
    def of(cls, where: tuple[str, str, str, str, str], samples: Sequence[Usage]) -> Figure:
        cpu = statistics.median(sample.cpu for sample in samples)
        wall = statistics.median(sample.wall for sample in samples)
        memory = statistics.median(sample.memory for sample in samples)
        raw = [(round(one.cpu, 4), round(one.wall, 4), round(one.memory, 2)) for one in samples]
        return cls(*where, round(cpu, 4), round(wall, 4), round(memory, 2), raw)


@dataclass(frozen=True)
class Failure:
    """An operation of a tool that has no figure, and why."""

    size: str
    backend: str
    driver: str
    tool: str
    operation: str
    error: str


@dataclass(frozen=True)
class Worker:
    """What Ampho adds to a process: seconds of CPU, and MiB."""

    cpu: float
    memory: float


@dataclass(frozen=True)
class Must:
    """A promise, its bound, and what was measured; None where a figure is missing."""

    number: int
    claim: str
    bound: float
    value: float | None
    passed: bool | None


@dataclass
class Results:
    """Everything that one run found."""

    made: str
    machine: dict[str, Any]
    versions: dict[str, str]
    rounds: int
    figures: list[Figure] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)
    worker: dict[str, Worker] = field(default_factory=dict)
    musts: list[Must] = field(default_factory=list)
    earlier: Results | None = field(default=None, repr=False)
    """What another run found, which is kept where this one does not look."""

    def write(self, path: Path) -> None:
        whole = asdict(self.whole())
        del whole["earlier"]
        path.write_text(json.dumps(whole, indent=1) + "\n", "utf-8")

    @classmethod
    def read(cls, path: Path) -> Results:
        found = json.loads(path.read_text("utf-8"))
        found["figures"] = [Figure(**figure) for figure in found["figures"]]
        found["failures"] = [Failure(**failure) for failure in found["failures"]]
        found["worker"] = {what: Worker(**worker) for what, worker in found["worker"].items()}
        found["musts"] = [Must(**must) for must in found["musts"]]
        return cls(**found)

    def whole(self) -> Results:
        """Return this with what was kept; the figures that are compared stay of one run."""
        earlier = self.earlier
        if earlier is None:
            return self
        known = {(one.size, one.backend, one.operation) for one in self.figures if one.tool != "bare app"}
        known |= {(one.size, one.backend, one.operation) for one in self.failures}
        found = {(one.size, one.driver, one.tool, one.operation) for one in self.figures}
        figures = [
            one
            for one in earlier.figures
            if (one.size, one.backend, one.operation) not in known
            and (one.size, one.driver, one.tool, one.operation) not in found
        ]
        failures = [one for one in earlier.failures if (one.size, one.backend, one.operation) not in known]
        return replace(
            self,
            figures=self.figures + figures,
            failures=self.failures + failures,
            worker=earlier.worker | self.worker,
            earlier=None,
        )

    def find(self, size: str, driver: str, tool: str, operation: str) -> Figure | None:
        for figure in self.figures:
            if (figure.size, figure.driver, figure.tool, figure.operation) == (size, driver, tool, operation):
                return figure
        return None


def as_text(results: Results) -> str:
    """Return everything as a table for the terminal."""
    return "\n".join([*_figures(results), *_worker(results), *_failures(results), *_musts(results)])


def _figures(results: Results) -> Iterator[str]:
    place = "memory" if results.machine["in_memory"] else "a folder on a disk"
    yield f"Python {results.machine['python']}, {results.machine['processors']} processors, {results.made}"
    yield f"SQLite files in {place}"
    yield ", ".join(f"{name} {version}" for name, version in results.versions.items())
    yield f"medians of at most {results.rounds} rounds; ratio: CPU time compared with {REFERENCE}"
    for (size, backend, operation), figures in _grouped(results.figures):
        yield f"\n{size}, {backend}: {TITLES[operation]}"
        yield f"  {'':<32}{'CPU s':>9}{'wall s':>9}{'MiB':>8}{'ratio':>8}{'rounds':>8}"
        reference = next((figure.cpu for figure in figures if figure.tool == REFERENCE), None)
        for figure in figures:
            ratio = f"{figure.cpu / reference:.2f}" if reference else "-"
            name = f"{figure.tool}, {figure.driver}"
            yield (
                f"  {name:<32}{figure.cpu:>9.2f}{figure.wall:>9.2f}{figure.memory:>8.0f}{ratio:>8}"
                f"{len(figure.samples):>8}"
            )


def _grouped(figures: Sequence[Figure]) -> Iterator[tuple[tuple[str, str, str], list[Figure]]]:
    groups: dict[tuple[str, str, str], list[Figure]] = {}
    for figure in figures:
        groups.setdefault((figure.size, figure.backend, figure.operation), []).append(figure)
    yield from groups.items()


def _worker(results: Results) -> Iterator[str]:
    if results.worker:
        yield "\nadded to a process that has an app:"
    names = {
        "flask": "Ampho(app)",
        "quart": "AsyncAmpho(app)",
        "import": "import ampho",
        "alone": "import ampho and nothing else",
    }
    for what, worker in results.worker.items():
        yield f"  {names[what]:<32}{worker.cpu * 1000:>9.1f} ms{worker.memory:>9.1f} MiB"


def _failures(results: Results) -> Iterator[str]:
    if results.failures:
        yield "\nno figure, since it failed or did no work:"
    for failure in results.failures:
        where = (failure.size, failure.driver or failure.backend, failure.operation, failure.tool)
        yield f"  {', '.join(part for part in where if part)}: {failure.error}"


def _musts(results: Results) -> Iterator[str]:
    yield "\nmust show:"
    measured = [must for must in results.musts if must.value is not None]
    for must in measured:
        verdict = "yes" if must.passed else "NO"
        yield f"  {must.number}  {must.claim:<75}{must.value:>8.2f} <={must.bound:>6.2f}  {verdict}"
    if len(measured) < len(results.musts):
        yield f"  {len(results.musts) - len(measured)} more were not measured"


def write_plots(results: Results, beside: Path) -> list[Path]:
    """Write a chart for each backend beside the JSON file, and return the paths."""
    paths = []
    for backend in dict.fromkeys(figure.backend for figure in results.figures):
        path = beside.with_name(f"{beside.stem}-{backend}.svg")
        path.write_text(plot(results, backend), "utf-8")
        paths.append(path)
    return paths


def plot(results: Results, backend: str) -> str:
    """Draw the CPU seconds on one backend: for each size some rows of panels, one for each operation."""
    figures = [figure for figure in results.figures if figure.backend == backend]
    parts: list[str] = []
    top = 0
    for size in dict.fromkeys(figure.size for figure in figures):
        here = [figure for figure in figures if figure.size == size]
        parts.append(f'<text class="title" x="8" y="{top + 18}">{escape(size)}, {backend}, CPU seconds</text>')
        top += _TITLE
        operations = [operation for operation in TITLES if any(figure.operation == operation for figure in here)]
        for start in range(0, len(operations), _COLUMNS):
            columns = operations[start : start + _COLUMNS]
            names = list(dict.fromkeys(_name(figure) for figure in here if figure.operation in columns))
            parts += _labels(names, top)
            for column, operation in enumerate(columns):
                chosen = {_name(figure): figure for figure in here if figure.operation == operation}
                parts += _panel(chosen, names, operation, _LABEL + column * _PANEL, top)
            top += _TITLE + _LINE * len(names) + 12
    head = _SVG.format(width=_LABEL + _COLUMNS * _PANEL, height=top + 8)
    return "\n".join([head, *parts, "</svg>", ""])


def _labels(names: Sequence[str], top: int) -> Iterator[str]:
    for number, name in enumerate(names):
        y = top + _TITLE + number * _LINE + _BAR - 1
        yield f'<text class="label" x="{_LABEL - 8}" y="{y}">{escape(name)}</text>'


def _panel(chosen: dict[str, Figure], names: Sequence[str], operation: str, left: int, top: int) -> Iterator[str]:
    """Draw the bars of one operation, the longest as long as there is room."""
    yield f'<text class="title" x="{left}" y="{top + _TITLE - 8}">{TITLES[operation]}</text>'
    longest = max(figure.cpu for figure in chosen.values())
    for number, name in enumerate(names):
        figure = chosen.get(name)
        if figure is None:
            continue
        y = top + _TITLE + number * _LINE
        length = round((_PANEL - _VALUE) * figure.cpu / longest, 1) if longest else 0
        kind = next((kind for kind in ("ampho", "floor", "bare") if figure.tool.lower().startswith(kind)), "other")
        yield f'<rect class="{kind}" x="{left}" y="{y}" width="{length}" height="{_BAR}"/>'
        yield f'<text x="{left + length + 4}" y="{y + _BAR - 1}">{figure.cpu:.2f}</text>'


def _name(figure: Figure) -> str:
    return f"{figure.tool}, {figure.driver}"
