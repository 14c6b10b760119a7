"""The packages with migrations: their names and folders, and which of them an app lists.

Names are checked here. Of a package, only its ``alembic.ini`` is read, and none of its code runs.
"""

from __future__ import annotations

import keyword
import os
import re
import sys
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from importlib.machinery import ModuleSpec
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from ampho._text import describe, did_you_mean, shown_path
from ampho.errors import ConfigurationError, MigrationsFolderError, PackageNameError, PackageNotFoundError
from ampho.history.files import is_revision_file, read_bytes
from ampho.settings import PACKAGES

SETTING = PACKAGES.name

FOLDER = "migrations"
"""The name of a package's folder of migrations, unless its entry names another one."""

RESERVED = frozenset({"head", "heads", "base"})
"""The words with a special meaning in specifiers, which cannot be names of packages or ids of revisions."""

_MAX_NAME = 200
_STDLIB = Path(os.__file__).resolve().parent
_SHOWN = 60
_MOST_PACKAGES = 1000
_IDENTIFIER = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_RECURSIVE = re.compile(rb"^(?i:recursive_version_locations)[ \t]*[=:][ \t]*true[ \t]*\r?$", re.MULTILINE)
_LOCATIONS = re.compile(
    rb"^(?i:version_locations)[ \t]*[=:](?P<listed>[^\n]*(?:\n(?:[ \t]+[^\n]*|[ \t]*[#;][^\n]*))*)", re.MULTILINE
)
_COMMENT = re.compile(r"^[ \t]*[#;].*", re.MULTILINE)
_RESOURCE = re.compile(r"(?P<package>[\w.]+):(?P<folder>[\w./-]+)")
_ALL_BELOW = "/**"
_LINK_TREE = "__editable__."  # begins the name of setuptools' folder of links, for an editable install in strict mode
_FOLDER_PART = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")


