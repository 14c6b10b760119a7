"""Packages with migrations: their names, their folders, and the packages that an app lists.

This module does not import the packages. It reads only one of their files, ``alembic.ini``.
"""

from __future__ import annotations

import keyword
import os
import re
import sys
from collections.abc import Hashable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from importlib.machinery import ModuleSpec
from itertools import accumulate, islice
from pathlib import Path
from typing import NamedTuple

from ampho._text import describe, did_you_mean, shown_path
from ampho.errors import ConfigurationError, MigrationsFolderError, PackageNameError, PackageNotFoundError
from ampho.history.files import REPLACED, is_revision_file, read_bytes
from ampho.settings import PACKAGES

SETTING = PACKAGES.name

FOLDER = "migrations"
"""The name of a package's migrations folder, unless the package's entry names a different one."""

RESERVED = frozenset({"head", "heads", "base"})
"""Words that have a special meaning in specifiers, so they cannot be package names or revision ids."""

_MAX_NAME = 200
_STDLIB = Path(os.__file__).resolve().parent
_SHOWN = 60
_MOST_PACKAGES = 1000
_IDENTIFIER = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_RECURSIVE = re.compile(
    rb"^(?i:recursive_version_locations)[ \t]*[=:][ \t]*(?P<value>true|false)[ \t]*\r?$", re.MULTILINE
)
_LOCATIONS = re.compile(
    rb"^(?i:version_locations)[ \t]*[=:](?P<listed>[^\n]*(?:\n(?:[ \t]+[^\n]*|[ \t]*[#;][^\n]*))*)", re.MULTILINE
)
_COMMENT = re.compile(r"^[ \t]*[#;].*", re.MULTILINE)
_RESOURCE = re.compile(r"(?P<package>[\w.]+):(?P<folder>[\w./-]+)")
_ALL_BELOW = "/**"
_LINK_TREE = "__editable__."  # the prefix of the link tree that setuptools creates for a strict editable install
_FOLDER_PART = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")


