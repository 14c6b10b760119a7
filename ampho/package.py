"""The packages that own migrations: what they are called, where they lie, and which of them are configured.

Hostile names stop here. Of a package, its ``alembic.ini`` is looked at, and none of its code runs.
"""

from __future__ import annotations

import keyword
import os
import re
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from importlib.machinery import ModuleSpec
from itertools import islice
from pathlib import Path

from ampho._describe import shown_path
from ampho._suggest import did_you_mean
from ampho.errors import ConfigurationError, MigrationsFolderError, PackageNameError, PackageNotFoundError
from ampho.settings import PACKAGES

SETTING = PACKAGES.name
"""The setting, and environment variable, that lists the packages."""

FOLDER = "migrations"
"""The name of a package's migrations folder where the entry names no other."""

RESERVED = frozenset({"head", "heads", "base"})
"""What means something else in a specifier, so that no package and no revision can be called that."""

_MAX_NAME = 200
_STDLIB = Path(os.__file__).resolve().parent
_SHOWN = 60
_MOST_PACKAGES = 1000
_IDENTIFIER = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_RECURSIVE = re.compile(rb"^(?i:recursive_version_locations)[ \t]*[=:][ \t]*true[ \t]*\r?$", re.MULTILINE)
_FOLDER_PART = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")


@dataclass(frozen=True, slots=True)
class MigrationPackage:
    """A package and its migrations folder.

    :ivar name: the full dotted name, which is also the label of its branch.
    :ivar root: the package's own folder.
    :ivar folder: the migrations folder, which need not exist unless ``named``.
    :ivar named: whether the configuration named the folder.
    """

    name: str
    root: Path
    folder: Path
    named: bool = False

    @property
    def versions(self) -> Path:
        """The folder of the revision files.

        It is ``versions`` inside the migrations folder, or, in a folder made without one that has revision files, that
        folder itself.
        """
        versions = self.folder / "versions"
        if not versions.is_dir() and any(is_revision_file(path.name) for path in _files(self.folder)):
            return self.folder
        return versions

    @property
    def is_recursive(self) -> bool:
        """Whether revision files lie in sub-folders, too.

        Its ``alembic.ini`` says so with Alembic's ``recursive_version_locations``.
        """
        try:
            return bool(_RECURSIVE.search((self.folder / "alembic.ini").read_bytes()))
        except OSError:
            return False

    @property
    def exists(self) -> bool:
        """Whether the migrations folder is there."""
        return self.folder.is_dir()

    @property
    def installed(self) -> bool:
        """Whether the package lies in site-packages or is Python's own: nothing is ever written there."""
        return bool({"site-packages", "dist-packages"} & set(self.root.parts)) or self.root.resolve().is_relative_to(
            _STDLIB
        )

    @property
    def env_py(self) -> Path:
        """The file that configures a run where this package is the host."""
        return self.folder / "env.py"

    @property
    def entry(self) -> str:
        """The package as an entry of ``AMPHO_MIGRATION_PACKAGES``."""
        return f"{self.name}:{self.folder.relative_to(self.root).as_posix()}" if self.named else self.name

    @property
    def location(self) -> str:
        """The folder of revision files as Alembic's ``version_locations`` spells it."""
        return f"{self.name}:{self.versions.relative_to(self.root).as_posix()}"

    def check_folder(self) -> None:
        """Check that the folder is inside the package, links included.

        :raises MigrationsFolderError: if it is not.
        """
        # Windows has junctions, which Python does not take for links.
        if (os.name == "nt" or self._has_links()) and not self.folder.resolve().is_relative_to(self.root.resolve()):
            raise MigrationsFolderError(
                f"The migrations folder of {self.name} leads outside the package, to"
                f" {shown_path(self.folder.resolve())}. Name a folder inside the package.",
                package=self.name,
                path=self.folder,
            )

    def _has_links(self) -> bool:
        """Tell whether one of the folders below the package's own is a link, without which none leads outside."""
        below = self.folder
        while below != self.root:
            if below.is_symlink():
                return True
            below = below.parent
        return False

    def check_present(self) -> None:
        """Check that the folder is there if the configuration names it.

        :raises MigrationsFolderError: if it is not.
        """
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
                f"{self.name} is installed in {shown_path(self.root)}, which is not yours to write to."
                " Run this in the package's own project, or install it editable.",
                package=self.name,
                path=self.folder,
            )
        self.check_folder()


def is_revision_file(name: str) -> bool:
    """Tell whether Alembic would load a file of this name from a versions folder; ``env.py`` is never one."""
    return name.endswith(".py") and not name.startswith((".#", "__init__")) and name != "env.py"


def _files(folder: Path) -> Iterator[Path]:
    if folder.is_dir():
        yield from folder.iterdir()