@dataclass(frozen=True, slots=True)
class MigrationPackage:
    """A package and its migrations folder.

    :ivar name: the full dotted name of the package, which is also the label of its branch.
    :ivar root: the package's own folder.
    :ivar folder: its migrations folder.
    :ivar named: whether the configuration names the folder, which then has to exist.
    :ivar all_below: whether the configuration says that folders inside count, too.
    """

    name: str
    root: Path
    folder: Path
    named: bool = False
    all_below: bool = False

    @property
    def versions(self) -> Path:
        """The folder of new revision files: the first of those with revision files."""
        return Path(self.layout[0][0])

    @property
    def layout(self) -> tuple[tuple[str, ...], bool]:
        """The folders of the revision files, and whether to include folders inside them.

        The ``alembic.ini`` in the folder of migrations lists them in ``version_locations``. If it lists none, the
        folder is ``versions``; if that does not exist, and the folder of migrations contains revision files itself, it
        is that folder. Folders inside are included if the package's entry in the configuration, or
        ``recursive_version_locations`` in ``alembic.ini``, says so.
        """
        folder = str(self.folder)
        usual = f"{folder}{os.sep}versions"
        if not os.path.lexists(usual) and any(is_revision_file(path.name) for path in _files(self.folder)):
            usual = folder
        try:
            ini = read_bytes(f"{folder}{os.sep}alembic.ini")
        except OSError:
            return (usual,), self.all_below
        listed = self._listed(ini)
        if not listed or usual in listed:
            listed = {usual: None} | listed
        return tuple(listed), self.all_below or bool(_RECURSIVE.search(ini))

    def _listed(self, ini: bytes) -> dict[str, None]:
        """Return the folders in ``version_locations`` that are in this package. Others belong to other packages."""
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
        """Whether folders inside those with revision files are included."""
        return self.layout[1]

    @property
    def exists(self) -> bool:
        """Whether the folder of migrations exists."""
        return self.folder.is_dir()

    @property
    def installed(self) -> bool:
        """Whether the package is in site-packages, or part of Python. Ampho never writes there."""
        return bool({"site-packages", "dist-packages"} & set(self.root.parts)) or self.root.resolve().is_relative_to(
            _STDLIB
        )

    @property
    def env_py(self) -> Path:
        """The file that configures a run if this package is the host."""
        return self.folder / "env.py"

    @property
    def entry(self) -> str:
        """The package as an entry of ``AMPHO_MIGRATION_PACKAGES``."""
        if not self.named:
            return self.name
        return f"{self.name}:{self.folder.relative_to(self.root).as_posix()}{_ALL_BELOW if self.all_below else ''}"

    @property
    def location(self) -> str:
        """The folder of revision files as an entry of Alembic's ``version_locations``."""
        return f"{self.name}:{self.versions.relative_to(self.root).as_posix()}"

    def check_folder(self) -> None:
        """Check that the folder is inside the package, links included.

        :raises MigrationsFolderError: if it is not.
        """
        # Python does not recognize the junctions of Windows as links.
        if (os.name == "nt" or self._has_links()) and not _real(self.folder).is_relative_to(_real(self.root)):
            raise MigrationsFolderError(
                f"The migrations folder of {self.name} leads outside the package, to"
                f" {shown_path(_real(self.folder))}. Name a folder inside the package.",
                package=self.name,
                path=self.folder,
            )

    def _has_links(self) -> bool:
        """Return whether a folder inside the package is a link. Without one, none leads outside."""
        below = self.folder
        while below != self.root:
            if below.is_symlink():
                return True
            below = below.parent
        return False

    def check_present(self) -> None:
        """Check that the folder exists if the configuration names it, and that it is a folder.

        :raises MigrationsFolderError: if it is not.
        """
        if not self.exists and os.path.lexists(self.folder):
            raise MigrationsFolderError(
                f"{shown_path(self.folder)} of {self.name} is not a folder, or a link to nothing. Replace it with the"
                " package's migrations folder.",
                package=self.name,
                path=self.folder,
            )
        if self.named and not self.exists:
            raise MigrationsFolderError(
                f"{SETTING} names the folder {shown_path(self.folder)} for {self.name}, which does not exist."
                f" Create it with 'ampho db-init {self.entry}', or correct the entry.",
                package=self.name,
                path=self.folder,
            )

    def check_writable(self) -> None:
        """Check that Ampho may write into the package's folder.

        :raises MigrationsFolderError: if the package is installed, or its folder leads outside of it.
        """
        if self.installed:
            raise MigrationsFolderError(
                f"{self.name} is installed in {shown_path(self.root)}, where Ampho does not write."
                " Run this in the project of the package, or install it in editable mode.",
                package=self.name,
                path=self.folder,
            )
        if any(part.startswith(_LINK_TREE) for part in self.root.parts):
            raise MigrationsFolderError(
                f"{self.name} is installed in strict editable mode, as copies in {shown_path(self.root)}, so new files"
                " would not be in its source. Install it with 'pip install -e', without editable_mode=strict.",
                package=self.name,
                path=self.folder,
            )
        self.check_folder()


def _files(folder: Path) -> Iterator[Path]:
    if folder.is_dir():
        yield from folder.iterdir()


def check_name(name: str) -> str:
    """Return ``name`` if a package with migrations can have that name.

    The words with a special meaning in specifiers are reserved: ``head``, ``heads``, and ``base``.

    :raises PackageNameError: if it cannot.
    """
    shown = ascii(name) if len(name) <= _SHOWN else f"{name[:_SHOWN]!a}..."
    if not all(_IDENTIFIER.fullmatch(part) and not keyword.iskeyword(part) for part in name.split(".")):
        raise PackageNameError(
            f"{shown} is not the name of a package. Give a dotted name of ASCII letters, digits and underscores, such"
            " as acme.billing.",
            package=name,
        )
    if len(name) > _MAX_NAME:
        raise PackageNameError(
            f"The package name {shown} has {len(name)} characters. Use a name of {_MAX_NAME} characters or less.",
            package=name,
        )
    if name in RESERVED:
        raise PackageNameError(
            f"{shown} has a special meaning in specifiers, so a package with migrations cannot have that name. Rename"
            " the package, or list it by a longer dotted name.",
            package=name,
        )
    return name