@dataclass(frozen=True, slots=True)
class MigrationPackage:
    """A package, or a single module, and its migrations folder.

    :ivar name: the full dotted name of the package, which is also the label of its branch.
    :ivar root: the package's own folder; for a single module, the folder that contains its file.
    :ivar folder: the package's migrations folder.
    :ivar named: whether the configuration names the migrations folder. If so, the folder must exist.
    :ivar all_below: whether the configuration includes the subfolders of that folder, with ``/**``.
    :ivar is_module: whether it is a single module, so that its migrations folder lies beside its file.
    """

    name: str
    root: Path
    folder: Path
    named: bool = False
    all_below: bool = False
    is_module: bool = False

    @property
    def versions(self) -> Path:
        """The folder for new revision files: the first one in :attr:`layout`."""
        return Path(self.layout[0][0])

    @property
    def replaced_folder(self) -> Path:
        """The folder of the files of replaced revisions, which are not part of the history."""
        return self.folder / REPLACED

    @property
    def layout(self) -> tuple[tuple[str, ...], bool]:
        """The folders of the revision files, and whether to include their subfolders.

        ``version_locations`` in the ``alembic.ini`` of the migrations folder lists the folders. By default, the
        only folder is ``versions``, or the migrations folder if it has revision files but no ``versions``. Subfolders
        are included if the package's entry in the configuration ends with ``/**``, or if
        ``recursive_version_locations`` in ``alembic.ini`` is true.
        """
        folder = str(self.folder)
        usual = f"{folder}{os.sep}versions"
        if not os.path.lexists(usual) and self.exists:
            usual = folder if any(is_revision_file(path.name) for path in self.folder.iterdir()) else usual
        ini = self._ini
        listed = self._listed(ini) if ini else {}
        if not listed or usual in listed:
            listed = {usual: None} | listed
        return tuple(listed), self.all_below or _recursive(ini) == b"true"

    @property
    def leaves_folders_out(self) -> bool:
        """Whether ``alembic.ini`` excludes the subfolders of the folders with revision files."""
        return _recursive(self._ini) == b"false"

    @property
    def _ini(self) -> bytes:
        """The content of ``alembic.ini``; empty if it cannot be read."""
        try:
            return read_bytes(f"{self.folder}{os.sep}alembic.ini")
        except OSError:
            return b""

    def _listed(self, ini: bytes) -> dict[str, None]:
        """Return the folders in ``version_locations`` that are in the migrations folder, without duplicates."""
        match = _LOCATIONS.search(ini)
        if match is None:
            return {}
        text = _COMMENT.sub("", match["listed"].decode("utf-8", "replace"))
        paths: list[str] = []
        here, inside = str(self.folder), f"{self.folder}{os.sep}"
        for item in re.split(r"[\s,;]+", text):
            resource = _RESOURCE.fullmatch(item)
            if resource is None:
                parts = filter(None, item.split(os.pathsep))
                paths += (part.replace("%(here)s", here).replace("%%", "%") for part in parts)
            elif resource["package"] == self.name:
                paths.append(f"{self.root}{os.sep}{resource['folder']}")
        return dict.fromkeys(path for path in map(os.path.abspath, paths) if f"{path}{os.sep}".startswith(inside))

    @property
    def is_recursive(self) -> bool:
        """Whether the subfolders of the folders with revision files are included."""
        return self.layout[1]

    @property
    def exists(self) -> bool:
        """Whether the migrations folder exists."""
        return self.folder.is_dir()

    @property
    def installed(self) -> bool:
        """Whether the package is in site-packages or in Python's standard library, where Ampho never writes."""
        in_site_packages = not {"site-packages", "dist-packages"}.isdisjoint(self.root.parts)
        return in_site_packages or self.root.resolve().is_relative_to(_STDLIB)

    @property
    def env_py(self) -> Path:
        """The file that configures a run if this package is the host."""
        return self.folder / "env.py"

    @property
    def entry(self) -> str:
        """The entry for this package in ``AMPHO_MIGRATION_PACKAGES``."""
        if not self.named:
            return self.name
        return f"{self.name}:{self.folder.relative_to(self.root).as_posix()}{_ALL_BELOW if self.all_below else ''}"

    @property
    def file(self) -> Path:
        """The file of the module, or the package's ``__init__.py``."""
        return self.root / (f"{self.name.rpartition('.')[2]}.py" if self.is_module else "__init__.py")

    def location(self, ini: Path) -> str:
        """Return the folder for new revision files, as an entry of Alembic's ``version_locations`` in an ini file."""
        if not self.is_module:
            return f"{self.name}:{self.versions.relative_to(self.root).as_posix()}"
        # Before Python 3.12, Alembic cannot look for files beside a module.
        beside = os.path.relpath(self.versions, ini.parent).replace(os.sep, "/")
        return f"%(here)s/{beside.replace('%', '%%')}"

    def check_folder(self) -> None:
        """Raise a ``MigrationsFolderError`` if the migrations folder is a link that leads outside the package."""
        # On Windows, always compare the paths, because Python does not recognize junctions as links.
        if (os.name == "nt" or self._has_links()) and not _real(self.folder).is_relative_to(_real(self.root)):
            raise self._error(
                f"The migrations folder of {self.name} leads outside the package, to"
                f" {shown_path(_real(self.folder))}. Name a folder inside the package."
            )

    def _has_links(self) -> bool:
        """Return whether the path from the package to its migrations folder contains a link."""
        below = self.folder
        while below != self.root:
            if below.is_symlink():
                return True
            below = below.parent
        return False

    def check_present(self) -> None:
        """Raise a ``MigrationsFolderError`` if the migrations folder is a file, or is configured but does not exist."""
        if not self.exists and os.path.lexists(self.folder):
            raise self._error(
                f"{shown_path(self.folder)} of {self.name} is not a folder, or is a broken link. Replace it with the"
                " package's migrations folder."
            )
        if self.named and not self.exists:
            raise self._error(
                f"{SETTING} names the folder {shown_path(self.folder)} for {self.name}, but that folder does not exist."
                f" Create it with 'ampho db-init {self.entry}', or correct the entry."
            )

    def check_writable(self) -> None:
        """Raise a ``MigrationsFolderError`` if the package is installed, or if the folder is outside the package."""
        if self.installed:
            raise self._error(
                f"{self.name} is installed in {shown_path(self.root)}, where Ampho does not write."
                " Run the command in the package's own project, or install the package in editable mode."
            )
        if any(part.startswith(_LINK_TREE) for part in self.root.parts):
            raise self._error(
                f"{self.name} is installed in strict editable mode, as copies in {shown_path(self.root)}, so new files"
                " would not be added to its source. Install it with 'pip install -e', without editable_mode=strict."
            )
        self.check_folder()

    def _error(self, message: str) -> MigrationsFolderError:
        return MigrationsFolderError(message, package=self.name, path=self.folder)


