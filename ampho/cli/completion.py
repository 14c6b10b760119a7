"""Shell completion of packages, revisions, and specifiers, through Click.

It loads the app and reads the headers of the revision files, but uses neither the database nor Alembic. Errors produce
no suggestions and no output, so that they do not disturb the command line.
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
    """The suggestions, each with its meaning."""
    Complete: TypeAlias = Callable[[click.Context, click.Parameter, str], list[CompletionItem]]


# For each command: the words that are a SPEC, whether a package is one, and what may follow "PACKAGE@".
_FORMS: dict[str | None, tuple[Sequence[str], bool, Sequence[str]]] = {
    "db-up": (["heads"], True, ["head", "+1"]),
    "db-down": (["base"], False, ["-1", "base"]),
    "db-show": (["heads"], True, ["head"]),
    "db-stamp": (["heads", "base"], True, ["head", "base"]),
}
_MEANS = {
    "heads": "everything",
    "base": "nothing at all",
    "@head": "its last revision",
    "@+1": "its next revision",
    "@-1": "its last applied revision",
    "@base": "nothing of it",
}
_GLUE = re.compile(r"[@:=]+")


def _quietly(find: Callable[[click.Context, click.Parameter, str], Found]) -> Complete:
    """Turn a function that yields suggestions into a callback for Click that neither prints nor fails."""

    @wraps(find)
    def complete(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        from click.shell_completion import CompletionItem  # late, like everything that only completion needs

        found: dict[str, str] = {}
        nowhere = io.TextIOWrapper(io.BytesIO())  # in memory: the app may keep a reference, so it is never closed
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
    """Complete the name of a package in the current folder that has no migrations folder."""
    from ampho.history.package import FOLDER, packages_in

    for name in packages_in(Path.cwd()):
        if not Path(*name.split("."), FOLDER).exists():
            yield name, ""


@_quietly
def revisions(ctx: click.Context, param: click.Parameter, incomplete: str) -> Found:
    """Complete the id of a revision."""
    yield from _ids(_packages(ctx), incomplete)


@_quietly
def names(ctx: click.Context, param: click.Parameter, incomplete: str) -> Found:
    """Complete the name of a package, or the id of a revision."""
    found = _packages(ctx)
    for package in found:
        yield package.name, "all of it"
    yield from _ids(found, incomplete)


@_quietly
def errors(ctx: click.Context, param: click.Parameter, incomplete: str) -> Found:
    """Complete the name of an error."""
    from ampho.cli.show.errors import summaries

    return summaries().items()


@_quietly
def specifiers(ctx: click.Context, param: click.Parameter, incomplete: str) -> Found:
    """Complete a SPEC in the forms that the command accepts."""
    words, may_be_package, after = _FORMS.get(ctx.info_name, ([], True, []))
    if isinstance(param, click.Option):  # --start
        words, may_be_package, after = ["base"], False, []
    for word in words:
        yield word, _MEANS[word]
    found = _packages(ctx)
    begun = [package for package in found if package.name.startswith(incomplete.partition("@")[0])]
    for package in begun:
        if may_be_package:
            yield package.name, "all of it"
        if len(begun) == 1 or not may_be_package:
            yield from ((f"{package.name}@{form}", _MEANS[f"@{form}"]) for form in after)
    yield from _ids(found, incomplete)


def _packages(ctx: click.Context) -> Sequence[MigrationPackage]:
    """Return the configured packages of the app that the command line selects."""
    from ampho.extension import extension_of

    root = ctx.find_root()
    if hasattr(ctx.obj, "load_app"):  # Flask's and Quart's own
        app = ctx.obj.load_app()
    else:
        from ampho.apps import AppLoader, load_env_files

        load_env_files()
        app = AppLoader(root.params.get("import_path")).load_app()
    return extension_of(app).packages(app).packages


def _ids(packages: Sequence[MigrationPackage], incomplete: str) -> Found:
    """Yield the ids and messages of the revisions whose ids may start with the text.

    While the text may still become an id of several packages, there are no ids: the names of the packages are enough.
    """
    from ampho.history.revision import id_prefix

    prefixes = {package: f"{id_prefix(package.name)}_" for package in packages}
    named = [package for package, prefix in prefixes.items() if incomplete.startswith(prefix)]
    begun = [package for package, prefix in prefixes.items() if prefix.startswith(incomplete)]
    if named or len(begun) <= 1:
        for package in named or begun or packages:
            yield from ((revision.id, revision.message) for revision in _revisions(package))


def _revisions(package: MigrationPackage) -> Iterator[Revision]:
    """Yield the revisions of a package, without those whose files cannot be read."""
    from ampho.history.files import revision_files
    from ampho.history.revision import read_revision

    for file in revision_files(package):
        with suppress(Exception):
            yield read_revision(file, package.name)


def prepare_shells() -> None:
    """Correct Click's completion for bash, which splits ``app@head``, and for fish, which cuts messages at commas."""
    # Click keeps these classes, so only a process that completes calls this function.
    from click.shell_completion import BashComplete, FishComplete, add_completion_class

    class Bash(BashComplete):
        _before = ""

        def get_completion_args(self) -> tuple[list[str], str]:
            args, incomplete = super().get_completion_args()
            *args, whole = glued([*args, incomplete])
            last = incomplete if not _GLUE.fullmatch(incomplete) else ""
            self._before = whole.removesuffix(last).removesuffix("@")  # bash only replaces what follows the '@'
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


def glued(words: Sequence[str]) -> list[str]:
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