def packages_in(folder: Path, prefix: str = "") -> Iterator[str]:
    """Yield the names of the packages in a folder, in these packages, and in namespaces in the folder.

    :param prefix: the name of the folder's package, and a dot.
    """
    try:
        with os.scandir(folder) as entries:
            names = sorted(entry.name for entry in entries if _IDENTIFIER.fullmatch(entry.name) and entry.is_dir())
    except OSError:
        return
    for name in names:
        is_package = (folder / name / "__init__.py").is_file()
        if is_package:
            yield prefix + name
        if name not in (FOLDER, "__pycache__") and (is_package or not prefix):
            yield from packages_in(folder / name, f"{prefix}{name}.")


def find_package(entry: str, known: Iterable[str] = ()) -> MigrationPackage:
    """Return the package of an entry ``name``, ``name:folder`` or ``name:folder/**``, without importing anything.

    :param known: names of packages to suggest if there is none of that name.
    :raises PackageNameError: if the name or the folder is not valid.
    :raises PackageNotFoundError: if no such package can be imported.
    :raises MigrationsFolderError: if the folder leads outside the package.
    """
    name, colon, folder = entry.partition(":")
    check_name(name)
    parts = folder.removesuffix(_ALL_BELOW).split("/") if colon else [FOLDER]
    if not all(_FOLDER_PART.fullmatch(part) for part in parts) or len(folder) > _MAX_NAME:
        raise PackageNameError(
            f"{entry[:80]!a} does not name a folder inside {name}. Write package:folder, such as {name}:alembic.",
            package=name,
        )
    root = _package_root(name, known)
    return MigrationPackage(name, root, root.joinpath(*parts), bool(colon), folder.endswith(_ALL_BELOW))


def _package_root(name: str, known: Iterable[str]) -> Path:
    spec = _find_spec(name)
    if spec is None:
        guess = did_you_mean(name, [*known, *islice(packages_in(Path.cwd()), _MOST_PACKAGES)])
        raise PackageNotFoundError(
            f"There is no package {name}. Check the spelling, and that it is installed or that you run the command in"
            f" the project's folder.{guess and f' {guess}'}",
            package=name,
            is_absent=True,
        )
    if spec.submodule_search_locations is None:
        raise PackageNotFoundError(
            f"{name} is a single module, {shown_path(str(spec.origin))}. Migrations need a package: make it a folder"
            " with an __init__.py, or list the package around it.",
            package=name,
        )
    if spec.origin is None or not Path(spec.origin).parent.is_dir():
        raise PackageNotFoundError(
            f"{name} has no __init__.py, or is in an archive, so it has no folder of its own. Add an __init__.py, or"
            " install it as plain files.",
            package=name,
        )
    return _real_file(spec.origin).parent


def _real_file(origin: str) -> Path:
    """Return the path of a module's file; in a strict editable install, that of the file that the link leads to."""
    file = Path(origin).absolute()
    return Path(os.path.realpath(file)) if any(part.startswith(_LINK_TREE) for part in file.parts) else file


def find_file(name: str) -> Path | None:
    """Return the file of a module, or the ``__init__.py`` of a package, without importing anything.

    Return None if there is none, as for a namespace, or if no module has that name.
    """
    spec = None
    with suppress(PackageNotFoundError):
        spec = _find_spec(name) if all(map(_IDENTIFIER.fullmatch, name.split("."))) else None
    return _real_file(spec.origin) if spec is not None and spec.has_location and spec.origin else None


def _find_spec(name: str) -> ModuleSpec | None:
    """Return the spec of a module as ``importlib.util.find_spec`` does, but without importing its parent packages."""
    search: list[str] | None = None
    spec: ModuleSpec | None = None
    parts = name.split(".")
    for count in range(1, len(parts) + 1):
        full_name = ".".join(parts[:count])
        try:
            spec = _spec_in(full_name, search)
        except Exception as exc:
            raise PackageNotFoundError(
                f"Python cannot look for the package {name}: {describe(exc)}. Repair how it is installed.", package=name
            ) from exc
        if spec is None:
            return None
        search = _search_path(full_name, spec)
    return spec


