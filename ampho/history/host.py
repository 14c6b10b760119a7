"""The host: the package whose ``env.py`` configures every run.

A third-party ``env.py`` runs only if ``AMPHO_ENV_PACKAGE`` names its package. A package is third-party if it was
installed by a different distribution from the app's.
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache, cached_property
from itertools import accumulate
from pathlib import Path

from ampho._text import shown_path
from ampho.errors import ConfigurationError
from ampho.history.files import read_bytes
from ampho.history.package import SETTING, MigrationPackage, find_file
from ampho.settings import ENV_PACKAGE

TEMPLATES = Path(__file__).parent.with_name("templates")
_USES_AMPHO = re.compile(rb"^\s*(from\s+ampho(\.environment)?\s+import\b|import\s+ampho\.environment\b)", re.MULTILINE)


@dataclass(frozen=True)
class Hosts:
    """The packages of an app, and the host among them.

    :ivar packages: the packages, in the order in which they are listed.
    :ivar name: the value of ``AMPHO_ENV_PACKAGE``; None if it is not set.
    :ivar import_name: the import name of the app: the name of a module or package.
    """

    packages: Sequence[MigrationPackage]
    name: str | None
    import_name: str

    @cached_property
    def host(self) -> MigrationPackage | None:
        """The package whose ``env.py`` configures every run; None if the built-in ``env.py`` does.

        :raises ConfigurationError: if ``AMPHO_ENV_PACKAGE`` names a package that cannot be the host.
        """
        if self.name:
            return self._named(self.name)
        found = [package for package, text in self._texts if _USES_AMPHO.search(text)]
        own_first = sorted(found, key=lambda package: not self._is_in_apps_package(package))
        return next((package for package in own_first if not self._is_foreign(package)), None)

    @cached_property
    def _texts(self) -> list[tuple[MigrationPackage, bytes]]:
        """The packages that have an ``env.py``, each with the content of that file."""
        texts = [(package, _read(package.env_py)) for package in self.packages]
        return [(package, text) for package, text in texts if text is not None]

    def _named(self, name: str) -> MigrationPackage:
        for package in self.packages:
            if package.name == name and package.env_py.is_file():
                return package
        raise ConfigurationError(
            f"{ENV_PACKAGE} is {name!a}, which is not a configured package with an env.py. Name one of"
            f" {', '.join(package.name for package in self.packages) or 'the packages in ' + SETTING}.",
            setting=ENV_PACKAGE.name,
        )

    def warning(self, template: Path) -> str | None:
        """Return a warning if no package is the host but a package has an ``env.py`` that may be meant for all runs.

        Return None if nothing is wrong, or if ``AMPHO_ENV_PACKAGE`` is set, even to an empty string.

        :param template: the ``env.py`` that the warning recommends.
        """
        if self.name is not None or self.host is not None:
            return None
        skipped = [(package, why) for package, text in self._texts if (why := self._why_skipped(package, text))]
        if not skipped:
            return None
        package, why = skipped[0]
        more = f" (and {len(skipped) - 1} more)" if len(skipped) > 1 else ""
        remedy = f"replace it with a copy of {shown_path(template)}"
        if not self._is_foreign(package):
            remedy = f"take it over with 'ampho db-adopt {shown_path(package.folder)} --into {package.name}'"
        return (
            f"{shown_path(package.env_py)}{more} is not used, because it {why}. Set {ENV_PACKAGE}={package.name} if it"
            f" should configure every run, or {ENV_PACKAGE}= if no env.py should, or {remedy}."
        )

    def _why_skipped(self, package: MigrationPackage, text: bytes) -> str:
        if not self._is_foreign(package):
            return "does not import ampho.environment"
        if _USES_AMPHO.search(text) and not is_pristine(package):
            return f"is installed, and {package.name} is not known to belong to the app's own distribution"
        return ""

    def _is_foreign(self, package: MigrationPackage) -> bool:
        """Return whether a package was installed by a different distribution from the app's.

        If no distribution lists the package in its records, for example because its files were copied, the package is
        treated as foreign if it is in site-packages and outside the app's top-level package.
        """
        if self._apps_package == (package.name, package.root):
            return False
        file = package.file
        site = file.parents[package.name.count(".") + (not package.is_module)]
        record = next((record for record in self._records(site) if _has(record, file, site)), None)
        if record is None:
            return package.installed and not self._is_in_apps_package(package)
        return self._apps_file is None or not _has(record, self._apps_file, site)

    def _is_in_apps_package(self, package: MigrationPackage) -> bool:
        if self._apps_package is None:
            return package.name == self._apps_module
        name, folder = self._apps_package
        return f"{package.name}.".startswith(f"{name}.") and package.root.is_relative_to(folder)

    @cached_property
    def _records(self) -> Callable[[Path], list[bytes]]:
        """A cached function that returns the contents of the ``RECORD`` files of the distributions in a folder."""
        return cache(lambda site: [_read(record) or b"" for record in site.glob("*.dist-info/RECORD")])

    @cached_property
    def _apps_module(self) -> str:
        """The name of the app's module, even if Python runs that module as ``__main__``."""
        main = getattr(sys.modules.get("__main__"), "__spec__", None)
        return main.name if self.import_name == "__main__" and main else self.import_name

    @cached_property
    def _apps_file(self) -> Path | None:
        file = find_file(self._apps_module)
        return self._apps_package[1] / "__init__.py" if file is None and self._apps_package else file

    @cached_property
    def _apps_package(self) -> tuple[str, Path] | None:
        """The name and the folder of the outermost regular package that contains the app's module."""
        for name in accumulate(self._apps_module.split("."), "{}.{}".format):
            file = find_file(name)
            if file is not None and file.name == "__init__.py":
                return name, file.parent
        return None


def uses_ampho(package: MigrationPackage) -> bool:
    """Return whether a package's ``env.py`` imports ``ampho.environment``, unlike that of another tool."""
    return bool(_USES_AMPHO.search(_read(package.env_py) or b""))


def is_pristine(package: MigrationPackage) -> bool:
    """Return whether a package's ``env.py`` is the one that ``db-init`` writes, apart from layout and comments."""
    text = _read(package.env_py)
    templates = [(TEMPLATES / kind / "env.py").read_bytes() for kind in ("sync", "aio")]
    return text in templates or (text is not None and _code(text) in map(_code, templates))


def _code(text: bytes) -> str:
    """Return the syntax tree of a file as text; an empty string if the file cannot be parsed as Python."""
    try:
        return ast.dump(ast.parse(text))
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return ""


def _has(record: bytes, file: Path, site: Path) -> bool:
    """Return whether the ``RECORD`` of a distribution in the folder ``site`` lists a file."""
    return file.is_relative_to(site) and f"\n{file.relative_to(site).as_posix()},".encode() in b"\n" + record


def _read(file: Path) -> bytes | None:
    with suppress(OSError):
        return read_bytes(str(file))
    return None
