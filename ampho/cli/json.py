"""The output of ``--json``: one JSON object on standard output, as described in ``ampho/schema.json``.

Results are dataclasses, and their fields become the fields of the JSON. :data:`SHAPES` lists the few differences. After
a change, run ``python docs/schema.py``, which writes the schema from the same classes and their docstrings.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass, field, fields, is_dataclass
from datetime import datetime
from functools import cache
from operator import attrgetter
from pathlib import Path
from typing import Any, TypeVar

import click

from ampho._text import printable
from ampho.cli.databases import by_database, databases
from ampho.errors import AmphoError
from ampho.settings import DEFAULT_DATABASE

Command = TypeVar("Command", bound=Callable[..., object])
Object = dict[str, Any]

VERSION = 1
"""The version of the schema. Increase it for every change except a new field."""

SCHEMA = Path(__file__).parent.parent / "schema.json"
LONGEST_MESSAGE = 20_000
FLAG = "--json"
DATABASE = "database"
"""The field with the name of a database. If an app has one database, its name is left out."""
UPDATED = "ampho.updated"
"""The key of the files ``HEADS`` that a command has updated, in Click's context."""

_REQUESTED = "ampho.json"
_RESERVED = "ampho.reserved"
_STDOUT = "ampho.stdout"


@dataclass(frozen=True)
class Shape:
    """The differences between the JSON of a class and its fields.

    :ivar hidden: fields that are omitted.
    :ivar computed: paths of attributes, such as ``revision.id``, by JSON name; each adds a field or replaces one.
    :ivar or_null: names whose values are ``null`` instead of an empty string.
    :ivar optional: groups of names; those of a group are omitted together if the first of them is None.
    """

    hidden: Sequence[str] = ()
    computed: Mapping[str, str] = field(default_factory=dict)
    or_null: Sequence[str] = ()
    optional: Sequence[Sequence[str]] = ()


_REMEDIES = ("diverged_remedy", "edited_remedy")
_STATUS = {"status": "status", "exit_code": "status.exit_code"}
_STEP = {name: f"revision.{name}" for name in ("package", "message", "path")} | {"revision": "revision.id"}
_PHASE = ("phase", "phase_reason", "is_phase_inferred", "phase_conflict")

KEYS: Mapping[str, str] = {
    "AllGenerated": "generated",
    "AllInitialized": "all_initialized",
    "CurrentState": "current",
    "DatabaseStatus": "status",
    "FleetReport": "fleet",
    "HeadsChecks": "heads_checks",
    "FleetStatus": "survey",
    "LintReport": "lint",
    "NoneType": "revision",
    "Picture": "graph",
}
"""The keys of results in the JSON object, by class name, except keys that equal the class name in lower case."""

SHAPES: Mapping[str, Shape] = {
    "Change": Shape(computed={"text": "text"}, or_null=["detail", "risk"]),
    "CurrentState": Shape(hidden=["databases"], or_null=_REMEDIES),
    "DatabaseStatus": Shape(hidden=["databases"], computed=_STATUS, or_null=[*_REMEDIES, "unread_tables_remedy"]),
    "Deployment": Shape(hidden=["databases"], computed=_STATUS),
    "Entry": Shape(or_null=["package"]),
    "Finding": Shape(or_null=["package"]),
    "FleetStatus": Shape(computed=_STATUS),
    "HeadsCheck": Shape(or_null=["problem"]),
    "HeldBack": Shape(
        hidden=["step"],
        computed={name: f"step.{path}" for name, path in _STEP.items()} | {name: f"step.{name}" for name in _PHASE},
    ),
    "Initialized": Shape(computed={"package": "package.name", "folder": "package.folder"}),
    "Lane": Shape(hidden=["tracks"], or_null=["package"]),
    "LintReport": Shape(hidden=["databases"]),
    "MemberState": Shape(hidden=["taken"]),
    "MissingState": Shape(or_null=["package"]),
    "Node": Shape(hidden=["track"], or_null=["package"]),
    "PackageState": Shape(computed={"is_up_to_date": "is_up_to_date"}),
    "PackageStatus": Shape(
        computed={"is_in_conflict": "is_in_conflict", "is_empty": "is_empty"}, or_null=["package", "remedy"]
    ),
    "Picture": Shape(hidden=["databases"]),
    "Plan": Shape(
        hidden=["missing", "asked", "failed", "is_of_several", "only_upgrades"],
        computed={name: name for name in ("packages", "warning", "along")},
        or_null=["warning", "protected", "fingerprint"],
    ),
    "Question": Shape(hidden=["check"], computed={"text": "text"}, or_null=["detail"]),
    "Revision": Shape(
        hidden=["file", "doc", "digest", "is_missing", "source"], computed={"message": "message", "path": "path"}
    ),
    "Carried": Shape(computed={"text": "text"}),
    "RevisionRecord": Shape(hidden=["file"], computed={"path": "path"}, or_null=["branch"]),
    "RevisionStatus": Shape(hidden=["package"]),
    "Run": Shape(computed={"duration": "duration"}),
    "Step": Shape(
        computed=_STEP | {"reason": "reason", "source": "revision.source"},
        or_null=["source"],
        optional=[
            ["cause", "because_of", "reason", "in_transaction", "losses", "risks"],
            _PHASE,
        ],
    ),
    "StepRun": Shape(
        hidden=["step"],
        computed={name: f"step.{path}" for name, path in _STEP.items()}
        | {"direction": "direction", "database": "step.database"},
    ),
    "Violation": Shape(or_null=["help", "statement"]),
}
"""The differences between the JSON of some classes and their fields, by class name."""


