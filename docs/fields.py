"""Write the fields of ``--json`` into their page: ``python docs/fields.py``.

They come from ``ampho/schema.json``, which ``docs/schema.py`` writes. The tests check all output against it.
"""

from __future__ import annotations

import json
import re
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent
PAGE = FOLDER / "json.md"
SCHEMA = json.loads((FOLDER.parent / "ampho" / "schema.json").read_text("utf-8"))
FIELDS = re.compile(r"(?<=<!-- made from ampho/schema\.json by docs/fields\.py -->\n).*?(?=<!-- end -->)", re.DOTALL)
DEFS = "#/$defs/"
RESULTS = {key: schema for key, schema in SCHEMA["properties"].items() if key not in ("version", "command")}
USES = Counter(re.findall(rf'"{re.escape(DEFS)}(\w+)"', json.dumps(SCHEMA)))


def fields() -> str:
    """Return all fields, in Markdown: those of each key, and then those of the types that several keys have."""
    parts = [_section(key, schema["description"], schema) for key, schema in RESULTS.items()]
    parts.append("## Types")
    parts += [
        _section(f"Type {name}", schema["description"], schema, "###")
        for name, schema in SCHEMA["$defs"].items()
        if not _is_inline({"$ref": f"{DEFS}{name}"})
    ]
    return "\n" + "\n\n".join(parts) + "\n\n"


def _section(title: str, meaning: str, schema: dict[str, Any], level: str = "##") -> str:
    rows = list(_rows("", schema))
    lines = [f"{level} {title}\n", f"{meaning}\n"]
    if not rows:
        kind = _type(schema)
        return "\n".join([*lines, f"{kind[0].upper()}{kind[1:]}."])
    return "\n".join([*lines, "| field | type | meaning |", "| --- | --- | --- |", *rows])


def _rows(path: str, schema: dict[str, Any]) -> Iterator[str]:
    """Yield a row for each field of an object, and for those of the objects in it that have no section of their own."""
    if "items" in schema:
        yield from _rows(f"{path}[]", schema["items"])
    for each in schema.get("anyOf", ()):
        yield from _rows(path, each)
    if _is_inline(schema):
        yield from _rows(path, _definition(schema))
    for name, each in schema.get("properties", {}).items():
        inner = f"{path}.{name}".lstrip(".")
        optional = "" if name in schema["required"] else ", may be left out"
        yield f"| `{inner}` | {_type(each)}{optional} | {each['description']} |"
        yield from _rows(inner, each)


def _is_inline(schema: dict[str, Any]) -> bool:
    """Return whether a type is described where it is used: an object that only one other type or key uses."""
    return "$ref" in schema and USES[schema["$ref"].removeprefix(DEFS)] == 1 and "properties" in _definition(schema)


def _definition(schema: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = SCHEMA["$defs"][schema["$ref"].removeprefix(DEFS)]
    return found


def _type(schema: dict[str, Any]) -> str:
    if _is_inline(schema):
        return "object"
    if "$ref" in schema:
        name = schema["$ref"].removeprefix(DEFS)
        return f"[{name}](#type-{name.lower()})"
    if "anyOf" in schema:
        return " or ".join(map(_type, schema["anyOf"]))
    if "enum" in schema:
        return ", ".join(f"`{value}`" for value in schema["enum"])
    kinds = schema["type"] if isinstance(schema["type"], list) else [schema["type"]]
    return " or ".join(_kind(kind, schema) for kind in kinds)


def _kind(kind: str, schema: dict[str, Any]) -> str:
    if kind == "array":
        return f"array of {_type(schema['items'])}"
    return "date and time" if kind == "string" and "format" in schema else kind


def page(text: str) -> str:
    """Return the page with the present fields."""
    written, times = FIELDS.subn(lambda _: fields(), text)
    if times != 1:
        sys.exit(f"{PAGE} has {times} places for the fields instead of one.")
    return written


if __name__ == "__main__":
    PAGE.write_text(page(PAGE.read_text("utf-8")), "utf-8")
