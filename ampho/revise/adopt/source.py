"""The history of another tool: what a user names, where its files are, and what lies beside them."""

from __future__ import annotations

import re
import shutil
import warnings
from collections.abc import Iterable, Iterator, Mapping
from configparser import Error
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, cast

from ampho._text import describe, shown_path
from ampho.errors import RevisionInputError
from ampho.history.files import is_revision_file
from ampho.history.package import FOLDER
from ampho.history.revision import Revision, read_revision
from ampho.revise import writer
from ampho.revise.adopt.env_py import Own, own_of_values, read_own, template_files

if TYPE_CHECKING:
    from alembic.config import Config
    from alembic.script import ScriptDirectory
    from flask.sansio.app import App

LOG = ".ampho-adopt"
"""The file that lists what is moved while it is moved."""

IGNORED = frozenset(["__pycache__", ".DS_Store", LOG, f"{LOG}.new"])
# The settings of Alembic that change how new files are written.
_SETTINGS = frozenset(
    ["file_template", "timezone", "truncate_slug_length", "revision_environment", "sourceless", "output_encoding"]
)
_HOOKS = "post_write_hooks"
_INI, _TOML = "alembic.ini", "pyproject.toml"
_FLASK_ALEMBIC, _CONTEXT = "ALEMBIC", "ALEMBIC_CONTEXT"


@dataclass(frozen=True)
class Source:
    """The files of another tool.

    :ivar path: what the user named.
    :ivar folder: the folder with ``env.py``.
    :ivar versions: the folders with revision files.
    :ivar revisions: the revisions in them.
    :ivar is_recursive: whether the tool reads the subfolders of these folders.
    :ivar labels: the labels of folders, as ``ALEMBIC`` of Flask-Alembic names them.
    :ivar config: the settings of Flask-Alembic in ``app.config``; None for any other tool.
    """

    path: Path
    folder: Path
    versions: tuple[Path, ...]
    revisions: tuple[Revision, ...] = ()
    is_recursive: bool = False
    labels: Mapping[Path, str] = field(default_factory=dict[Path, str])
    config: Mapping[str, object] | None = None

    @classmethod
    def of(cls, path: Path, package: str, app: App | None = None) -> Source:
        """Return the files at a path.

        :param package: the name of the package that gets the revisions.
        :param app: the app, whose configuration may have settings of Flask-Alembic for this path.
        :raises RevisionInputError: if there are none.
        """
        found = _of_flask_alembic(app) if app is not None and not (path / "env.py").exists() else None
        if found is None or found.folder != path.resolve():
            found = _places(path, package)
        return cls(
            path,
            found.folder,
            found.versions,
            tuple(read_revision(str(each), package) for each in _files(found)),
            found.is_recursive,
            found.labels,
            found.config,
        )

    @property
    def env_py(self) -> Path | None:
        """The tool's ``env.py``; None if there is none."""
        path = self.folder / "env.py"
        return path if path.is_file() else None

    def own(self) -> Own:
        """Return what the project has added to the tool's ``env.py``, or has in its place."""
        if self.config is not None:
            return own_of_values(_mapping(self.config.get(_CONTEXT)))
        return read_own(self.env_py.read_text("utf-8", "replace")) if self.env_py else Own()

    def notes(self, own: Own, given: Iterable[str] = ()) -> Iterator[str]:
        """Yield what cannot be copied, each with its file and line.

        :param given: the arguments of ``configure()`` that the app passes in another way.
        """
        place = f'app.config["{_CONTEXT}"]' if self.config is not None else f"{shown_path(self.folder / 'env.py')}:"
        for line, text in own.notes:
            if text.partition("=")[0] not in own.of_tool.intersection(given):
                yield f"{place}{line}: {text}" if line else f"{place}: {text}"
        yield from self.settings()
        for path in self._beside():
            if not _is_of_tool(path):
                yield f"{shown_path(path)}: it stays where it is, because revisions may use it"

    def contents(self) -> Iterator[tuple[Path, Path]]:
        """Yield the files that move, also in subfolders, each with the folder of revision files that contains it."""
        for place in self.versions:
            for path in self.moved(place):
                for each in sorted(path.rglob("*")) if path.is_dir() else [path]:
                    if each.is_file() and IGNORED.isdisjoint(each.relative_to(place).parts):
                        yield place, each

    def moved(self, *places: Path) -> Iterator[Path]:
        """Yield the files and folders that move: the revision files, and what lies beside them."""
        for place in places or self.versions:
            for each in sorted(place.iterdir()) if place.is_dir() else ():
                is_ours = place != self.folder or is_revision_file(each.name)
                if each.name not in IGNORED and each not in self.versions and is_ours:
                    yield each

    def remove_empty(self) -> None:
        """Remove the folders of revision files, their subfolders, and bytecode, as far as nothing else is in them."""
        for folder in self.versions:
            for each in sorted(folder.rglob("*"), reverse=True):
                if each.name == "__pycache__":
                    shutil.rmtree(each, ignore_errors=True)
                elif each.is_dir():
                    with suppress(OSError):
                        each.rmdir()
            if folder != self.folder:
                with suppress(OSError):
                    folder.rmdir()

    def left(self) -> Iterator[Path]:
        """Yield the files of the tool, which are no longer used once the others have moved."""
        yield from filter(_is_of_tool, self._beside())
        if self.path.is_file() and self.path.parent != self.folder and self.path.name != _TOML:
            yield self.path

    def _beside(self) -> Iterator[Path]:
        """Yield the files and folders that lie beside ``env.py``."""
        for each in sorted(self.folder.iterdir()) if self.folder.is_dir() else ():
            is_revision = self.folder in self.versions and is_revision_file(each.name)
            if each.name not in IGNORED and each not in self.versions and not is_revision:
                yield each

    def settings(self) -> Iterator[str]:
        """Yield the settings and the template that are not those of the tool, each with its file and line."""
        if self.config is not None:
            values = _mapping(self.config.get(_FLASK_ALEMBIC))
            yield from (
                f'app.config["{_FLASK_ALEMBIC}"]: {name} = {value}'
                for name, value in values.items()
                if name in _SETTINGS or name == _HOOKS
            )
        ini = self.path if self.path.is_file() else self.folder / _INI
        yield from _lines(ini)
        template = self.folder / "script.py.mako"
        if template.is_file() and template.read_bytes() not in [
            each.read_bytes() for each in template_files(template.name)
        ]:
            yield f"{shown_path(template)}: it is not the template of the tool"


