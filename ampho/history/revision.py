"""One revision, and reading it from its file without running the file.

What Alembic would learn by executing the file is read from its text: at one go where its head is as a template writes
it, and line by line where nothing but comments, imports and plain values comes before the end of its header, as in all
but all files. Else it is read from the syntax tree, which takes ten times as long; and a file that computes its header
is executed, because only Python can tell what it says.
"""

from __future__ import annotations

import ast
import hashlib
import importlib.util
import inspect
import os
import re
import sys
import unicodedata
from codecs import BOM_UTF8
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import chain
from operator import attrgetter
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any, TypeGuard

from ampho._text import describe, location, shown_path
from ampho.errors import RevisionFileError
from ampho.history.package import RESERVED, MigrationPackage, is_revision_file, read_bytes

HEADER = ("revision", "down_revision", "branch_labels", "depends_on")
_ILLEGAL = frozenset("@-+:'\"\\")

# What the top level of a file may use to bind a name that the file does not spell out: these, and import *.
_BINDERS = ("globals", "locals", "vars", "exec", "setattr", "__dict__")
_STAR = ("*",)
_DECORATED = re.compile(rb"^@", re.MULTILINE)

_STRING = r"""(?:"[^"\\\n]*"|'[^'\\\n]*')"""
_ONE_STRING = re.compile(_STRING)
_STRINGS = rf"(?:\([ \t\n]*{_STRING}(?:[ \t\n]*,[ \t\n]*{_STRING})*(?:[ \t\n]*,)?[ \t\n]*\)|"
_STRINGS += rf"\[[ \t\n]*{_STRING}(?:[ \t\n]*,[ \t\n]*{_STRING})*(?:[ \t\n]*,)?[ \t\n]*\])"
_DOCSTRING = re.compile(r'(?:[ \t]*(?:#[^\n]*)?\n)*(?:"""(?P<doc>[^"\\]*(?:"{1,2}(?!")[^"\\]*)*)"""[ \t]*(?:\n|\Z))?')
_ANNOTATION = r"(?:[ \t]*:[\w .,\[\]|]+)?[ \t]*=[ \t]*"
_VALUE = rf"None|{_STRING}|{_STRINGS}"
_IMPORT = r"(?:import|from)[ \t][^\n()\\;*]*\n"
_HEAD = re.compile(
    rf'"""(?P<doc>[^"\\]*)"""\n(?P<imports>(?:{_IMPORT}|\n)*)(?:#[^\n]*\n)*'
    + "".join(rf"{name}{_ANNOTATION}(?P<{name}>{_VALUE})\n" for name in HEADER),
    re.ASCII,
)
_LINE = re.compile(
    rf"(?P<name>{'|'.join(HEADER)}){_ANNOTATION}(?P<value>{_VALUE})"
    r"[ \t]*(?:#[^\n]*)?(?:\n|\Z)"
    r"|[ \t]*(?:#[^\n]*)?\n"
    rf"|(?P<imports>{_IMPORT}|from[ \t][^\n()\\;*]*\([^()\\;*]*\)[ \t]*(?:\n|\Z))",
    re.ASCII,
)
_DOUBTS = (*(name for name in HEADER if name != "down_revision"), "*", "<<<<<<< ")
_INDENTED = re.compile(r"(?:^|\n)[^\S\n]|\t")
_UNSURE = re.compile(rf"\b(?:{'|'.join(HEADER)})\b|\bimport\b[\s\\(]*\*|^<<<<<<< ", re.MULTILINE)

_LEGACY_NAME = re.compile(r"([a-f0-9]+)\.py")

_DECLARED = re.compile(rb"^(revision|down_revision)\b", re.MULTILINE)
_GENERATED_ID = re.compile(r"(?P<prefix>.+)_[0-9]+")
_SECONDS = re.compile(r"_([0-9]{10})\Z")
_CREATED = re.compile(r"^[ \t]*Create Date:[ \t]*(\d{4}-\d\d-\d\d(?:[T ][\d:.]+(?:Z|[+-]\d\d:?\d\d)?)?)", re.MULTILINE)

MAX_ID = 32
"""The length of Alembic's ``version_num`` column."""

_MAX_PREFIX = 21  # what "_" and ten digits leave of it


