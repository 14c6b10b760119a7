"""The history of another tool: what a user names, where its files are, and what lies beside them."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from configparser import ConfigParser, Error
from dataclasses import dataclass
from pathlib import Path

from ampho._text import describe, shown_path
from ampho.errors import RevisionInputError
from ampho.history.files import is_revision_file
from ampho.history.revision import Revision, read_revision
from ampho.revise.adopt.env_py import template_files

_IGNORED = frozenset(["__pycache__", ".DS_Store"])
# The settings of Alembic that change how new files are written.
_SETTINGS = frozenset(
    ["file_template", "timezone", "truncate_slug_length", "revision_environment", "sourceless", "output_encoding"]
)


@dataclass(frozen=True)
class Source:
    """The files of another tool.

    :ivar path: what the user named.
    :ivar folder: the folder with ``env.py``.
    :ivar versions: the folders with revision files.
    :ivar revisions: the revisions in them.
    """

    path: Path
    folder: Path
    versions: tuple[Path, ...]
    revisions: tuple[Revision, ...]

    @classmethod
    def of(cls, path: Path, package: str) -> Source:
        """Return the files at a path.

        :raises RevisionInputError: if there are none.
        """
        folder, versions = _places(path, package)
        files = [each for place in versions if place.is_dir() for each in sorted(place.iterdir())]
        found = [read_revision(str(each), package) for each in files if is_revision_file(each.name)]
        return cls(path, folder, versions, tuple(found))

    @property
    def env_py(self) -> Path | None:
        """The tool's ``env.py``; None if there is none."""
        path = self.folder / "env.py"
        return path if path.is_file() else None

    def moved(self) -> Iterator[Path]:
        """Yield the files and folders that move: the revision files, and what lies beside them."""
        for place in self.versions:
            for each in sorted(place.iterdir()):
                if each.name not in _IGNORED and (place != self.folder or is_revision_file(each.name)):
                    yield each

    def left(self) -> Iterator[Path]:
        """Yield the files and folders that are no longer used once the others have moved."""
        for each in sorted(self.folder.iterdir()):
            if (
                each.name not in _IGNORED
                and each not in self.versions
                and not (self.folder in self.versions and is_revision_file(each.name))
            ):
                yield each
        if self.path.is_file() and self.path.parent != self.folder:
            yield self.path

    def settings(self) -> Iterator[str]:
        """Yield the settings and the template that are not those of the tool."""
        ini = self.path if self.path.is_file() else self.folder / "alembic.ini"
        parser = ConfigParser(interpolation=None)
        try:
            parser.read(ini, "utf-8")
        except (Error, UnicodeDecodeError):
            return
        for section in parser.sections():
            for name, value in parser.items(section):
                if (section == "alembic" and name in _SETTINGS) or section == "post_write_hooks":
                    yield f"{shown_path(ini)}: {name} = {value}"
        template = self.folder / "script.py.mako"
        if template.is_file() and template.read_bytes() not in [
            each.read_bytes() for each in template_files(template.name)
        ]:
            yield f"{shown_path(template)}: it is not the template of the tool"


def _places(path: Path, package: str) -> tuple[Path, tuple[Path, ...]]:
    """Return the folder of ``env.py``, and the folders with revision files."""
    from alembic.config import Config
    from alembic.script import ScriptDirectory
    from alembic.util import CommandError

    ini = path / "alembic.ini" if path.is_dir() else path
    if not path.exists():
        raise _unusable(path, package, "does not exist")
    if path.is_dir() and not (path / "env.py").is_file():
        if not any(is_revision_file(each.name) for each in path.iterdir()):
            raise _unusable(path, package, "contains neither an env.py nor revision files")
        return path, (path,)
    config = Config(ini) if ini.is_file() else Config()
    if path.is_dir():
        config.set_main_option("script_location", str(path).replace("%", "%%"))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the settings of the old tool are about to go
            script = ScriptDirectory.from_config(config)
    except (CommandError, Error, ImportError) as exc:
        raise _unusable(path, package, f"cannot be read: {describe(exc)}") from exc
    folder = Path(script.dir).resolve()
    places = script._version_locations  # noqa: SLF001 (the public attribute has them as they are written)
    return folder, tuple(dict.fromkeys(Path(each).resolve() for each in places))


def _unusable(path: Path, package: str, why: str) -> RevisionInputError:
    return RevisionInputError(
        f"{shown_path(path)} {why}. Name the folder that contains env.py, such as 'migrations', a folder with revision"
        " files, or an alembic.ini.",
        package=package,
    )
