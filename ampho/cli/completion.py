"""Shell completion of packages, revisions, and specifiers, through Click.

Completion loads the app and reads the headers of the revision files, but does not use the database or Alembic. If an
error occurs, it suggests nothing and prints nothing, because output would disturb the command line.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import redirect_stderr, redirect_stdout, suppress
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import click

from ampho._text import escaped

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

    from ampho.history.package import MigrationPackage
    from ampho.history.revision import Revision

    Found: TypeAlias = Iterable[tuple[str, str]]
    """Suggestions, each with its meaning."""
    Complete: TypeAlias = Callable[[click.Context, click.Parameter, str], list[CompletionItem]]


# For each command: the words that are valid as SPEC, whether a package is valid, and what may follow "PACKAGE@".
_FORMS: dict[str | None, tuple[Sequence[str], bool, Sequence[str]]] = {
    "db-up": (["heads"], True, ["head", "+1"]),
    "db-down": (["base"], False, ["-1", "base"]),
    "db-show": (["heads"], True, ["head"]),
    "db-stamp": (["heads", "base"], True, ["head", "base"]),
}
_MEANS = {
    "heads": "all revisions",
    "base": "no revisions",
    "@head": "its last revision",
    "@+1": "its next revision",
    "@-1": "its last applied revision",
    "@base": "none of its revisions",
}
_GLUE = re.compile(r"[@:=]+")


def _quietly(find: Callable[[click.Context, click.Parameter, str], Found]) -> Complete:
    """Turn a function that returns suggestions into a callback for Click that never prints or raises anything."""

    @wraps(find)
    def complete(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        from click.shell_completion import CompletionItem  # imported late, because only completion needs it

        found: dict[str, str] = {}
        # This stream is never closed, because the app may keep a reference to it.
        nowhere = io.TextIOWrapper(io.BytesIO())
        with suppress(Exception, SystemExit), redirect_stdout(nowhere), redirect_stderr(nowhere):
            found.update(find(ctx, param, incomplete))
        return [
            CompletionItem(name, help=escaped(means))
            for name, means in found.items()
            if name.startswith(incomplete) and name.isprintable()
        ]

    return complete


@_quietly
def packages(ctx: click.Context, param: click.Parameter, incomplete: str) -> Found:
    """Complete the name of a configured package."""
    for package in _packages(ctx):
        yield package.name, ""


@_quietly
def new_packages(ctx: click.Context, param: click.Parameter, incomplete: str) -> Found:
    """Complete the name of a package or module without a migrations folder in the current folder."""
    from ampho.history.package import FOLDER

    for name, meaning in _importable():
        path = Path(*name.split("."))
        if not (path if path.is_dir() else path.parent).joinpath(FOLDER).exists():
            yield name, meaning


@_quietly
def any_packages(ctx: click.Context, param: click.Parameter, incomplete: str) -> Found:
    """Complete the name of a package or module in the current folder."""
    return _importable()


def _importable() -> Found:
    from ampho.history.package import packages_in

    return ((name, "") for name in packages_in(Path.cwd()))


@_quietly
def revisions(ctx: click.Context, param: click.Parameter, incomplete: str) -> Found:
    """Complete the id of a revision."""
    yield from _ids(_packages(ctx), incomplete)


@_quietly
def names(ctx: click.Context, param: click.Parameter, incomplete: str) -> Found:
    """Complete the name of a package, or the id of a revision."""
    found = _packages(ctx)
    for package in found:
        yield package.name, "all its revisions"
    yield from _ids(found, incomplete)


@_quietly
def errors(ctx: click.Context, param: click.Parameter, incomplete: str) -> Found:
    """Complete the name of an error."""
    from ampho.cli.show.errors import summaries

    return summaries().items()


@_quietly
def specifiers(ctx: click.Context, param: click.Parameter, incomplete: str) -> Found:
    """Complete a SPEC in the forms that are valid for the command."""
    words, may_be_package, after = _FORMS.get(ctx.info_name, ([], True, []))
    if isinstance(param, click.Option):  # --start
        words, may_be_package, after = ["base"], False, []
    for word in words:
        yield word, _MEANS[word]
    found = _packages(ctx)
    begun = [package for package in found if package.name.startswith(incomplete.partition("@")[0])]
    for package in begun:
        if may_be_package:
            yield package.name, "all its revisions"
        if len(begun) == 1 or not may_be_package:
            yield from ((f"{package.name}@{form}", _MEANS[f"@{form}"]) for form in after)
    yield from _ids(found, incomplete)


def _packages(ctx: click.Context) -> Sequence[MigrationPackage]:
    """Return the configured packages of the app that the command line selects."""
    from ampho.extension import extension_of

    loader = ctx.obj  # the ScriptInfo of Flask or Quart
    if not hasattr(loader, "load_app"):
        from ampho.cli.console import ConsoleLoader

        loader = ConsoleLoader(ctx.find_root().params.get("import_path"))
    app = loader.load_app()
    return extension_of(app).packages(app).packages


def _ids(packages: Sequence[MigrationPackage], incomplete: str) -> Found:
    """Yield the ids and messages of revisions whose ids may begin with ``incomplete``.

    Yield nothing while several packages match, because the names of the packages are suggested first.
    """
    from ampho.history.revision import id_prefix

    prefixes = {package: f"{id_prefix(package.name)}_" for package in packages}
    named = [package for package, prefix in prefixes.items() if incomplete.startswith(prefix)]
    begun = [package for package, prefix in prefixes.items() if prefix.startswith(incomplete)]
    if named or len(begun) <= 1:
        for package in named or begun or packages:
            yield from ((revision.id, revision.message) for revision in _revisions(package))


def _revisions(package: MigrationPackage) -> Iterator[Revision]:
    """Yield the revisions of a package, except those whose files cannot be read."""
    from ampho.history.files import revision_files
    from ampho.history.revision import read_revision

    for file in revision_files(package):
        with suppress(Exception):
            yield read_revision(file, package.name)


def prepare_shells() -> None:
    """Adapt Click's completion to bash, which splits ``app@head``, and to fish, which cuts messages at commas."""
    # Click registers the classes globally, so this function is called only in a process that completes a command line.
    from click.shell_completion import BashComplete, FishComplete, add_completion_class

    class Bash(BashComplete):
        _before = ""

        def get_completion_args(self) -> tuple[list[str], str]:
            args, incomplete = super().get_completion_args()
            *args, whole = join_words([*args, incomplete])
            last = incomplete if not _GLUE.fullmatch(incomplete) else ""
            self._before = whole.removesuffix(last).removesuffix("@")  # bash only replaces the text after the '@'
            return args, whole

        def format_completion(self, item: CompletionItem) -> str:
            item.value = item.value.removeprefix(self._before)
            return super().format_completion(item)

    class Fish(FishComplete):
        def format_completion(self, item: CompletionItem) -> str:
            item.help = (item.help or "").replace(",", "")
            return super().format_completion(item)

    add_completion_class(Bash)
    add_completion_class(Fish)


def join_words(words: Sequence[str]) -> list[str]:
    """Join the words that bash has split at ``@``, ``:``, and ``=``."""
    whole: list[str] = []
    glue = False
    for word in words:
        is_glue = bool(_GLUE.fullmatch(word))
        if whole and (is_glue or glue):
            whole[-1] += word
        else:
            whole.append(word)
        glue = is_glue
    return whole
