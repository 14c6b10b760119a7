"""What the commands print says the same for people and for scripts, and is what the next command then does."""

from __future__ import annotations

import importlib
import json
import random
import re
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from drawn import READERS, Box
from graphs import random_history, step_file
from project import Project, Result
from servers import Database

pytestmark = pytest.mark.usefixtures("unmeasured_processes")

DRIVERS = {"flask": "sqlite+pysqlite", "quart": "sqlite+aiosqlite"}
SIGNS = {"applied": "[X]", "pending": "[ ]", "missing": "[!]", "unfinished": "[!]"}


@dataclass(frozen=True)
class Typist:
    """Types commands in a project, and compares what they say with ``--json`` and without."""

    project: Project

    def type(self, *args: str, env: Mapping[str, str] | None = None, exit_code: int = 0) -> Result:
        result = self.project.run("ampho", *args, env=env, check=False)
        assert result.exit_code == exit_code, str(result)
        return result

    def json(self, command: str, *args: str, **kwargs: Any) -> Any:
        printed = json.loads(self.type(command, *args, "--json", **kwargs).stdout)
        return next(value for key, value in printed.items() if key not in ("version", "command"))

    def status(self) -> dict[str, str]:
        """Check the status, and return the mark of each revision."""
        told = self.json("db-status", "--all")
        marks = {one["id"]: one["mark"] for package in told["packages"] for one in package["revisions"]}
        self._check_table(told)
        self._check_list(told)
        pending = sum(package["pending"] for package in told["packages"])
        assert pending == sum(mark in ("pending", "unfinished") for mark in marks.values())
        return marks

    def _check_table(self, told: Any) -> None:
        text = self.type("db-status").stdout
        rows = {
            cells[0]: cells[1:] for line in text.splitlines() if len(cells := re.split(r" {2,}", line.strip())) == 8
        }
        assert rows.pop("Package")
        for package in told["packages"]:
            conflict = " (conflict)" if package["is_in_conflict"] else ""
            assert rows.pop(package["package"]) == [
                *(str(package[name]) for name in ("applied", "implied", "pending", "missing")),
                ", ".join(package["heads"]) + conflict or "-",
                package["last"] or "-",
                (package["when"] or "-").replace("T", " ")[:19],
            ]
        assert not rows
        said = re.search(r"^Pending: (\d+) revisions? of (\d+) package", text, re.MULTILINE)
        behind = [package["pending"] for package in told["packages"] if package["pending"]]
        assert [int(number) for number in said.groups()] == [sum(behind), len(behind)] if said else not behind

    def _check_list(self, told: Any) -> None:
        lines = iter(self.type("db-status", "--all").stdout.splitlines())
        for package in told["packages"]:
            counts = ", ".join(f"{package[name]} {name}" for name in ("applied", "pending", "missing") if package[name])
            assert next(lines) == f"{package['package']}  {counts or 'no revisions yet'}"
            for one in package["revisions"]:
                line = next(lines)
                assert line[:5].strip() == SIGNS[one["mark"]]
                assert line[5:].split()[0] == one["id"]
                assert ("(head" in line) == one["is_head"]

    def graph(self, *options: str) -> dict[str, str]:
        """Check the pictures, and return the mark of each revision."""
        told = self.json("db-graph", *options)
        boxes = sorted(
            Box(node["revisions"][0], node["revisions"][-1], len(node["revisions"]), node["mark"], node["is_head"])
            for node in told["nodes"]
        )
        edges = {(edge["source"], edge["target"], edge["is_dependency"]) for edge in told["edges"]}
        lanes = {
            lane["package"]: ", ".join(f"{count} {mark}" for mark, count in lane["counts"].items()) or "no revisions"
            for lane in told["lanes"]
        }
        for form, read in READERS.items():
            drawn = read(self.type("db-graph", "--format", form, *options).stdout)
            assert sorted(drawn.boxes) == boxes, form
            assert drawn.edges in (None, edges), form
            assert form not in ("svg", "text") or drawn.lanes == lanes, form
        return {rid: node["mark"] for node in told["nodes"] for rid in node["revisions"]}

    def state(self, *options: str) -> dict[str, str]:
        """Check that the status and the pictures say the same, and return the mark of each revision."""
        marks = self.status()
        assert self.graph(*options) == marks
        return marks

    def plan(self, command: str, *args: str) -> list[str]:
        """Check a plan, and return the ids of its steps."""
        told = self.json(command, "--plan", *args)
        text = self.type(command, "--plan", *args).stdout
        cells = [re.split(r" {2,}", line.strip()) for line in text.splitlines() if re.match(r" *\d+ {2,}", line)]
        assert [tuple(row[:4]) for row in cells] == [
            (str(number), step["revision"], step["package"], step["reason"])
            for number, step in enumerate(told["steps"], 1)
        ]
        counts = Counter(step["package"] for step in told["steps"])
        along = ", ".join(f"{package} ({counts[package]})" for package in told["along"])
        assert re.findall(r"^Also (?:applies|reverts): (.*)$", text, re.MULTILINE) == [along] * bool(along)
        return [step["revision"] for step in told["steps"]]

    def run(self, command: str, *args: str, **kwargs: Any) -> list[str]:
        """Run a command, and return the ids of the steps that it says were done, in their order."""
        result = self.type(command, *args, **kwargs)
        return re.findall(r"^  [+-] (\S+) .*\.\.\. [\d.]+ m?s$", result.stdout, re.MULTILINE)