def check_name(name: str) -> str:
    """Return ``name`` if a package with migrations can be called that.

    Reserved are the words that mean something in a specifier: ``head``, ``heads``, ``base``.

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
            f"{shown} means something else in a specifier, so no package with migrations can be called that. Rename"
            " the package, or list it by a longer dotted name.",
            package=name,
        )
    return name


def packages_in(folder: Path, prefix: str = "") -> Iterator[str]:
    """Give the names of the packages that lie in a folder: in it, in those, and in a namespace that it has.

    :param prefix: the name of the package that the folder is, with a dot.
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
    """Find the package of an entry ``name`` or ``name:folder``, without importing anything.

    :param known: names of packages, of which one may be meant where there is none of that name.
    :raises PackageNameError: if the name or folder cannot be one.
    :raises PackageNotFoundError: if no such package is importable.
    :raises MigrationsFolderError: if the folder leads outside the package.
    """
    name, colon, folder = entry.partition(":")
    check_name(name)
    parts = folder.split("/") if colon else [FOLDER]
    if not all(_FOLDER_PART.fullmatch(part) for part in parts) or len(folder) > _MAX_NAME:
        raise PackageNameError(
            f"{entry[:80]!a} does not name a folder inside {name}. Write package:folder, such as {name}:alembic.",
            package=name,
        )
    root = _package_root(name, known)
    return MigrationPackage(name, root, root.joinpath(*parts), named=bool(colon))


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
            f"{name} is a namespace package, or lies in an archive, so no folder is its own. Add an __init__.py, or"
            " install it as plain files.",
            package=name,
        )
    return Path(spec.origin).absolute().parent


def _find_spec(name: str) -> ModuleSpec | None:
    """Find a module's spec as ``importlib.util.find_spec`` does, but without importing the packages above it."""
    search: Iterable[str] | None = None
    spec: ModuleSpec | None = None
    parts = name.split(".")
    for count in range(1, len(parts) + 1):
        full_name = ".".join(parts[:count])
        spec = _spec_in(full_name, None if search is None else list(search))
        if spec is None:
            return None
        search = spec.submodule_search_locations or []
    return spec


def _spec_in(full_name: str, path: list[str] | None) -> ModuleSpec | None:
    loaded = getattr(sys.modules.get(full_name), "__spec__", None)
    if isinstance(loaded, ModuleSpec):
        return loaded
    for finder in sys.meta_path:
        find = getattr(finder, "find_spec", None)
        spec: ModuleSpec | None = find(full_name, path, None) if find else None
        if spec is not None:
            return spec
    return None


def read_setting(value: object, source: str) -> tuple[str, ...] | None:
    """Read a value of ``AMPHO_MIGRATION_PACKAGES``.

    :param value: a list or tuple of entries, or one string with commas between them; ``None`` and the empty string
        mean that nothing is set.
    :param source: where the value is from, for the error.
    :raises ConfigurationError: if it is anything else.
    """
    if value is None or value == "":
        return None
    if isinstance(value, str):
        entries = [entry.strip() for entry in value.split(",")]
        return tuple(entries[:-1] if len(entries) > 1 and not entries[-1] else entries)
    if isinstance(value, (list, tuple)) and all(isinstance(entry, str) for entry in value):
        return tuple(value)
    what = "has an entry that is no text" if isinstance(value, (list, tuple)) else f"is {type(value).__name__}"
    raise ConfigurationError(
        f"{SETTING} ({source}) {what}, and not a list of names. Give a list such as"
        ' ["app", "acme.billing"], or one string with commas.',
        setting=SETTING,
    )


def configured_packages(
    setting: object,
    arguments: Iterable[str] | None = None,
    added: Iterable[str] = (),
    import_name: str | None = None,
    absent: dict[str, PackageNotFoundError] | None = None,
) -> tuple[MigrationPackage, ...]:
    """Return the packages of an app, in the order in which they are listed.

    :param setting: the app's ``AMPHO_MIGRATION_PACKAGES``; where it is not set, the environment's.
    :param arguments: the ``packages`` argument of the extension.
    :param added: what plug-ins added.
    :param import_name: the app's import name, whose package serves, if it has migrations, where neither a setting nor
        an argument lists any.
    :param absent: takes the errors of listed packages that are not there at all, by name, instead of the caller.
    :raises AmphoError: if an entry is unusable, or two of them contradict each other.
    """
    listed = read_setting(setting, "in the app's configuration")
    if listed is None:
        listed = read_setting(os.environ.get(SETTING), "in the environment")
    entries = [*(listed or ()), *(read_setting(None if arguments is None else list(arguments), "packages=") or ())]
    found = _Listed()
    if listed is None and arguments is None and import_name:
        found.add(_own_package(import_name))
    for entry in [*entries, *added]:
        try:
            found.add(find_package(entry))
        except PackageNotFoundError as exc:
            if absent is None or not exc.is_absent:
                raise
            absent[exc.package] = exc
    for package in found.packages.values():
        package.check_folder()
    return tuple(found.packages.values())


def _identity(folder: Path) -> object:
    """Return what is the same for one folder by two paths, which links make, or a file system that ignores case."""
    try:
        found = folder.stat()
    except OSError:
        return folder.resolve()
    return found.st_dev, found.st_ino


def _own_package(import_name: str) -> MigrationPackage | None:
    """Find the nearest package around the app's module that has migrations."""
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

    :ivar packages: them, by their names.
    """

    def __init__(self) -> None:
        self.packages: dict[str, MigrationPackage] = {}
        self._taken: dict[object, MigrationPackage] = {}

    def add(self, package: MigrationPackage | None) -> None:
        """Add a package; the same entry twice counts once."""
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
                    f"{SETTING} lists {other.name} and {package.name}, which differ in case only or share one folder."
                    " Databases and file systems may take them for one: keep one, or rename one.",
                    setting=SETTING,
                )
        self.packages[package.name] = package
