"""Plug-ins that are found by the entry points of their distributions.

A plug-in is a package whose distribution has an entry point in the group ``ampho.packages``. Its name is that of the
package, and its value is where the migrations are: the package, or ``package:folder``. An entry point of the same name
in the group ``ampho.models`` names a module to import, or a function that is called with the app, and one in the group
``ampho.databases`` names the database in which the plug-in lives. A plug-in that is found is not enabled:
``AMPHO_PLUGINS`` enables it.
"""

from __future__ import annotations

import sys
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from inspect import isclass

from ampho._text import describe
from ampho.errors import ConfigurationError
from ampho.settings import PLUGINS

PACKAGES, MODELS, DATABASES = "ampho.packages", "ampho.models", "ampho.databases"


@dataclass(frozen=True, slots=True, order=True)
class Plugin:
    """A plug-in that is installed.

    :ivar name: the name of the package.
    :ivar value: the value of its entry point: the package, or ``package:folder``.
    :ivar distribution: the name and the version of its distribution.
    """

    name: str
    value: str
    distribution: str

    @property
    def entry(self) -> str:
        """The entry, as in ``AMPHO_MIGRATION_PACKAGES``.

        :raises ConfigurationError: if the value belongs to another package.
        """
        package, _, folder = self.value.partition(":")
        if package.strip() != self.name:
            raise ConfigurationError(
                f"The entry point {self.name} = {self.value!a} of {self.distribution}, in the group {PACKAGES}, must"
                f" have the package as its name and as its value, as in {self.name!a} = {self.name!a}. Correct it in"
                f" that project, or leave {self.name} out of {PLUGINS}.",
                setting=PLUGINS.name,
            )
        return f"{self.name}:{folder.strip()}" if folder.strip() else self.name

    def __str__(self) -> str:
        return f"{self.name} ({self.distribution})"


def installed_plugins() -> tuple[Plugin, ...]:
    """Return the plug-ins that are installed, sorted by name."""
    return _installed(tuple(sys.path))


@cache
def _installed(path: tuple[str, ...]) -> tuple[Plugin, ...]:
    points = entry_points(group=PACKAGES)
    return tuple(sorted(Plugin(each.name, each.value, _distribution(each)) for each in points))


def _distribution(point: EntryPoint) -> str:
    return "an unknown distribution" if point.dist is None else f"{point.dist.name} {point.dist.version}"


def not_enabled(packages: Collection[str]) -> tuple[str, ...]:
    """Return the plug-ins that are installed and not among an app's packages, each with its distribution."""
    return tuple(str(each) for each in installed_plugins() if each.name not in packages)


def plugin_entries(setting: bool | tuple[str, ...]) -> Iterator[str]:  # noqa: FBT001 (the value of a setting)
    """Yield the entries of the packages that a setting enables; a name alone if its plug-in is not installed.

    :raises ConfigurationError: if the entry point of one of them is not valid, or if two distributions define it.
    """
    installed = installed_plugins() if setting else ()
    names = dict.fromkeys(each.name for each in installed) if setting is True else setting or ()
    for name in names:
        found = [each for each in installed if each.name == name]
        if len(found) > 1:
            raise ConfigurationError(
                f"The plug-in {name} is provided by {' and by '.join(each.distribution for each in found)}."
                " Uninstall one of them.",
                setting=PLUGINS.name,
            )
        yield found[0].entry if found else name


def plugin_databases(setting: bool | tuple[str, ...]) -> Iterator[tuple[str, str, str]]:  # noqa: FBT001 (as above)
    """Yield the plug-ins that name their database, among those that a setting enables.

    :return: the name of each package, that of the database, and a description of the entry point for errors.
    """
    names = {entry.partition(":")[0] for entry in plugin_entries(setting)}
    for point in entry_points(group=DATABASES):
        if point.name in names:
            yield point.name, point.value, f"The plug-in {point.name} ({_distribution(point)})"


def load_models(setting: bool | tuple[str, ...], app: object) -> None:  # noqa: FBT001 (the value of a setting)
    """Import the models of the plug-ins that a setting enables, or call the functions that register them.

    :raises ConfigurationError: if that raises an exception, and as for :func:`plugin_entries`.
    """
    names = {entry.partition(":")[0] for entry in plugin_entries(setting)}
    for point in entry_points(group=MODELS) if names else ():
        if point.name not in names:
            continue
        try:
            loaded: object = point.load()
            if callable(loaded) and not isclass(loaded):
                loaded(app)
        except Exception as exc:
            raise ConfigurationError(
                f"The models of the plug-in {point.name} ({_distribution(point)}) cannot be loaded from"
                f" {point.value!a}: {describe(exc).rstrip('.')}. Correct the plug-in, uninstall it, or leave it out of"
                f" {PLUGINS}.",
                setting=PLUGINS.name,
            ) from exc