@dataclass(frozen=True, slots=True)
class Revision:
    """One migration, as the head of its file declares it.

    :ivar id: the revision's id.
    :ivar package: the name of the package that owns it.
    :ivar file: the path of its file; see :attr:`path`.
    :ivar down_revisions: ids of its parents; none for a first revision, several for a merge.
    :ivar depends_on: ids or labels that it depends on, as written in the file.
    :ivar labels: the branch labels that the file carries.
    :ivar doc: the docstring of the file.
    :ivar digest: the SHA-256 of the file as it was read, with line feeds as line ends; empty where no file has it.
    :ivar is_missing: whether it is known from a database only, and no file has it.
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

    @property
    def path(self) -> Path:
        """Its file."""
        return Path(self.file)

    @property
    def checksum(self) -> str:
        """The digest in hexadecimal."""
        return self.digest.hex()

    @property
    def message(self) -> str:
        """The first paragraph of the docstring, in one line."""
        return " ".join(self.doc.strip().split("\n\n")[0].split())

    @property
    def time(self) -> float | None:
        """When it was written, in Unix time: from its id, otherwise from its ``Create Date``; None if neither has it.

        A date without a time zone counts as UTC, so that it means the same on every machine.
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
    """Return what the generated ids of a package's revisions have before the last underscore and the time."""
    prefix = package.replace(".", "_")
    if len(prefix) > _MAX_PREFIX:
        digest = hashlib.blake2s(package.encode(), digest_size=3).hexdigest()
        prefix = f"{prefix[: _MAX_PREFIX - 7]}_{digest}"
    return prefix


def package_of_id(revision_id: str, packages: Iterable[str]) -> str:
    """Return the package that an id names, as far as it does; an empty name where it names none.

    :param packages: the names of the packages that are there.
    """
    match = _GENERATED_ID.fullmatch(revision_id)
    if match is None:
        return ""
    return next((name for name in packages if id_prefix(name) == match["prefix"]), match["prefix"])


def read_revisions(package: MigrationPackage) -> Iterator[Revision]:
    """Read the revisions of a package in the order of their file names; none if it has no migrations folder.

    :raises RevisionFileError: if a file cannot be read, or says nothing usable.
    """
    for file in revision_files(package):
        yield read_revision(file, package.name)


def revision_files(package: MigrationPackage) -> Iterator[str]:
    """Return the paths of a package's revision files.

    :raises RevisionFileError: if a folder cannot be read.
    """
    folders, is_recursive = package.layout
    first, *more = (_files(folder, package.name, is_recursive=is_recursive) for folder in folders)
    return iter(dict.fromkeys(chain(first, *more))) if more else first


def revision_folders(package: MigrationPackage) -> list[str]:
    """Return the folders of a package's revision files, those inside others included.

    :raises RevisionFileError: if a folder cannot be read.
    """
    folders, is_recursive = package.layout
    inside = (file.rpartition(os.sep)[0] for file in revision_files(package)) if is_recursive else ()
    return [*dict.fromkeys([*folders, *inside])]


def unread_folders(package: MigrationPackage) -> tuple[str, ...]:
    """Return the folders inside a package's migrations folder whose revision files are not read, relative to it."""
    read, is_recursive = package.layout
    top = str(package.folder)
    unread, todo = [], [top]
    while todo:
        folder = todo.pop()
        if is_recursive and folder in read:
            continue
        entries = _entries(folder)
        folders = [entry for entry in entries if entry.is_dir(follow_symlinks=False)]
        todo += [entry.path for entry in folders if not entry.name.endswith("__pycache__")]
        if folder not in read and folder != top and any(map(_is_like_a_revision, entries)):
            unread.append(folder[len(top) + 1 :].replace(os.sep, "/"))
    return tuple(sorted(unread))


def _entries(folder: str) -> list[os.DirEntry[str]]:
    """Return what is in a folder; nothing if it cannot be read."""
    try:
        with os.scandir(folder) as scanned:
            return list(scanned)
    except OSError:
        return []


def _is_like_a_revision(entry: os.DirEntry[str]) -> bool:
    try:
        return is_revision_file(entry.name) and len(set(_DECLARED.findall(read_bytes(entry.path)))) > 1
    except OSError:
        return False