def _is_of_tool(path: Path) -> bool:
    """Return whether a file or folder is one of the tool, or is empty."""
    if path.is_dir():
        return not any(each.is_file() and "__pycache__" not in each.parts for each in path.rglob("*"))
    is_empty_init = path.name == "__init__.py" and path.stat().st_size == 0
    return is_empty_init or path.name.removesuffix(".old") in writer.FILES


def _files(source: Source) -> Iterator[Path]:
    """Yield the revision files."""
    for place in source.versions:
        found = place.rglob("*") if source.is_recursive else place.iterdir() if place.is_dir() else ()
        yield from (each for each in sorted(found) if is_revision_file(each.name) and each.is_file())


def find(app: App | None) -> Path | None:
    """Return the history that a user means who names none; None if there is none."""
    from_config = _of_flask_alembic(app) if app is not None else None
    if from_config is not None and from_config.folder.is_dir():
        return from_config.folder
    for path in map(Path, (FOLDER, _INI, _TOML)):
        if path.is_dir() or (path.is_file() and (path.name != _TOML or "[tool.alembic]" in path.read_text("utf-8"))):
            return path
    return None


def _of_flask_alembic(app: App) -> Source | None:
    """Return the folders in the settings of Flask-Alembic, without the revisions; None if there are no settings."""
    config = _mapping(app.config.get(_FLASK_ALEMBIC))
    if "script_location" not in config:
        return None
    folder = _resolved(str(config["script_location"]), app)
    labels: dict[Path, str] = {}
    folders = {folder: None}
    for item in cast("Iterable[object]", config.get("version_locations") or ()):
        label, location = ("", item) if isinstance(item, str) else cast("tuple[str, object]", item)
        place = _resolved(str(location), app)
        folders[place] = None
        labels |= {place: label} if label else {}
    return Source(folder, folder, tuple(folders), labels=labels, config=app.config)


def _resolved(location: str, app: App) -> Path:
    from alembic.util import coerce_resource_to_filename

    if ":" in location and not Path(location).is_absolute():
        return Path(coerce_resource_to_filename(location)).resolve()
    return Path(app.root_path, location).resolve()


def _mapping(value: object) -> Mapping[str, object]:
    return cast("Mapping[str, object]", value) if isinstance(value, Mapping) else {}


def _places(path: Path, package: str) -> Source:
    """Return the folder of ``env.py``, and the folders with revision files, without the revisions."""
    from alembic.util import CommandError

    if not path.exists():
        raise _unusable(path, package, "does not exist")
    if path.is_dir() and not (path / "env.py").is_file():
        if not any(is_revision_file(each.name) for each in path.iterdir()) and any(path.iterdir()):
            raise _unusable(path, package, "contains neither an env.py nor revision files")
        return Source(path, path.resolve(), (path.resolve(),))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the settings of the old tool are about to go
            script = _script(path)
    except (CommandError, Error, ImportError, ValueError) as exc:
        raise _unusable(path, package, f"cannot be read: {describe(exc)}") from exc
    places = script._version_locations  # noqa: SLF001 (the public attribute has them as they are written)
    versions = tuple(dict.fromkeys(Path(each).resolve() for each in places))
    return Source(path, Path(script.dir).resolve(), versions, is_recursive=bool(script.recursive_version_locations))


def _script(path: Path) -> ScriptDirectory:
    from alembic.script import ScriptDirectory

    return ScriptDirectory.from_config(_config(path))


def _config(path: Path) -> Config:
    """Return the configuration that Alembic has with a file, or with the folder that contains ``env.py``."""
    from alembic.config import Config

    folder = path if path.is_dir() else path.parent
    ini = path if path.is_file() and path.name != _TOML else folder / _INI
    toml = folder / _TOML
    config = Config(ini if ini.is_file() else None, toml_file=toml if toml.is_file() else None)
    if path.is_dir():
        config.set_main_option("script_location", str(path).replace("%", "%%"))
    return config


def _lines(file: Path) -> Iterator[str]:
    """Yield the settings in an ``alembic.ini`` or ``pyproject.toml`` that change how new files are written."""
    try:
        text = file.read_text("utf-8")
    except (OSError, UnicodeDecodeError):
        return
    section = ""
    for number, line in enumerate(text.splitlines(), 1):
        if header := re.match(r"\[+([^\]]+)\]", line):
            section = header[1].removeprefix("tool.alembic.").removeprefix("tool.")
        elif setting := re.match(r"(\w[\w.]*)\s*[=:]\s*(.*\S)", line):
            if section != _HOOKS and (section != "alembic" or setting[1] not in (*_SETTINGS, _HOOKS)):
                continue
            yield f"{shown_path(file)}:{number}: {setting[1]} = {setting[2]}"


def _unusable(path: Path, package: str, why: str) -> RevisionInputError:
    return RevisionInputError(
        f"{shown_path(path)} {why}. Name the folder that contains env.py, such as 'migrations', a folder with revision"
        " files, an alembic.ini, or a pyproject.toml.",
        package=package,
    )