@pytest.mark.usefixtures("unmeasured")
@pytest.mark.parametrize(("framework", "seed"), [("flask", 5), ("quart", 12)])
def test_commands_say_the_same_to_all_and_what_comes(
    framework: str, seed: int, project: Project, make_database: Callable[[str], Database]
) -> None:
    rng = random.Random(seed)
    history = random_history(rng, odd=bool(seed % 2))
    database = make_database(DRIVERS[framework])
    database.run("CREATE TABLE log (number INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE)")
    for name in history.packages:
        project.package(name)
    history.write(project.folder, step_file)
    project.app(framework, history.packages, database.url, path="wsgi.py", import_name="wsgi")
    typist = Typist(project)

    def applied() -> set[str]:
        return {row[0] for row in database.query("SELECT id FROM log")}

    def check_state() -> None:
        marks = typist.state("--full")
        assert marks == {rid: "applied" if rid in applied() else "pending" for rid in history.revisions}

    def foresee(command: str, specifier: str, *options: str) -> list[str]:
        """Plan and run, in one go or with a failure halfway, and check what is said before and after."""
        before, planned = applied(), typist.plan(command, specifier, *options)
        safe = [rid for rid in planned if int(rid.rpartition("_")[2]) % 3]  # others commit before their end
        if doomed := rng.choice([None, *safe[1:]]):
            told = typist.json(command, specifier, *options, env={"DOOMED": doomed}, exit_code=1)
            done = planned[: planned.index(doomed)]
            assert (told["revision"], told["applied"]) == (doomed, done)
            assert applied() == before ^ set(done)
            assert typist.plan(command, specifier, *options) == planned[len(done) :]
            assert typist.run(command, specifier, *options) == planned[len(done) :]
        else:
            assert [step["revision"] for step in typist.json(command, specifier, *options)["steps"]] == planned
        assert applied() == before ^ set(planned)
        check_state()
        return planned

    check_state()
    package = history.packages[-1]
    assert set(history.of_package(package)) <= set(foresee("db-up", package))
    foresee("db-up", "heads")
    assert applied() == set(history.revisions)
    foresee("db-down", f"{history.packages[0]}@base", "--cascade")
    assert not applied() & set(history.of_package(history.packages[0]))


@pytest.fixture
def large(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The module that makes the projects of the benchmarks."""
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "benchmarks"))
    return importlib.import_module("projects")


@pytest.mark.usefixtures("unmeasured")
@pytest.mark.parametrize("framework", DRIVERS)
def test_commands_say_the_same_of_many_packages(
    framework: str, project: Project, make_database: Callable[[str], Database], large: Any
) -> None:
    shape = large.Shape(50, 20, dependencies=True)
    large.write_alembic(shape, project.folder)
    database = make_database(DRIVERS[framework])
    project.app(framework, shape.package_names, database.url, path="wsgi.py", import_name="wsgi")
    typist = Typist(project)
    planned = typist.plan("db-up", "p004")
    assert typist.run("db-up", "p004") == planned
    applied = {table for table in database.tables() if table != "alembic_version"}
    assert applied == {revision.table for revision in shape if revision.id in planned}
    marks = typist.state()
    assert marks == {revision.id: "applied" if revision.table in applied else "pending" for revision in shape}
    assert typist.plan("db-down", "p000@base", "--cascade") == typist.run("db-down", "p000@base", "--cascade")