def _recursive(ini: bytes) -> bytes | None:
    """Return the value of ``recursive_version_locations`` in ``alembic.ini``; None if it is not set."""
    found = _RECURSIVE.search(ini)
    return found and found["value"]


def check_name(name: str) -> None:
    """Raise a ``PackageNameError`` if a package with migrations cannot have this name."""
    shown = ascii(name) if len(name) <= _SHOWN else f"{name[:_SHOWN]!a}..."
    if not all(_IDENTIFIER.fullmatch(part) and not keyword.iskeyword(part) for part in name.split(".")):
        raise PackageNameError(
            f"{shown} is not the name of a package. Use a dotted name of ASCII letters, digits, and underscores, such"
            " as acme.billing.",
            package=name,
        )
    if len(name) > _MAX_NAME:
        raise PackageNameError(
            f"The package name {shown} has {len(name)} characters. Use a name of at most {_MAX_NAME} characters.",
            package=name,
        )
    if name in RESERVED:
        raise PackageNameError(
            f"{shown} has a special meaning in specifiers, so a package with migrations cannot have that name. Rename"
            " the package, or list it by a longer dotted name.",
            package=name,
        )


def packages_in(folder: Path, prefix: str = "") -> Iterator[str]:
    """Yield the names of the packages in a folder, including nested packages and those in namespace packages.

    The modules of the folder itself are included, too, but not those in packages.

    :param prefix: the name of the package that the folder belongs to, followed by a dot.
    """
    try:
        with os.scandir(folder) as entries:
            found = sorted(entry.name for entry in entries if entry.is_dir() or (not prefix and entry.is_file()))
    except OSError:
        return
    for name in found:
        if (module := name.removesuffix(".py")) != name and _IDENTIFIER.fullmatch(module):
            yield module
        if not _IDENTIFIER.fullmatch(name):
            continue
        is_package = (folder / name / "__init__.py").is_file()
        if is_package:
            yield prefix + name
        if name not in (FOLDER, "__pycache__") and (is_package or not prefix):
            yield from packages_in(folder / name, f"{prefix}{name}.")


def find_package(entry: str, known: Iterable[str] = (), origin: str = "") -> MigrationPackage:
    """Return the package for an entry (``name``, ``name:folder``, or ``name:folder/**``) without importing anything.

    :param known: the names of packages that an error may suggest instead.
    :param origin: where the entry is listed, for errors; empty if it is not listed.
    :raises PackageNameError: if the name or the folder is not valid.
    :raises PackageNotFoundError: if no such package can be imported, or if it has no folder of its own.
    """
    name, colon, folder = entry.partition(":")
    check_name(name)
    parts = folder.removesuffix(_ALL_BELOW).split("/") if colon else [FOLDER]
    if not all(_FOLDER_PART.fullmatch(part) for part in parts) or len(folder) > _MAX_NAME:
        raise PackageNameError(
            f"{entry[:80]!a} does not name a folder inside {name}. Write package:folder, such as {name}:alembic.",
            package=name,
        )
    file, is_module = _file(name, known, origin)
    package = MigrationPackage(
        name, file.parent, file.parent.joinpath(*parts), bool(colon), folder.endswith(_ALL_BELOW), is_module
    )
    if is_module and package.installed and not package.named and "." not in name:
        raise PackageNotFoundError(
            f"{name} is a single module in {shown_path(package.root)}, and the folder {FOLDER} beside it may belong to"
            f" any other project that is installed there. Name a folder, as in {name}:{name}_{FOLDER}.",
            package=name,
        )
    return package