def _search_path(full_name: str, spec: ModuleSpec) -> list[str]:
    """Return the folders that are searched for the modules of a package."""
    path = getattr(sys.modules.get(full_name), "__path__", spec.submodule_search_locations)
    try:
        return [folder for folder in path or () if isinstance(folder, str)]
    except TypeError:  # a package may have set its __path__ to anything
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
            # Python needs the parent package of a namespace in sys.modules, but it is not imported here.
            spec = _namespace(full_name, path or [])
        if spec is not None:
            return spec
    return None


def _namespace(full_name: str, path: list[str]) -> ModuleSpec | None:
    """Return the spec of a package as Python's own finder does, without later changes of ``sys.path``."""
    from pkgutil import get_importer  # late, because hardly any project needs it

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

    :ivar packages: the installed ones, in their order.
    :ivar not_installed: the errors about the others, by their names.
    """

    packages: tuple[MigrationPackage, ...]
    not_installed: dict[str, PackageNotFoundError]


def configured_packages(
    listed: Iterable[str] | None,
    arguments: Iterable[str] | None = None,
    added: Iterable[str] = (),
    import_name: str | None = None,
) -> ConfiguredPackages:
    """Return the packages of an app, in the order in which they are listed.

    :param listed: the app's ``AMPHO_MIGRATION_PACKAGES``; None if it is not set.
    :param arguments: the ``packages`` argument of the extension.
    :param added: the entries that plug-ins added.
    :param import_name: the app's import name. If no setting and no argument lists any packages, the app's own package
        is the one, if it has migrations.
    :raises AmphoError: if an entry is unusable, or two of them contradict each other.
    """
    found = _Listed()
    not_installed: dict[str, PackageNotFoundError] = {}
    if listed is None and arguments is None and import_name:
        found.add(_own_package(import_name))
    for entry in [*(listed or ()), *(arguments or ()), *added]:
        try:
            found.add(find_package(entry))
        except PackageNotFoundError as exc:
            if not exc.is_absent:
                raise
            not_installed[exc.package] = exc
    for package in found.packages.values():
        package.check_folder()
    return ConfiguredPackages(tuple(found.packages.values()), not_installed)


def _real(path: Path) -> Path:
    """Return a path without links. ``Path.resolve()`` fails on circular links before Python 3.13."""
    return Path(os.path.realpath(path))


def _identity(folder: Path) -> object:
    """Return a value that identifies a folder, whichever path leads to it: through a link, or in another case."""
    try:
        found = folder.stat()
    except OSError:
        return _real(folder)
    return found.st_dev, found.st_ino


def _own_package(import_name: str) -> MigrationPackage | None:
    """Return the innermost package around the app's module that has migrations."""
    parts = import_name.split(".")
    for count in range(len(parts), 0, -1):
        try:
            package = find_package(".".join(parts[:count]))
        except (PackageNameError, PackageNotFoundError):
            continue
        if package.exists:
            return package
    return None


class _Listed:
    """The packages that were listed so far.

    :ivar packages: the packages, by their names.
    """

    def __init__(self) -> None:
        self.packages: dict[str, MigrationPackage] = {}
        self._taken: dict[object, MigrationPackage] = {}

    def add(self, package: MigrationPackage | None) -> None:
        """Add a package, unless the same entry was added before."""
        if package is None or self.packages.get(package.name) == package:
            return
        other = self.packages.get(package.name)
        if other is not None:
            raise ConfigurationError(
                f"{SETTING} lists {package.name} twice, as {other.entry} and {package.entry}. Keep one.",
                setting=SETTING,
            )
        for what in (package.name.lower(), _identity(package.folder)):
            other = self._taken.setdefault(what, package)
            if other is not package:
                raise ConfigurationError(
                    f"{SETTING} lists {other.name} and {package.name}, which only differ in case, or share a folder."
                    " Databases and file systems may confuse them. Keep one, or rename one.",
                    setting=SETTING,
                )
        self.packages[package.name] = package
