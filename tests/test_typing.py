"""Type checkers see each command of both extensions with its parameters and its result, and so does Python."""

from __future__ import annotations

import ast
import inspect
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from ampho import Ampho, AsyncAmpho
from ampho.commands import Commands
from ampho.extension import Extension, command

pytestmark = pytest.mark.usefixtures("unmeasured_processes")

TYPED = Path(__file__).parent / "typed"
RIGHT, WRONG = TYPED / "right.py", TYPED / "wrong.py"
CACHE = TYPED.parent.parent / ".mypy_cache" / "typed"
COMMANDS = [name for name, value in vars(Extension).items() if isinstance(value, command)]
MISTAKES = {
    (WRONG.name, number) for number, line in enumerate(WRONG.read_text("utf-8").splitlines(), 1) if "# wrong" in line
}


def mypy_errors() -> set[tuple[str, int]]:
    # Errors of the package itself are for `make check`.
    options = ["--strict", "--follow-imports=silent", "--no-error-summary", "--config-file=", f"--cache-dir={CACHE}"]
    done = subprocess.run(
        [sys.executable, "-m", "mypy", *options, str(RIGHT), str(WRONG)], check=False, capture_output=True, text=True
    )
    assert done.stderr == ""
    found = re.findall(r"^(.+?):(\d+): error:", done.stdout, re.MULTILINE)
    return {(Path(path).name, int(line)) for path, line in found}


def pyright_errors() -> set[tuple[str, int]]:
    done = subprocess.run(
        [sys.executable, "-m", "pyright", "--outputjson", "--pythonpath", sys.executable, str(RIGHT), str(WRONG)],
        check=False,
        capture_output=True,
        text=True,
        env={**os.environ, "PYRIGHT_PYTHON_IGNORE_WARNINGS": "1"},
    )
    found = json.loads(done.stdout)["generalDiagnostics"]
    return {(Path(each["file"]).name, each["range"]["start"]["line"] + 1) for each in found}


@pytest.mark.parametrize("errors", [mypy_errors, pyright_errors])
def test_type_checkers_accept_right_calls_and_report_wrong_ones(errors: Any) -> None:
    assert errors() == MISTAKES


@pytest.mark.parametrize("function", ["on_flask", "on_quart"])
def test_the_type_of_every_command_is_asserted_with_each_parameter(function: str) -> None:
    tree = ast.parse(RIGHT.read_text("utf-8"))
    (body,) = (node for node in tree.body if getattr(node, "name", "") == function)
    asserted: dict[str, set[str]] = {}
    for call in (node for node in ast.walk(body) if isinstance(node, ast.Call)):
        value = call.args[0] if getattr(call.func, "id", "") == "assert_type" else None
        value = value.value if isinstance(value, ast.Await) else value
        if isinstance(value, ast.Call) and isinstance(value.func, ast.Attribute):
            given = asserted.setdefault(value.func.attr, set())
            given |= {keyword.arg for keyword in value.keywords if keyword.arg}

    assert asserted.keys() == set(COMMANDS)
    for name, given in asserted.items():
        parameters = inspect.signature(getattr(Commands, name)).parameters.values()
        assert given == {each.name for each in parameters if each.kind is each.KEYWORD_ONLY}, name


@pytest.mark.parametrize("name", COMMANDS)
@pytest.mark.parametrize("kind", [Ampho, AsyncAmpho])
def test_a_command_is_a_method_like_any_other(kind: type[Any], name: str) -> None:
    function, method = getattr(Commands, name), getattr(kind, name)

    assert inspect.isfunction(method)
    assert method.__name__ == name
    assert method.__doc__ == function.__doc__
    assert inspect.signature(method) == inspect.signature(function)
    assert list(inspect.signature(getattr(kind(), name)).parameters) == list(inspect.signature(function).parameters)[1:]
    assert inspect.iscoroutinefunction(method) is inspect.iscoroutinefunction(getattr(kind(), name)) is kind.is_async
    assert method is getattr(kind, name)


def test_every_command_is_bound_under_its_own_name() -> None:
    public = [name for name in vars(Commands) if not name.startswith("_")]

    assert public == [*COMMANDS, "template"]  # which returns something else in Quart
    assert [getattr(Ampho, name).__wrapped__ for name in public] == [getattr(Commands, name) for name in public]