def _file(name: str, known: Iterable[str], origin: str) -> tuple[Path, bool]:
    """Return the file of a module, or the ``__init__.py`` of a package, and whether it is a module."""
    spec = _find_spec(name)
    if spec is None:
        guess = did_you_mean(name, [*known, *islice(packages_in(Path.cwd()), _MOST_PACKAGES)])
        raise PackageNotFoundError(
            f"There is no package {name}. Check the spelling{origin and f' in {origin}'}, and that it is installed or"
            f" that you run the command in the project's folder.{guess and f' {guess}'}",
            package=name,
            is_absent=True,
        )
    # Python runs ``python -m shop`` as the module ``__main__``, with the spec of ``shop.__main__``.
    if spec.name != name or not spec.has_location or spec.origin is None or not Path(spec.origin).parent.is_dir():
        raise PackageNotFoundError(
            f"{name} has no __init__.py, or is in an archive or in Python itself, so it has no folder for its"
            " migrations. Add an __init__.py, or install it as plain files.",
            package=name,
        )
    return _real_file(spec.origin), spec.submodule_search_locations is None


def _real_file(origin: str) -> Path:
    """Return the path of a module's file; in a strict editable install, the path of the original file."""
    file = Path(origin).absolute()
    return Path(os.path.realpath(file)) if any(part.startswith(_LINK_TREE) for part in file.parts) else file


def find_file(name: str) -> Path | None:
    """Return the file of a module, or the ``__init__.py`` of a package, without importing anything.

    Return None for a namespace package, or if no module has that name.
    """
    spec = None
    with suppress(PackageNotFoundError):
        spec = _find_spec(name) if all(map(_IDENTIFIER.fullmatch, name.split("."))) else None
    return _real_file(spec.origin) if spec is not None and spec.has_location and spec.origin else None


def _find_spec(name: str) -> ModuleSpec | None:
    """Return a module's spec like ``importlib.util.find_spec()``, but without importing its parent packages."""
    search: list[str] | None = None
    spec: ModuleSpec | None = None
    for full_name in accumulate(name.split("."), "{}.{}".format):
        try:
            spec = _spec_in(full_name, search)
        except Exception as exc:
            raise PackageNotFoundError(
                f"Python cannot look for the package {name}: {describe(exc)}. Fix the Python environment.",
                package=name,
            ) from exc
        if spec is None:
            return None
        search = _search_path(full_name, spec)
    return spec


def _search_path(full_name: str, spec: ModuleSpec) -> list[str]:
    """Return the folders in which Python looks for the modules of a package."""
    path = getattr(sys.modules.get(full_name), "__path__", spec.submodule_search_locations)
    try:
        return [folder for folder in path or () if isinstance(folder, str)]
    except TypeError:  # a package can set its __path__ to anything
        return []


def _spec_in(full_name: str, path: list[str] | None) -> ModuleSpec | None:
    loaded = getattr(sys.modules.get(full_name), "__spec__", None)
    if isinstance(loaded, ModuleSpec):
        return loaded
    for finder in sys.meta_path:
        find = getattr(finder, "find_spec", None)
        try:
            spec: ModuleSpec | None = find(full_name, path, None) if find else None
        except KeyError:
            # Python needs the parent of a namespace package in sys.modules, but this function does not import it.
            spec = _namespace(full_name, path or [])
        if spec is not None:
            return spec
    return None


def _namespace(full_name: str, path: list[str]) -> ModuleSpec | None:
    """Return the spec of a module that may be a namespace package, without importing its parent package."""
    from pkgutil import get_importer  # imported late, because few projects need it

    namespace = ModuleSpec(full_name, None, is_package=True)
    portions: list[str] = []
    for folder in path:
        finder = get_importer(folder)
        spec = finder.find_spec(full_name) if finder is not None else None
        if spec is not None and spec.loader is not None:
            return spec
        portions += (spec.submodule_search_locations or ()) if spec is not None else ()
    namespace.submodule_search_locations = portions
    return namespace if portions else None


