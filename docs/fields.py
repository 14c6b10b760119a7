"""Write the fields of ``--json`` into their page: ``python docs/fields.py``.

They are made from ``ampho/schema.json``, which the tests hold every output to.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent
PAGE = FOLDER / "json.md"
SCHEMA = json.loads((FOLDER.parent / "ampho" / "schema.json").read_text("utf-8"))
FIELDS = re.compile(r"(?<=<!-- made from ampho/schema\.json by docs/fields\.py -->\n).*?(?=<!-- end -->)", re.DOTALL)
SHARED = "#/$defs/"
# By the types that are a key's alone, or are described there.
KEYS = {schema["$ref"].removeprefix(SHARED): key for key, schema in SCHEMA["properties"].items() if "$ref" in schema}


def fields() -> str:
    """Return all fields, in Markdown: those of each key, and then those of what several keys have."""
    parts = [_section(key, SCHEMA["properties"][key]) for key in KEYS.values()]
    parts.append("## What several have")
    parts += [_section(f"Type {name}", schema, "###") for name, schema in SCHEMA["$defs"].items() if name not in KEYS]
    return "\n" + "\n\n".join(parts) + "\n\n"


def _section(title: str, schema: dict[str, Any], level: str = "##") -> str:
    meaning = schema["description"]
    schema = _resolved(schema)
    rows = list(_rows("", schema))
    lines = [f"{level} {title}\n", f"{meaning}\n"]
    if not rows:
        kind = _type(schema)
        return "\n".join([*lines, f"{kind[0].upper()}{kind[1:]}."])
    return "\n".join([*lines, "| field | type | means |", "| --- | --- | --- |", *rows])


def _rows(path: str, schema: dict[str, Any]) -> Iterator[str]:
    """Give a row for each field of an object, and for those of objects in it that have no section of their own."""
    if "items" in schema:
        yield from _rows(f"{path}[]", schema["items"])
    for name, field in schema.get("properties", {}).items():
        inner = f"{path}.{name}".lstrip(".")
        optional = "" if name in schema["required"] else ", may be left out"
        yield f"| `{inner}` | {_type(field)}{optional} | {_meaning(field)} |"
        yield from _rows(inner, field)


def _meaning(schema: dict[str, Any]) -> str:
    if "description" in schema:
        return str(schema["description"])
    return _meaning(schema["items"] if "items" in schema else SCHEMA["$defs"][schema["$ref"].removeprefix(SHARED)])


def _resolved(schema: dict[str, Any]) -> dict[str, Any]:
    return SCHEMA["$defs"][schema["$ref"].removeprefix(SHARED)] if "$ref" in schema else schema


def _type(schema: dict[str, Any]) -> str:
    if "$ref" in schema:
        name = schema["$ref"].removeprefix(SHARED)
        return f"[{name}](#{KEYS.get(name, f'type-{name}')})"
    if "enum" in schema:
        return " or ".join(f"`{value}`" for value in schema["enum"])
    kinds = schema["type"] if isinstance(schema["type"], list) else [schema["type"]]
    return " or ".join(f"array of {_type(schema['items'])}" if kind == "array" else kind for kind in kinds)


def page(text: str) -> str:
    """Return the page with the fields as they have to be."""
    written, times = FIELDS.subn(lambda _: fields(), text)
    if times != 1:
        sys.exit(f"{PAGE} has {times} places for fields, and not one.")
    return written


if __name__ == "__main__":
    PAGE.write_text(page(PAGE.read_text("utf-8")), "utf-8")
