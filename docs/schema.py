"""Write the JSON Schema of ``--json``: ``python docs/schema.py``.

It is made from the classes of the results: their fields, the differences in ``ampho.cli.json``, and their docstrings.
"""
# ruff: noqa: ANN401 (an annotation may be any object)

from __future__ import annotations

import inspect
import json
import re
import sys
import types
import typing
from collections.abc import Iterator, Mapping
from datetime import datetime
from enum import Enum
from importlib import import_module
from itertools import chain
from pathlib import Path
from pkgutil import iter_modules
from typing import Any

import ampho
from ampho.cli.json import DATABASE, KEYS, SCHEMA, SHAPES, VERSION, Shape, key_of, paths
from ampho.cli.show import print_text
from ampho.errors import AmphoError

Schema = dict[str, Any]

COMMANDS = {
    "drifts": "db-check",
    "fleet": "db-up for groups of databases",
    "deployment": "db-check --deploy and db-wait",
    "adopted": "db-adopt",
    "all_initialized": "db-init without PACKAGE",
    "generated": "db-rev -a",
    "heads_checks": "db-check --heads",
    "initialized": "db-init",
    "plan": "db-up --plan and db-down --plan",
    "revision": "db-rev, db-merge, and db-rebase",
    "revisions": "db-show",
    "run": "db-up and db-down",
    "squashed": "db-squash",
    "pruned": "db-squash --prune",
    "survey": "db-status and db-check --deploy with a group of databases",
    "stamped": "db-stamp, db-forget, and db-resolve",
}
"""The commands that print each key of the object, where these are not ``db-`` and the key."""

WITHOUT: Schema = {
    "revision": {"not": {"required": ["generated"]}},
    "run": {"not": {"required": ["fleet"]}},
    "error": {"not": {"required": ["fleet"]}},
}
"""What rules out a key as the only result: ``db-rev -a PACKAGE`` prints two."""

ERROR = {
    "type": "The class of Ampho's error, or UsageError, KeyboardInterrupt, Terminated, or Abort.",
    "message": "What is wrong, and what to do about it, in one line.",
    "exit_code": "The exit code of the command.",
    "page": "Where the documentation explains the error, such as errors.md#lintererror.",
    "package": "The package that the error is about.",
    "revision": "The id of the revision that the error is about.",
    "path": "The absolute path of the file or folder that the error is about.",
    "setting": "The setting that is wrong.",
    "specifier": "The specifier as it was typed.",
    "holder": "The process that is migrating the database.",
    "deed": "What the command would have done to the protected database.",
    "fingerprint": "The fingerprint of what the command would have done; empty if only the name was wrong.",
    "database": "The name of the database; of a protected one, the name that confirms the change.",
    "line": "The line of the file.",
    "revisions": "The ids of the revisions that the error is about.",
    "needed": "The id of the pending revision in phase post on which that one depends.",
    "dependents": "The ids of the revisions of other packages that would be reverted, too.",
    "rows": "The rows of the version table that the error is about.",
    "table": "The name of the journal's table.",
    "number": "The number of the entry in the journal; null if it is unknown.",
    "applied": "The ids of the revisions that the run applied or reverted before the failure, in order.",
    "tried": "Where Ampho looked for the app.",
    "is_absent": "Whether no package of that name can be imported.",
    "is_missing": "Whether the database, or the schema that it is, does not exist.",
    "missing": "What the database lacks, a text for each.",
    "superfluous": "What the database should not contain, a text for each.",
    "different": "What is different, a text for each.",
    "errors": "The errors of several databases, by name.",
    "results": "The results of the databases that did not fail, by name, each as in `databases`.",
    "skipped": "The databases that were left out, each with the reason.",
}
"""The fields of an error: the first four, and the attributes of all classes of errors."""

WIDTH = 118
"""The columns of a line of the file."""

SIMPLE: Mapping[object, Schema] = {
    str: {"type": "string"},
    int: {"type": "integer"},
    float: {"type": "number"},
    bool: {"type": "boolean"},
    datetime: {"type": "string", "format": "date-time"},
    Path: {"$ref": "#/$defs/Path"},
    type(None): {"type": "null"},
    object: {},
    AmphoError: {"$ref": "#/$defs/Error"},
}
PATHS: Mapping[object, Any] = {Path: str, Path | None: str | None}
"""What the schema of an error has for a path, which another error may not know."""
AUTOGENERATE = ("owners", "operations", "ask", "compare", "write")
ROOMS = (
    *("history", "database", "migrate", "status", "revise", "revise.autogenerate", "cli.show"),
    *("revise.squash", "revise.adopt"),
    *(f"revise.autogenerate.{room}" for room in AUTOGENERATE),
)


def _classes() -> Iterator[type]:
    for room in ROOMS:
        for found in iter_modules([Path(ampho.__file__).parent / room.replace(".", "/")], f"ampho.{room}."):
            module = import_module(found.name)
            yield from (each for each in vars(module).values() if getattr(each, "__module__", "") == found.name)