class ConfiguredPackages(NamedTuple):
    """The packages that an app lists.

    :ivar packages: the installed packages, in the order in which they are listed.
    :ivar not_installed: the errors about the other packages, by package name.
    """

    packages: tuple[MigrationPackage, ...]
    not_installed: dict[str, PackageNotFoundError]


def configured_packages(
    listed: Iterable[str] | None,
    arguments: Iterable[str] | None = None,
    added: Mapping[str, str] | None = None,
    import_name: str | None = None,
) -> ConfiguredPackages:
    """Return the packages of an app, in the order in which they are listed.

    :param listed: the app's ``AMPHO_MIGRATION_PACKAGES``; None if it is not set.
    :param arguments: the ``packages`` argument of the extension.
    :param added: other entries, such as those that plug-ins added, each with the place where it is listed.
    :param import_name: the import name of the app. If neither a setting nor an argument lists packages, the app's own
        package is treated as listed if it has migrations.
    :raises AmphoError: if an entry is not valid, or if two entries contradict each other.
    """
    own = _own_package(import_name) if listed is None and arguments is None and import_name else None
    found = [own] if own else []
    not_installed: dict[str, PackageNotFoundError] = {}
    entries = [(entry, SETTING) for entry in listed or ()] + [(entry, "packages=") for entry in arguments or ()]
    for entry, origin in [*entries, *(added or {}).items()]:
        try:
            found.append(find_package(entry, origin=origin))
        except PackageNotFoundError as exc:
            if not exc.is_absent:
                raise
            not_installed[exc.package] = exc
    packages = _distinct(found)
    for package in packages:
        package.check_folder()
    return ConfiguredPackages(packages, not_installed)


def _real(path: Path) -> Path:
    """Return a path without links. ``Path.resolve()`` fails on circular links before Python 3.13."""
    return Path(os.path.realpath(path))


def _identity(folder: Path) -> Hashable:
    """Return a value that is the same for all paths to a folder, even through links or with a different case."""
    try:
        found = folder.stat()
    except OSError:
        return _real(folder)
    return found.st_dev, found.st_ino


def _own_package(import_name: str) -> MigrationPackage | None:
    """Return the innermost package that contains the app's module and has migrations; otherwise, the module itself."""
    found: list[MigrationPackage] = []
    for name in accumulate(import_name.split("."), "{}.{}".format):
        with suppress(PackageNameError, PackageNotFoundError):
            found.append(find_package(name))
    found.sort(key=lambda package: not package.is_module)  # a module may lie in a package, which has the same folder
    return next((package for package in reversed(found) if package.exists), None)


def _distinct(packages: Iterable[MigrationPackage]) -> tuple[MigrationPackage, ...]:
    """Return packages without duplicates, or raise an error if two share a folder or differ only in case."""
    found: dict[str, MigrationPackage] = {}
    taken: dict[Hashable, MigrationPackage] = {}
    for package in packages:
        other = found.setdefault(package.name, package)
        if other != package:
            raise ConfigurationError(
                f"{SETTING} lists {package.name} twice, as {other.entry} and {package.entry}. Keep one.",
                setting=SETTING,
            )
        for key in (package.name.lower(), _identity(package.folder)):
            other = taken.setdefault(key, package)
            if other.name != package.name:
                why, remedy = "only differ in case, or share a folder", "Keep one, or rename one"
                if package.is_module and key == _identity(package.folder):
                    why = f"share the folder {shown_path(package.folder)}"
                    remedy = f"Keep one, or name another folder, as in {package.name}:{package.file.stem}_{FOLDER}"
                raise ConfigurationError(
                    f"{SETTING} lists {other.name} and {package.name}, which {why}. Databases and file systems may"
                    f" confuse them. {remedy}.",
                    setting=SETTING,
                )
    return tuple(found.values())