def _files(folder: str, package: str, *, is_recursive: bool) -> Iterator[str]:
    """Give what Alembic would load, in its order.

    :raises RevisionFileError: if a folder cannot be read, which must not be taken for one without revisions.
    """
    try:
        with os.scandir(folder) as scanned:
            entries = sorted(scanned, key=attrgetter("name"))
    except OSError as exc:
        if not os.path.lexists(folder):
            return
        raise RevisionFileError(
            f"The folder {shown_path(folder)} of {package} cannot be read: {describe(exc)}.",
            package=package,
            path=Path(folder),
        ) from exc
    for entry in entries:
        if is_revision_file(entry.name) and not entry.is_dir(follow_symlinks=False):
            if entry.is_symlink() and _is_passed_over(entry.path, folder):
                continue
            yield f"{folder}{os.sep}{entry.name}"
    for entry in entries if is_recursive else ():
        if entry.is_dir(follow_symlinks=False) and not entry.name.endswith("__pycache__"):
            yield from _files(entry.path, package, is_recursive=True)


def _is_passed_over(link: str, folder: str) -> bool:
    """Return whether a link leads to a folder, or to a file of its own folder, which is read under its own name."""
    target = Path(os.path.realpath(link))
    return target.is_dir() or (target.is_file() and target.parent == Path(os.path.realpath(folder)))


def read_revision(file: str, package: str) -> Revision:
    """Read one revision file.

    :raises RevisionFileError: if it cannot be read, or says nothing usable.
    """
    try:
        source = read_bytes(file)
    except OSError as exc:
        raise _unreadable(file, package, f"cannot be read: {describe(exc)}") from exc
    return parse_revision(source, file, package)


def is_as_read(revision: Revision) -> bool:
    """Tell whether the file of a revision still is what was read."""
    try:
        return _digest(read_bytes(revision.file)) == revision.digest
    except OSError:
        return False


def parse_revision(source: bytes, file: str, package: str) -> Revision:
    """Read a revision from the text of its file.

    :raises RevisionFileError: if the text cannot be parsed, or says nothing usable.
    """
    quick = _quick_header(source)
    if quick is not None:
        return _from_header(*quick, _digest(source), file, package)
    path = Path(file)
    try:
        tree = _parse(source, path)
    except (SyntaxError, ValueError, RecursionError) as exc:
        raise _unparsable(str(path), package, exc) from exc
    header = _literal_header(tree)
    doc = ast.get_docstring(tree) or ""
    if header is None:
        module = load_module(path, package)
        header = {name: getattr(module, name) for name in HEADER if hasattr(module, name)}
        doc = inspect.cleandoc(module.__doc__ or "")
    return _from_header(header, doc, _digest(source), file, package)


def _digest(source: bytes) -> bytes:
    """Return the same for a file whose line ends git has changed."""
    return hashlib.sha256(source.replace(b"\r\n", b"\n") if b"\r" in source else source).digest()


def _quick_header(source: bytes) -> tuple[dict[str, object], str] | None:
    """Return the header and the docstring, or None if the text leaves a doubt of what Python makes of it."""
    text = _plain_text(source)
    if text is None:
        return None
    head = _HEAD.match(text)
    if head is not None:
        header: dict[str, object] = {name: _plain_value(head[name]) for name in HEADER}
        doc, rest = head["doc"], head["imports"] + text[head.end() :]
    else:
        header, doc, rest = _by_line(text)
    if not rest.isascii():
        rest = unicodedata.normalize("NFKC", rest)  # as Python does with names
    if "revision" not in header or (any(map(rest.__contains__, _DOUBTS)) and _UNSURE.search(rest)):
        return None
    return header, _clean(doc)


def _plain_text(source: bytes) -> str | None:
    """Return the text of a file; None where its encoding or its line ends take more than a look."""
    if b"\0" in source or (b"coding" in source and any(b"coding" in line for line in source.split(b"\n", 2)[:2])):
        return None
    try:
        text = source.removeprefix(BOM_UTF8).decode()
    except UnicodeDecodeError:
        return None
    if "\r" in text:
        text = text.replace("\r\n", "\n")
    return None if "\r" in text else text


def _by_line(text: str) -> tuple[dict[str, object], str, str]:
    """Return what the lines of a file's head say: the header and the docstring, and what they leave unsaid."""
    start = _DOCSTRING.match(text)
    position = start.end() if start is not None else 0
    header: dict[str, object] = {}
    unsaid: list[str] = []
    while (line := _LINE.match(text, position)) is not None and line.end() > position:
        if line["name"]:
            header[line["name"]] = _plain_value(line["value"])
        elif line["imports"]:
            unsaid.append(line["imports"])
        position = line.end()
    return header, (start and start["doc"]) or "", "".join([*unsaid, text[position:]])