CLASSES = {kind.__name__: kind for kind in _classes() if inspect.isclass(kind)}
"""The classes that annotations name, some of which their modules only import for type checkers."""

RESULTS = {key_of(kind): kind for kind in (*print_text.registry, CLASSES["Revision"])}
"""The classes of the results, by their keys: those that are printed as text, and the one that becomes a file."""
del RESULTS["object"]

_ROLE = re.compile(r":\w+:`~?\.?([^`]+)`")


_OF_ERROR = "Any command that fails, instead of its result; with db-up --keep-going, what failed besides a fleet."
_UPDATED = (
    "The files HEADS that a command has updated, because it wrote, moved, or deleted revisions, if there are any."
)


def schema() -> Schema:
    """Return the schema."""
    definitions: dict[str, Schema] = {"Path": {"type": "string", "description": "An absolute path."}}
    properties = {key: _result(key, RESULTS[key], definitions) for key in sorted(RESULTS)}
    properties["databases"] = _databases(properties)
    properties["error"] = {"$ref": "#/$defs/Error", "description": _OF_ERROR}
    definitions["Error"] = _error()
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": f"urn:ampho:output:{VERSION}",
        "title": "What the commands of Ampho print with --json",
        "description": (
            "One object with the version of this schema, the command, and one more key for the result. Two commands"
            " print two: db-rev -a PACKAGE prints revision and generated; db-up on groups and other databases prints"
            " fleet and run, or fleet and error. New fields may be added anywhere without a new version, and"
            " so may new kinds of results, errors, and lint rules. The existing fields keep their types, values, and"
            " meanings."
        ),
        "type": "object",
        "required": ["version", "command"],
        "properties": {
            "version": {"const": VERSION, "description": "The version of this schema."},
            "command": {
                "type": ["string", "null"],
                "description": "The command, such as db-up; null if no command was given.",
            },
            **properties,
            "updated": {"type": "array", "items": SIMPLE[Path], "description": _UPDATED},
        },
        "oneOf": [{"required": [key], **WITHOUT.get(key, {})} for key in properties],
        "$defs": dict(sorted(definitions.items())),
    }


def _databases(results: Mapping[str, Schema]) -> Schema:
    """Return the schema of the results of several databases."""
    name = {"type": "string", "description": "The name of the database."}
    return {
        "description": "Any command that looks at several databases: an object for each, with its name and its result.",
        "type": "array",
        "items": {"type": "object", "required": ["database"], "properties": {"database": name, **results}},
    }


def _result(key: str, kind: type, definitions: dict[str, Schema]) -> Schema:
    """Return the schema of a key of the object, whose value is a result of this class."""
    found = [_type(kind, definitions)]
    meant = _summary(kind)
    if key == KEYS["NoneType"]:
        found.append({"type": "null"})
        meant = f"{meant.removesuffix('.')}; null if there was nothing to do."
    return _either(found) | {"description": f"{COMMANDS.get(key, f'db-{key}')}: {meant[0].lower()}{meant[1:]}"}


def _type(kind: Any, definitions: dict[str, Schema]) -> Schema:
    """Return the schema of a type, and add the classes in it to the definitions."""
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if kind in SIMPLE:
        return dict(SIMPLE[kind])
    if origin in (types.UnionType, typing.Union):
        return _either([_type(each, definitions) for each in arguments])
    if origin is not None and issubclass(origin, Mapping):
        return {"type": "object", "additionalProperties": _type(arguments[1], definitions)}
    if origin is not None:
        return {"type": "array", "items": _type(_resolved(arguments[0]), definitions)}
    if issubclass(kind, tuple):
        (base,) = kind.__orig_bases__
        return _type(base, definitions)
    if kind.__name__ not in definitions:
        definitions[kind.__name__] = {}  # first, as a class may contain itself
        definitions[kind.__name__] |= _enum(kind) if issubclass(kind, Enum) else _object(kind, definitions)
    return {"$ref": f"#/$defs/{kind.__name__}"}


def _resolved(kind: Any) -> Any:
    return CLASSES[kind] if isinstance(kind, str) else kind


def _either(found: list[Schema]) -> Schema:
    """Return the schema of a union."""
    if len(found) == 1:
        return found[0]
    if any("type" not in each for each in found):
        return {"anyOf": found}
    merged = {name: value for each in found for name, value in each.items()}
    return merged | {"type": [each["type"] for each in found]}


def _enum(kind: type[Enum]) -> Schema:
    return {"enum": [each.value for each in kind], "description": _summary(kind)}


