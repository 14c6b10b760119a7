"""Revisions and their ids, and the functions that read revisions from their files."""

from __future__ import annotations

import hashlib
import importlib.util
import inspect
import re
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any, TypeGuard

from ampho._text import describe, location, shown_path
from ampho.errors import RevisionFileError
from ampho.history import header
from ampho.history.files import REPLACED, read_bytes, replaced_files, revision_files
from ampho.history.package import RESERVED, MigrationPackage

_ILLEGAL = frozenset("@-+:'\"\\")
_STAR = ("*",)
_DECORATED = re.compile(rb"^@", re.MULTILINE)
_LEGACY_NAME = re.compile(r"([a-f0-9]+)\.py")
_GENERATED_ID = re.compile(r"(?P<prefix>.+)_[0-9]+")
_SECONDS = re.compile(r"_([0-9]{10})\Z")
_CREATED = re.compile(r"^[ \t]*Create Date:[ \t]*(\d{4}-\d\d-\d\d(?:[T ][\d:.]+(?:Z|[+-]\d\d:?\d\d)?)?)", re.MULTILINE)

MAX_ID = 32
"""The maximum length of an id: the size of Alembic's ``version_num`` column."""

_MAX_PREFIX = MAX_ID - len("_1595770095")


class Phase(StrEnum):
    """When a revision runs, if a new release of the app replaces an old one without stopping it."""

    PRE = "pre"
    """Before the new release starts, so that the old release runs with its changes, too."""
    POST = "post"
    """After the old release is gone."""


@dataclass(frozen=True, slots=True)
class Revision:
    """A revision, as declared in the header of its file.

    :ivar id: the id of the revision.
    :ivar package: the name of its package.
    :ivar file: the path of its file, as text.
    :ivar down_revisions: the ids of its parents: none for a first revision, several for a merge.
    :ivar depends_on: the ids or labels in its ``depends_on``.
    :ivar labels: the branch labels in its file.
    :ivar doc: the docstring of the file.
    :ivar digest: the SHA-256 of the file as it was read, with line feeds as line endings; empty if the revision is
        missing.
    :ivar is_missing: whether its file is missing.
    :ivar replaces: the ids of the revisions that it replaces.
    :ivar phase: the phase in its file; None if the file has none.
    :ivar source: its source, if its file is missing, and the source is from the journal; otherwise, an empty string.
    """

    id: str
    package: str
    file: str
    down_revisions: tuple[str, ...] = ()
    depends_on: tuple[str, ...] = ()
    labels: tuple[str, ...] = ()
    doc: str = ""
    digest: bytes = field(default=b"", compare=False)
    is_missing: bool = False
    replaces: tuple[str, ...] = ()
    phase: Phase | None = None
    source: str = field(default="", compare=False, repr=False)

    @property
    def is_replaced(self) -> bool:
        """Whether its file is in the folder ``replaced``."""
        return self.path.parent.name == REPLACED

    @property
    def path(self) -> Path:
        """The path of the revision's file."""
        return Path(self.file)

    @property
    def checksum(self) -> str:
        """The digest in hexadecimal."""
        return self.digest.hex()

    @property
    def message(self) -> str:
        """The first paragraph of the file's docstring, as one line."""
        return " ".join(self.doc.strip().split("\n\n")[0].split())

    @property
    def time(self) -> float | None:
        """The Unix time at which the revision was written, from its id or its ``Create Date``; None if it has neither.

        A date without a time zone is taken as UTC, so that it means the same on every machine.
        """
        if seconds := _SECONDS.search(self.id):
            return int(seconds[1])
        if created := _CREATED.search(self.doc):
            with suppress(ValueError, OverflowError):
                date = datetime.fromisoformat(created[1])
                return (date if date.tzinfo else date.replace(tzinfo=UTC)).timestamp()
        return None

    def __str__(self) -> str:
        return self.id


def id_prefix(package: str) -> str:
    """Return the prefix of the ids that Ampho generates for a package: the part before ``_<unix seconds>``."""
    prefix = package.replace(".", "_")
    if len(prefix) > _MAX_PREFIX:
        digest = hashlib.blake2s(package.encode(), digest_size=3).hexdigest()
        prefix = f"{prefix[: _MAX_PREFIX - 7]}_{digest}"
    return prefix