def _clean(doc: str) -> str:
    """Do what ``inspect.cleandoc()`` does, which takes longer than all else here where there is nothing to do."""
    return inspect.cleandoc(doc) if _INDENTED.search(doc) else doc.strip("\n")


def _plain_value(text: str) -> object:
    if text == "None":
        return None
    if text[0] in "\"'":
        return sys.intern(text[1:-1])
    strings = tuple(sys.intern(string[1:-1]) for string in _ONE_STRING.findall(text))
    is_one = text[0] == "(" and len(strings) == 1 and not text[:-1].rstrip().endswith(",")
    return strings[0] if is_one else strings


def _parse(source: bytes, path: Path) -> ast.Module:
    try:
        return ast.parse(source, filename=str(path))
    except SystemError:
        # Python 3.11 counts the parser's depth once for all: a finalizer that formats a traceback, and so parses too,
        # upsets it where the garbage collector runs inside the parser (python/cpython#106905).
        return ast.parse(source, filename=str(path))


def load_module(path: Path, package: str) -> ModuleType:
    """Execute a revision file and return its module, as Alembic does: not in ``sys.modules``.

    :raises RevisionFileError: if it raises anything, ``SystemExit`` included.
    """
    spec = importlib.util.spec_from_file_location(re.sub(r"\W", "_", path.name), path)
    if spec is None or spec.loader is None:
        raise _unreadable(str(path), package, "cannot be imported: Python has no loader for a file of this name")
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as exc:
        raise _not_importable(path, package, exc) from exc
    return module


def check_function(revision: Revision, source: bytes, name: str, *, is_async: bool) -> None:
    """Check the syntax of the file of a revision, and that it has a function, without executing the file.

    :param source: what is in the file.
    :param name: the function's name.
    :param is_async: whether it is to run on a connection of an async engine.
    :raises RevisionFileError: if Python refuses the file, or nothing in it can make the function: the same error as
        that of a run, which executes the file.
    """
    try:
        code = compile(source, revision.file, "exec", dont_inherit=True)
    except (SyntaxError, ValueError) as exc:
        raise _not_importable(revision.path, revision.package, exc) from exc
    except RecursionError:  # how deep is too deep depends on who calls, so that is for the run to say
        return
    names = {name, *_BINDERS}
    if names.isdisjoint(code.co_names) and _STAR not in code.co_consts:
        raise lacks_function(revision, name)
    if not _DECORATED.search(source):  # a decorator may make anything of it
        for function in (each for each in code.co_consts if isinstance(each, CodeType) and each.co_name == name):
            check_is_run(revision, function, is_async=is_async)


def check_is_run(revision: Revision, code: CodeType | None, *, is_async: bool) -> None:
    """Check that calling a function of a revision runs it, or that it can be awaited.

    :param code: the function's code; None of a callable that has none.
    :param is_async: whether the revision runs on a connection of an async engine.
    :raises RevisionFileError: if nothing of the function would run.
    """
    flags = 0 if code is None else code.co_flags
    if flags & (inspect.CO_GENERATOR | inspect.CO_ASYNC_GENERATOR):
        what = "with a 'yield' in it, so nothing of it would run. Take the 'yield' out"
    elif flags & inspect.CO_COROUTINE and not is_async:
        what = "that is 'async def', which runs on an async engine only, and cannot be written as SQL. Make it a 'def'"
    else:
        return
    name = "" if code is None else code.co_name
    raise RevisionFileError(
        f"The revision file {shown_path(revision.path)} of {revision.package} has a function {name}() {what}.",
        package=revision.package,
        revision=revision.id,
        path=revision.path,
    )


def lacks_function(revision: Revision, name: str) -> RevisionFileError:
    """Return the error for a revision file without the function that its step needs."""
    return RevisionFileError(
        f"The revision file {shown_path(revision.path)} of {revision.package} has no function {name}(). Add one; 'pass'"
        " is enough where there is nothing to do.",
        package=revision.package,
        revision=revision.id,
        path=revision.path,
    )


def _not_importable(path: Path, package: str, exc: BaseException) -> RevisionFileError:
    if isinstance(exc, SyntaxError) and exc.filename == str(path):
        return _unparsable(str(path), package, exc)
    where = location(exc, path) or shown_path(path)
    return _unreadable(str(path), package, f"cannot be imported: {describe(exc)} (at {where})")


