"""The keys of templates: fingerprints of all that decides what a history makes of an empty database."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from functools import partial
from importlib.metadata import version
from types import CodeType, FunctionType, MethodType
from typing import TYPE_CHECKING

from ampho.history.files import read_bytes
from ampho.migrate.project import each_metadata

if TYPE_CHECKING:
    from ampho.history.revision import Revision
    from ampho.migrate.project import Project

_SIZE = 12  # bytes of a key, which is a part of the name of a database
_LIBRARIES = ("alembic", "ampho", "sqlalchemy")
_OF_THE_MACHINE = frozenset(["here", "path_separator", "prepend_sys_path", "script_location", "version_locations"])
_OF_LOGGING = re.compile(r"(loggers?|handlers?|formatters?)(_|\Z)")


def keys(project: Project, revisions: Iterable[Revision], *, server: str, x: Sequence[str], key: str) -> list[str]:
    """Return the keys of the states that the revisions lead to, one after the other; the last is that of all of them.

    Each key depends on the one before it. A template with one of the earlier keys is thus a state that the history goes
    through, from which the rest of the revisions can go on.

    :param revisions: the revisions, in the order of the graph.
    :param server: the version of the server and its extensions.
    :param x: values for ``context.get_x_argument()``.
    :param key: what the caller adds.
    """
    found = [_digest(_environment(project, server, x, key).encode())]
    for revision in revisions:
        found.append(_digest(f"{found[-1]} {revision.id} ".encode() + revision.digest))
    return found


def reverted(key: str) -> str:
    """Return the key of a database that was reverted to nothing after all revisions of a template."""
    return _digest(f"{key} reverted".encode())


def _digest(content: bytes) -> str:
    return hashlib.blake2s(content, digest_size=_SIZE).hexdigest()


def _environment(project: Project, server: str, x: Sequence[str], key: str) -> str:
    """Return a text of all but the revisions that decides what they make of an empty database."""
    dialect = project.url.get_dialect()
    metadata = each_metadata([project.metadata] if project.metadata is not None else [])
    return "\n".join(
        [
            *(f"{name} {version(name)}" for name in _LIBRARIES),
            f"{dialect.name} {project.url.drivername} {sorted(project.url.query.items())} {server}",
            f"{project.home} {project.settings.journal_table} {list(x)} {key!r}",
            hashlib.sha256(read_bytes(str(project.env_folder / "env.py"))).hexdigest(),
            *(f"{package} {table}" for package, table in sorted(project.version_tables.items())),
            *_configuration(project),
            *_described(project.options),
            *(f"{each.schema} {' '.join(_described(each.naming_convention))}" for each in metadata),
        ]
    )


def _configuration(project: Project) -> Iterator[str]:
    """Yield the sections of ``alembic.ini`` and what callbacks made of them, without the paths of this machine."""
    from ampho.migrate.alembic import make_config

    config = make_config(project)
    for section in config.file_config.sections():
        if not _OF_LOGGING.match(section):
            values = config.file_config.items(section, raw=True)
            kept = [pair for pair in values if pair[0] not in _OF_THE_MACHINE]
            yield f"{section} {json.dumps(kept)}"


def _described(value: object) -> Iterator[str]:
    """Yield words for a value that are the same in each process, and for a function, as long as its code is the same.

    The code of a function does not depend on its place in its file. For other objects, the words only name their type.
    """
    match value:
        case None | bool() | int() | float() | str() | bytes():
            yield repr(value)
        case Mapping():
            for key in sorted(value, key=str):
                yield f"{key}="
                yield from _described(value[key])
        case AbstractSet():
            yield from sorted(" ".join(_described(each)) for each in value)
        case Sequence():
            for each in value:
                yield from _described(each)
            yield ";"
        case MethodType() | partial() | FunctionType() | type():
            yield from _callable(value)
        case _:
            yield from _described(type(value))


def _callable(value: MethodType | partial[object] | FunctionType | type) -> Iterator[str]:
    match value:
        case MethodType():
            yield from _described(value.__func__)
        case partial():
            yield from _described([value.func, value.args, value.keywords])
        case _:
            yield f"{value.__module__}.{value.__qualname__}"
            if isinstance(value, FunctionType):
                yield from _described([value.__defaults__, value.__kwdefaults__])
                yield from _code(value.__code__)


def _code(code: CodeType) -> Iterator[str]:
    yield _digest(code.co_code)
    yield " ".join([*code.co_names, *code.co_varnames, *code.co_freevars])
    for each in code.co_consts:
        yield from _code(each) if isinstance(each, CodeType) else _described(each)
