"""What the shell completes: packages, revisions and specifiers, by Click's own mechanism.

It reads the app and the heads of revision files, and neither the database nor Alembic. What is odd gives no suggestions
and prints nothing: whoever types a command line is not to be interrupted.
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
    """What can be typed, each with what it means."""
    Complete: TypeAlias = Callable[[click.Context, click.Parameter, str], list[CompletionItem]]


# Of each command: what a SPEC can be by itself, whether it can be a package, and what can stand after PACKAGE@.
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
    """Make what finds names a callback of Click's, which neither prints nor fails."""

    @wraps(find)
    def complete(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        from click.shell_completion import CompletionItem  # late, as all that completion alone needs

        found: dict[str, str] = {}
        nowhere = io.TextIOWrapper(io.BytesIO())  # no file, which would have to be closed, and an app may have kept it
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
    """Complete the name of a package of the current folder that has no migrations."""
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
    """Complete the name of a package, or the id of a revision, once that can be of one package only."""
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
    """Complete a SPEC, with the forms that it has for the command."""
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
    """Return the configured packages of the app that the command line so far means."""
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
    """Give the ids of revisions, and their messages: of the packages that an id seems to name, or else of all.

    As long as what was typed may become the ids of several packages there are none: those are enough to choose from.
    """
    from ampho.history.revision import id_prefix

    prefixes = {package: f"{id_prefix(package.name)}_" for package in packages}
    named = [package for package, prefix in prefixes.items() if incomplete.startswith(prefix)]
    begun = [package for package, prefix in prefixes.items() if prefix.startswith(incomplete)]
    if named or len(begun) <= 1:
        for package in named or begun or packages:
            yield from ((revision.id, revision.message) for revision in _revisions(package))


def _revisions(package: MigrationPackage) -> Iterator[Revision]:
    """Read the revisions of a package as far as they can be read."""
    from ampho.history.files import revision_files
    from ampho.history.revision import read_revision

    for file in revision_files(package):
        with suppress(Exception):
            yield read_revision(file, package.name)


def prepare_shells() -> None:
    """Teach Click two things about shells, where it is about to answer one; nothing else of this process sees it.

    bash takes ``app@head`` for several words, and the first comma ends what fish shows of a message.
    """
    from click.shell_completion import BashComplete, FishComplete, add_completion_class

    class Bash(BashComplete):
        _before = ""

        def get_completion_args(self) -> tuple[list[str], str]:
            args, incomplete = super().get_completion_args()
            *args, whole = glued([*args, incomplete])
            last = incomplete if not _GLUE.fullmatch(incomplete) else ""
            self._before = whole.removesuffix(last).removesuffix("@")  # which bash replaces with what follows it
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
    """Put together again what bash took apart at ``@``, ``:`` and ``=``."""
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
