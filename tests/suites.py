"""Suites of a project that the tests run with pytest in a process of its own, as the project's developers would."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from pathlib import Path

from project import Project, Result

SHOP = Path(__file__).resolve().parent.parent / "examples" / "shop"
INI = """\
[pytest]
addopts = -p no:cacheprovider --assert=plain -q -rA -W error
asyncio_mode = strict
{}
"""


def copy_shop(project: Project) -> Project:
    """Copy the example into a project."""
    for source in SHOP.rglob("*"):
        if source.suffix in {".py", ".ini", ".mako"}:
            target = project.folder / source.relative_to(SHOP)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(source, target)
    return project


def run_pytest(
    project: Project,
    *args: str,
    ini: str = "",
    cwd: str = ".",
    env: Mapping[str, str] | None = None,
    timeout: float = 60,
) -> Result:
    """Run pytest in a project, whose folder for temporary files is its own."""
    temporary = project.folder.parent / "temporary"
    temporary.mkdir(exist_ok=True)
    project.write("pytest.ini", INI.format(ini))
    command = ("-c", "import pytest, sys; sys.exit(pytest.main())", *args)
    # The workers of pytest-xdist, and the process that starts them, import everything themselves.
    fresh, environment = "-n" in args, {"TMPDIR": str(temporary), **(env or {})}
    return project.run("python", *command, check=False, fresh=fresh, cwd=cwd, env=environment, timeout=timeout)


def left_behind(project: Project) -> list[str]:
    """Return the names of the databases that a run left in its folder for temporary files, without the templates."""
    found = (project.folder.parent / "temporary" / f"ampho-{os.getuid()}").glob("*")
    return [path.name for path in found if path.name.startswith(("ampho_build", "ampho_clone"))]