def package_of_id(revision_id: str, packages: Iterable[str]) -> str:
    """Return the package that a generated id belongs to, or an empty string for any other id.

    If none of ``packages`` matches, the result is a guess: the prefix of the id, with underscores instead of dots.
    """
    match = _GENERATED_ID.fullmatch(revision_id)
    if match is None:
        return ""
    return next((name for name in packages if id_prefix(name) == match["prefix"]), match["prefix"])


def read_revisions(package: MigrationPackage) -> Iterator[Revision]:
    """Yield the revisions of a package in the order of their file names; none if it has no migrations folder."""
    for file in revision_files(package):
        yield read_revision(file, package.name)


def read_replaced(packages: Iterable[MigrationPackage]) -> Iterator[Revision]:
    """Yield the replaced revisions of packages."""
    for package in packages:
        for file in replaced_files(package):
            yield read_revision(file, package.name)


def read_revision(file: str, package: str) -> Revision:
    """Return the revision in a file, or raise a ``RevisionFileError`` if the file cannot be read or parsed."""
    try:
        source = read_bytes(file)
    except OSError as exc:
        raise _error(file, package, f"cannot be read: {describe(exc)}") from exc
    return parse_revision(source, file, package)


def is_as_read(revision: Revision) -> bool:
    """Return whether the file of a revision is unchanged since it was read."""
    try:
        return digest_of(read_bytes(revision.file)) == revision.digest
    except OSError:
        return False


def parse_revision(source: bytes, file: str, package: str) -> Revision:
    """Return the revision that the contents of a file define.

    :raises RevisionFileError: if the text cannot be parsed, or has no usable header.
    """
    found = header.from_text(source)
    if found is None:
        try:
            found = header.from_syntax_tree(source, file)
        except (SyntaxError, ValueError, RecursionError) as exc:
            raise _unparsable(file, package, exc) from exc
    if found is None:
        found = header.from_module(load_module(Path(file), package))
    return _from_header(*found, digest_of(source), file, package)


def digest_of(source: bytes) -> bytes:
    """Return the digest of a file. It does not depend on the line endings, because git may change them."""
    return hashlib.sha256(source.replace(b"\r\n", b"\n") if b"\r" in source else source).digest()


def load_module(path: Path, package: str) -> ModuleType:
    """Execute a revision file and return its module. Like Alembic, do not add it to ``sys.modules``.

    :raises RevisionFileError: if executing it raises an exception, including ``SystemExit``.
    """
    spec = importlib.util.spec_from_file_location(re.sub(r"\W", "_", path.name), path)
    if spec is None or spec.loader is None:
        raise _error(path, package, "cannot be imported: Python has no loader for a file of this name")
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as exc:
        raise _not_importable(path, package, exc) from exc
    return module


def check_function(revision: Revision, source: bytes, name: str, *, is_async: bool) -> None:
    """Check that the file of a revision compiles and defines a function, without executing the file.

    :param source: the content of the file.
    :param name: the name of the function.
    :param is_async: whether the function would run on a connection of an async engine.
    :raises RevisionFileError: if the file is not usable, with the same message as in a run.
    """
    code = check_syntax(revision, source)
    if code is None:
        return
    names = {name, *header.BINDERS}
    if names.isdisjoint(code.co_names) and _STAR not in code.co_consts:
        raise lacks_function(revision, name)
    if not _DECORATED.search(source):  # a decorator may replace the function
        for function in (each for each in code.co_consts if isinstance(each, CodeType) and each.co_name == name):
            check_is_run(revision, function, is_async=is_async)


def check_syntax(revision: Revision, source: bytes) -> CodeType | None:
    """Return the compiled file of a revision; None if the code is nested too deeply to be compiled here.

    :param source: the content of the file.
    :raises RevisionFileError: if the file cannot be compiled, with the same message as in a run.
    """
    try:
        return compile(source, revision.file, "exec", dont_inherit=True)
    except (SyntaxError, ValueError) as exc:
        raise _not_importable(revision.path, revision.package, exc) from exc
    except RecursionError:  # the limit depends on the depth of the stack, so the run may succeed
        return None


def check_is_run(revision: Revision, code: CodeType | None, *, is_async: bool) -> None:
    """Check that calling a revision's function runs its statements or returns a coroutine that can be awaited.

    :param code: the code of the function; None for a callable that has none.
    :param is_async: whether the revision runs on a connection of an async engine, where a coroutine can be awaited.
    :raises RevisionFileError: if the statements would not run.
    """
    flags = 0 if code is None else code.co_flags
    if flags & (inspect.CO_GENERATOR | inspect.CO_ASYNC_GENERATOR):
        what = "that contains 'yield', so calling it would not run its statements. Remove the 'yield'"
    elif flags & inspect.CO_COROUTINE and not is_async:
        what = (
            "that is 'async def'. Such a function only runs on an async engine and cannot be written as SQL. Use 'def'"
        )
    else:
        return
    name = "" if code is None else code.co_name
    raise _error(revision.file, revision.package, f"has a function {name}() {what}", revision.id)