def _object(kind: Any, definitions: dict[str, Schema]) -> Schema:
    shape = SHAPES.get(kind.__name__, Shape())
    properties = {name: _attribute(kind, path, definitions) for name, path in paths(kind).items()}
    for name, *_ in shape.optional:
        (properties[name],) = (each | properties[name] for each in properties[name].pop("anyOf") if "$ref" in each)
    for name in shape.or_null:
        meaning = properties[name]["description"].replace("; empty ", "; null ").replace("; otherwise empty.", ".")
        properties[name] = _either([properties[name], SIMPLE[type(None)]]) | {"description": meaning}
    return {
        "description": _summary(kind),
        "type": "object",
        "required": [name for name in properties if name not in (DATABASE, *chain.from_iterable(shape.optional))],
        "properties": properties,
    }


def _attribute(kind: Any, path: str, definitions: dict[str, Schema]) -> Schema:
    """Return the schema of an attribute of a class, or of an attribute of that, such as ``revision.id``."""
    name, _, rest = path.partition(".")
    found = _annotation(kind, name)
    return _attribute(found, rest, definitions) if rest else _type(found, definitions) | _described(kind, name)


def _annotation(kind: Any, name: str) -> Any:
    found = inspect.getattr_static(kind, name, None)
    if isinstance(found, property):
        return typing.get_type_hints(found.fget, localns=CLASSES)["return"]
    hint = typing.get_type_hints(kind, localns=CLASSES)[name]
    if getattr(hint, "__parameters__", ()):  # of a generic base
        (parameters,) = (typing.get_args(base) for base in kind.__orig_bases__)
        return hint[parameters]
    return hint


def _described(kind: Any, name: str) -> Schema:
    """Return the description of an attribute, from its docstring or from its ``:ivar``."""
    found = inspect.getattr_static(kind, name, None)
    if isinstance(found, property):
        return {"description": _plain(found.__doc__ or "")}
    for each in kind.__mro__:
        ivar = re.search(rf"^:ivar {name}: (.+?)(?=^:|\Z)", inspect.cleandoc(each.__doc__ or ""), re.M | re.S)
        if ivar is not None:
            return {"description": _plain(ivar[1])}
    sys.exit(f"The docstring of {kind.__name__} has no ':ivar {name}:'.")


def _summary(kind: type) -> str:
    return _plain((inspect.getdoc(kind) or "").split("\n\n")[0])


def _plain(text: str) -> str:
    """Return the text of a docstring as sentences in Markdown, in the words of JSON."""
    text = " ".join(_ROLE.sub(r"`\1`", text).replace("``", "`").split()).replace("; None ", "; null ")
    return f"{text[0].upper()}{text[1:].removesuffix('.')}."


def _error() -> Schema:
    first: dict[str, Schema] = {
        "type": {"type": "string"},
        "message": {"type": "string"},
        "exit_code": {"type": "integer"},
        "page": {"type": ["string", "null"]},
    }
    found: dict[str, list[Schema]] = {}
    for kind in _kinds(AmphoError):
        for name, annotation in _attributes(kind).items():
            found.setdefault(name, []).append(_type(PATHS.get(annotation, annotation), {}))
    merged = first | {name: _merged(each) for name, each in found.items()}
    return {
        "description": "What is wrong, with the attributes of Ampho's error.",
        "type": "object",
        "required": list(first),
        "properties": {name: each | {"description": ERROR[name]} for name, each in merged.items()},
    }


def _merged(found: list[Schema]) -> Schema:
    """Return one schema for an attribute that several classes of errors have."""
    names = {name for each in found for name in ([each["type"]] if isinstance(each["type"], str) else each["type"])}
    (kind,) = names - {"null"}
    return found[0] | {"type": [kind, "null"] if "null" in names else kind}


def _kinds(kind: type[Any]) -> Iterator[type[Any]]:
    yield kind
    for each in kind.__subclasses__():
        yield from _kinds(each)


def _attributes(kind: type[Any]) -> Mapping[str, Any]:
    """Return the attributes that the constructor of an error sets, and their types."""
    if "__init__" not in vars(kind):
        return {}
    found = typing.get_type_hints(vars(kind)["__init__"])
    return {name: annotation for name, annotation in found.items() if name not in ("message", "return")}


def _written(value: Any, indent: str = "") -> str:
    """Return JSON in which whatever fits in a line is in one line."""
    text = json.dumps(value, ensure_ascii=False)
    if len(indent) + len(text) < WIDTH or not isinstance(value, (dict, list)):
        return text
    inner = f"{indent}  "
    if isinstance(value, list):
        lines = [f"{inner}{_written(each, inner)}" for each in value]
    else:
        lines = [f"{inner}{json.dumps(name)}: {_written(each, inner)}" for name, each in value.items()]
    begin, end = "[]" if isinstance(value, list) else "{}"
    return "\n".join([begin, ",\n".join(lines), f"{indent}{end}"])


if __name__ == "__main__":
    SCHEMA.write_text(f"{_written(schema())}\n", "utf-8")