def json_option(command: Command) -> Command:
    """Add the option ``--json`` to a command."""

    def remember(ctx: click.Context, param: click.Parameter, value: bool) -> None:
        if value:
            request_json(ctx)

    text = "Print the result as JSON; everything else goes to standard error."
    return click.option(FLAG, is_flag=True, is_eager=True, expose_value=False, callback=remember, help=text)(command)


def request_json(ctx: click.Context) -> None:
    """Make the command and its errors print JSON."""
    ctx.meta[_REQUESTED] = True


def wants_json(ctx: click.Context) -> bool:
    """Return whether the command should print JSON."""
    return bool(ctx.meta.get(_REQUESTED))


def reserve_stdout(ctx: click.Context) -> None:
    """Make the command print nothing on standard output but what it passes to :func:`print_reserved`."""
    ctx.meta[_RESERVED] = True


@contextmanager
def reserving_stdout(ctx: click.Context) -> Iterator[None]:
    """Send all other output to standard error, if the command prints JSON or another format for programs."""
    if not (wants_json(ctx) or _RESERVED in ctx.meta):
        yield
        return
    ctx.meta[_STDOUT] = sys.stdout
    with redirect_stdout(sys.stderr):
        yield


def print_json(ctx: click.Context, *results: object) -> None:
    """Print the results of a command as JSON; those of several databases as a list with an object for each."""
    payload: Object = {}
    for result in results:
        key = "error" if isinstance(result, AmphoError) else key_of(type(result))
        if each := by_database(result):
            payload["databases"] = [{"database": name, key: encode(one)} for name, one in each.items()]
        else:
            payload[key] = encode(result)
    is_of_several = any(getattr(getattr(result, "plan", result), "is_of_several", False) for result in results)
    if not is_of_several and databases(ctx) is None and set(_databases_in(payload)) <= {DEFAULT_DATABASE}:
        payload = _without_databases(payload)
    if updated := ctx.meta.get(UPDATED):
        payload["updated"] = encode(updated)
    _print(ctx, ctx.info_name, payload)


def _databases_in(value: Any) -> Iterator[str]:
    """Yield the databases that JSON names."""
    if isinstance(value, dict):
        yield from [each for name, each in value.items() if name == DATABASE]
    if isinstance(value, (dict, list)):
        for each in value.values() if isinstance(value, dict) else value:
            yield from _databases_in(each)


def _without_databases(value: Any) -> Any:
    """Return JSON without the name of the database, for an app that has only one."""
    if isinstance(value, list):
        return [_without_databases(each) for each in value]
    if isinstance(value, dict):
        return {name: _without_databases(each) for name, each in value.items() if name != DATABASE}
    return value


def key_of(kind: type) -> str:
    """Return the key of a result in the JSON object: ``run`` for :class:`~ampho.migrate.plan.Run`."""
    return KEYS.get(kind.__name__, kind.__name__.lower())


@contextmanager
def json_errors(ctx: click.Context) -> Iterator[None]:
    """Raise the error that ends a command again; if the command prints JSON, print the error as JSON first."""
    try:
        yield
    except (click.ClickException, click.Abort) as exc:
        if wants_json(ctx):
            _print(ctx, ctx.invoked_subcommand, {"error": _error(exc)})
        raise


def _print(ctx: click.Context, command: str | None, payload: Object) -> None:
    import json  # imported late, because most commands do not print JSON

    print_reserved(ctx, json.dumps({"version": VERSION, "command": command, **payload}) + "\n")


def print_reserved(ctx: click.Context, text: str) -> None:
    """Print text for programs on the standard output that is reserved for it."""
    click.echo(text, file=ctx.meta.get(_STDOUT, sys.stdout), nl=False)  # noqa: TID251 (the text has to be escaped)


def encode(value: object) -> Any:
    """Convert a result, or a part of one, to types that ``json.dumps()`` accepts."""
    if isinstance(value, Path):
        return os.path.abspath(value)  # noqa: PTH100 (Path.resolve() would follow links)
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, Mapping):
        return {str(name): encode(each) for name, each in value.items()}
    if isinstance(value, (tuple, list)):
        return [encode(each) for each in value]
    if isinstance(value, AmphoError):
        return _error(value)
    return _encode_fields(value) if is_dataclass(value) else value


def _encode_fields(result: object) -> Object:
    kind: Any = type(result)
    shape = SHAPES.get(kind.__name__, Shape())
    found = {name: encode(attrgetter(path)(result)) for name, path in paths(kind).items()}
    found |= {name: found[name] or None for name in shape.or_null}
    for group in shape.optional:
        if found[group[0]] is None:
            found = {name: value for name, value in found.items() if name not in group}
    return found


@cache
def paths(kind: Any) -> Mapping[str, str]:
    """Return the JSON field names of a class, each with the path of its attribute, such as ``revision.id``."""
    shape = SHAPES.get(kind.__name__, Shape())
    own = {each.name: each.name for each in fields(kind) if each.name not in shape.hidden}
    return {**own, **shape.computed}


def _error(exc: click.ClickException | click.Abort | AmphoError) -> Object:
    """Return an error as JSON: its message, and the attributes of the Ampho error that caused it."""
    cause = exc if isinstance(exc, AmphoError) else exc.__cause__ or exc
    attributes = vars(cause) if isinstance(cause, AmphoError) else {}
    message = exc.format_message() if isinstance(exc, click.ClickException) else str(exc) or "Aborted."
    return {
        "type": "UsageError" if isinstance(exc, click.UsageError) else type(cause).__name__,
        "message": printable(str(cause) if attributes else message, LONGEST_MESSAGE),
        "exit_code": getattr(exc, "exit_code", 1),
        "page": getattr(cause, "page", None),
        **{name: encode(value) for name, value in attributes.items() if not name.startswith("_")},
    }