def _literal_header(tree: ast.Module) -> dict[str, object] | None:
    """Return what the module's top level assigns to the names of a header, or None if it has to be executed."""
    header: dict[str, object] = {}
    for node in tree.body:
        match node:
            case ast.Assign(targets=[ast.Name(id=name)], value=value) if name in HEADER:
                pass
            case ast.AnnAssign(target=ast.Name(id=name), value=ast.expr() as value) if name in HEADER:
                pass
            case _ if _may_bind_header(node):
                return None
            case _:
                continue
        try:
            header[name] = ast.literal_eval(value)
        except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
            return None
    return header


def _may_bind_header(node: ast.stmt) -> bool:
    """Return whether a statement may bind a name of the header in another way than by a plain assignment."""
    match node:
        case ast.AnnAssign(value=None):
            return False
        case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
            return name in HEADER or any(map(_reaches_globals, ast.walk(node)))
    return any(_binds_header(part) or _reaches_globals(part) for part in ast.walk(node))


def _binds_header(part: ast.AST) -> bool:
    match part:
        case ast.Name(id=name, ctx=ast.Store() | ast.Del()) | ast.ExceptHandler(name=str(name)):
            return name in HEADER
        case ast.MatchAs(name=str(name)) | ast.MatchStar(name=str(name)) | ast.MatchMapping(rest=str(name)):
            return name in HEADER
        case ast.alias(name=name, asname=alias):
            return name == "*" or (alias or name.partition(".")[0]) in HEADER
    return False


def _reaches_globals(part: ast.AST) -> bool:
    match part:
        case ast.Global(names=names):
            return any(name in HEADER for name in names)
        case ast.Name(id=name):
            return name in _BINDERS
    return False


def _from_header(header: dict[str, object], doc: str, digest: bytes, file: str, package: str) -> Revision:
    if "revision" not in header:
        legacy = _LEGACY_NAME.fullmatch(Path(file).name)
        if legacy is None:
            raise _unreadable(
                file, package, "declares no revision id. Add a line revision = '...', or move the file away"
            )
        header["revision"] = legacy[1]
    revision_id = header["revision"]
    if not _can_be_id(revision_id):
        raise _unreadable(file, package, f"has the id {revision_id!a}, which cannot be one")
    if "down_revision" not in header:
        raise _unreadable(file, package, "declares no down_revision. Add a line, down_revision = None for the first")
    return Revision(
        id=str.__str__(revision_id),  # it may be a member of an enum
        package=package,
        file=file,
        down_revisions=_strings(header, "down_revision", file, package),
        depends_on=_strings(header, "depends_on", file, package),
        labels=_strings(header, "branch_labels", file, package),
        doc=doc,
        digest=digest,
    )


def _can_be_id(text: object) -> TypeGuard[str]:
    """Tell whether something can be the id of a revision."""
    if isinstance(text, str) and text.isidentifier():
        return text not in RESERVED
    return (
        isinstance(text, str)
        and bool(text)
        and text.isprintable()
        and text == text.strip()
        and not _ILLEGAL & set(text)
        and text not in RESERVED
    )


def _strings(header: dict[str, object], name: str, file: str, package: str) -> tuple[str, ...]:
    """Return a value of the header as Alembic reads it: nothing for an empty one, and a lone nested one unwrapped."""
    value = header.get(name)
    if value is None:
        return ()
    if type(value) is str:
        return (value,) if value else ()
    try:
        values = _as_tuple(value)
        values = _as_tuple(values[0]) if len(values) == 1 else values
    except Exception as exc:
        raise _unreadable(file, package, f"has a {name} that cannot be read: {describe(exc)}") from exc
    if not all(isinstance(value, str) and value for value in values):
        raise _unreadable(file, package, f"has a {name} that is neither a string nor a sequence of strings")
    return tuple(dict.fromkeys(map(str.__str__, values)))


def _as_tuple(value: object) -> tuple[Any, ...]:
    if not value:
        return ()
    if isinstance(value, str) or not isinstance(value, Iterable):
        return (value,)
    return tuple(sorted(value, key=str) if isinstance(value, (set, frozenset)) else value)


def _unparsable(file: str, package: str, exc: Exception) -> RevisionFileError:
    line = f" line {exc.lineno}:" if isinstance(exc, SyntaxError) and exc.lineno else ""
    return _unreadable(file, package, f"cannot be parsed:{line} {describe(exc)}")


def _unreadable(file: str, package: str, what: str) -> RevisionFileError:
    return RevisionFileError(
        f"The revision file {shown_path(file)} of {package} {what}.", package=package, path=Path(file)
    )
