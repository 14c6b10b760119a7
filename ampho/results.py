"""The results of a command that ran on several databases: each with the name of its database, or combined into one."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import fields, is_dataclass, replace
from types import MappingProxyType
from typing import Any, TypeVar, cast

from ampho._text import counted, of_database
from ampho.errors import AmphoError, DatabasesError
from ampho.settings import DEFAULT_DATABASE

T = TypeVar("T")


class Several(tuple[T, ...]):
    """The items of several databases, one database after the other.

    :ivar databases: the items of each database, by its name.
    """

    databases: Mapping[str, Sequence[T]]


def named(result: T, database: str) -> T:
    """Return a result, or the items of a list, with the name of its database."""
    if database == DEFAULT_DATABASE:
        return result  # it has this name by default
    if isinstance(result, tuple):
        return cast("T", tuple(named(item, database) for item in cast("tuple[object, ...]", result)))
    if is_dataclass(result) and any(each.name == "database" for each in fields(result)):
        return cast("T", replace(cast("Any", result), database=database))
    return result


_REMEDIES = ("means", "diverged_remedy", "edited_remedy", "findings", "missing")
"""The attributes of results that contain remedies, or parts with remedies."""


def selecting(result: T, database: str) -> T:
    """Return a result with ``--database`` in the commands that its remedies suggest."""
    if isinstance(result, str):
        return cast("T", of_database(result, database))
    if isinstance(result, tuple):
        return cast("T", tuple(selecting(item, database) for item in cast("tuple[object, ...]", result)))
    if not is_dataclass(result):
        return result
    names = [each.name for each in fields(result) if each.name in _REMEDIES]
    parts = {name: selecting(getattr(result, name), database) for name in names}
    return cast("T", replace(cast("Any", result), **parts)) if parts else result


@contextmanager
def naming(database: str) -> Iterator[None]:
    """Name a database of several in errors, and add the option that selects it to the commands that they suggest."""
    try:
        yield
    except AmphoError as exc:
        if not isinstance(exc, DatabasesError):
            text = of_database(str(exc), database)
            exc.args = (text if text.startswith(f"{database}: ") else f"{database}: {text}",)
        raise


def combined(results: Mapping[str, T]) -> T:
    """Return one result for several databases. Its attribute ``databases`` maps their names to their own results."""
    first: Any = next(iter(results.values()))
    if isinstance(first, tuple):
        found: Several[Any] = Several(item for items in cast("Mapping[str, Any]", results).values() for item in items)
        found.databases = cast("Mapping[str, Any]", results)
        return cast("T", found)
    names = [each.name for each in fields(first) if each.name not in ("database", "databases")]
    values = {name: _sum([getattr(result, name) for result in results.values()]) for name in names}
    return cast("T", replace(first, **values, database="", databases=results))


def _sum(values: Sequence[Any]) -> Any:  # noqa: ANN401 (the values of any field)
    present = [value for value in values if value is not None]
    if all(isinstance(value, tuple) for value in present):
        return tuple(item for value in present for item in value) if present else None
    if all(isinstance(value, bool) for value in present):
        return any(present)
    return " ".join(dict.fromkeys(filter(None, present)))


def databases_error(
    errors: Mapping[str, AmphoError],
    results: Mapping[str, object],
    skipped: Mapping[str, str] = MappingProxyType({}),
    others: Iterable[str] = (),
) -> AmphoError:
    """Return the error for a command that failed on some databases.

    If it failed on all of them for the same reason, this is the error of the first one.

    :param others: the names of databases that did not fail, and have no result.
    """
    distinct = {(type(each), str(each)) for each in errors.values()}
    if not results and not skipped and len(distinct) == 1:
        return next(iter(errors.values()))
    total = len({*errors, *results, *skipped, *others})
    words = [*map(str, errors.values())]
    words += [f"{name} was skipped: {why}." for name, why in skipped.items()]
    return DatabasesError(
        "\n".join([f"{len(errors)} of {counted(total, 'database')} failed.", *words]),
        errors=errors,
        results=results,
        skipped=skipped,
    )