def lacks_function(revision: Revision, name: str) -> RevisionFileError:
    """Return the error for a revision file without the function that a run needs."""
    what = f"has no function {name}(). Add one; if there is nothing to do, its body can be 'pass'"
    return _error(revision.file, revision.package, what, revision.id)


def _not_importable(path: Path, package: str, exc: BaseException) -> RevisionFileError:
    if isinstance(exc, SyntaxError) and exc.filename == str(path):
        return _unparsable(path, package, exc)
    where = location(exc, path) or shown_path(path)
    return _error(path, package, f"cannot be imported: {describe(exc)} (at {where})")


def _from_header(values: dict[str, object], doc: str, digest: bytes, file: str, package: str) -> Revision:
    if "revision" not in values:
        legacy = _LEGACY_NAME.fullmatch(Path(file).name)
        if legacy is None:
            what = "has no revision id. Add a line revision = '...', or move the file to another folder"
            raise _error(file, package, what)
        values["revision"] = legacy[1]
    revision_id = values["revision"]
    if not _can_be_id(revision_id):
        raise _error(file, package, f"has the invalid id {revision_id!a}")
    if "down_revision" not in values:
        raise _error(file, package, "has no down_revision. Add it; for the first revision, write down_revision = None")
    return Revision(
        id=str.__str__(revision_id),  # the id may be a member of an enum
        package=package,
        file=file,
        down_revisions=_strings(values, "down_revision", file, package),
        depends_on=_strings(values, "depends_on", file, package),
        labels=_strings(values, "branch_labels", file, package),
        replaces=_strings(values, "replaces", file, package) if "replaces" in values else (),
        phase=_phase(values["phase"], file, package) if "phase" in values else None,
        doc=doc,
        digest=digest,
    )


def _phase(value: object, file: str, package: str) -> Phase | None:
    if value is None:
        return None
    if isinstance(value, str) and value in [*Phase]:
        return Phase(value)
    raise _error(file, package, f'has the phase {value!a}. Write phase = "pre" or phase = "post", or remove the line')


def _can_be_id(text: object) -> TypeGuard[str]:
    """Return whether a value is a valid revision id."""
    if not isinstance(text, str) or not text or text in RESERVED:
        return False
    return text.isidentifier() or (text.isprintable() and text == text.strip() and _ILLEGAL.isdisjoint(text))


def _strings(values: dict[str, object], name: str, file: str, package: str) -> tuple[str, ...]:
    """Return a value of the header as a tuple of strings.

    As in Alembic, an empty value becomes an empty tuple, and a tuple that contains only another tuple is unwrapped.
    """
    value = values.get(name)
    if value is None:
        return ()
    if type(value) is str:
        return (value,) if value else ()
    try:
        strings = _as_tuple(value)
        strings = _as_tuple(strings[0]) if len(strings) == 1 else strings
    except Exception as exc:
        raise _error(file, package, f"has a {name} that cannot be read: {describe(exc)}") from exc
    if not all(isinstance(value, str) and value for value in strings):
        raise _error(file, package, f"has a {name} that is neither a string nor a sequence of strings")
    return tuple(dict.fromkeys(map(str.__str__, strings)))


def _as_tuple(value: object) -> tuple[Any, ...]:
    if not value:
        return ()
    if isinstance(value, str) or not isinstance(value, Iterable):
        return (value,)
    return tuple(sorted(value, key=str) if isinstance(value, (set, frozenset)) else value)


def _unparsable(file: str | Path, package: str, exc: Exception) -> RevisionFileError:
    line = f" line {exc.lineno}:" if isinstance(exc, SyntaxError) and exc.lineno else ""
    return _error(file, package, f"cannot be parsed:{line} {describe(exc)}")


def _error(file: str | Path, package: str, what: str, revision_id: str | None = None) -> RevisionFileError:
    message = f"The revision file {shown_path(file)} of {package} {what}."
    return RevisionFileError(message, package=package, revision=revision_id, path=Path(file))
