"""Read the header of a revision file: the values of ``revision``, ``down_revision``, and similar names.

Ampho tries three functions, the fastest first, until one of them returns a header:

1. :func:`from_text` reads almost all files. It uses one regular expression for the headers that templates write, and
   another one to read other headers line by line.
2. :func:`from_syntax_tree` reads all other headers that are not computed, but takes ten times as long.
3. :func:`from_module` reads files that compute their header. Ampho executes only these files.
"""

from __future__ import annotations

import ast
import inspect
import re
import sys
import unicodedata
from codecs import BOM_UTF8
from types import ModuleType
from typing import TypeAlias

Header: TypeAlias = tuple[dict[str, object], str]
"""The values by name, and the docstring of the file."""

_USUAL = ("revision", "down_revision", "branch_labels", "depends_on")
_OWN = ("replaces", "phase")
NAMES = (*_USUAL, *_OWN)
"""The names in a header, in the order in which templates write them. The last two are Ampho's own and optional."""

BINDERS = ("globals", "locals", "vars", "exec", "setattr", "__dict__")
"""Names that let a file assign variables whose names its text does not contain. ``import *`` can do that, too."""

# The regular expressions of from_text() follow these rules:
#
# - They match whole lines at the top level, never inside a string or a block: each match starts where the previous one
#   ended, and they stop at the first line that is not a comment, an import, or a plain value.
# - A string contains no backslash and no line break, so its value is the text between its quotes.
# - Only a comment can follow a value on the same line, not another string, an operator, or a statement.
# - A tuple or list contains strings but no comments, so a comma before its end distinguishes ("a",) from ("a").
# - An import contains no semicolon, backslash, or star, and at most one pair of parentheses.
# - With re.ASCII, "\w" does not match non-ASCII letters, because Python might normalize such a letter to one in a
#   name of the header. The patterns list the kinds of space that they allow, because "\s" allows more than Python does.
# - The text that is not part of the header, including the imports, must not contain a name of the header, a star
#   import, or a conflict marker of git. If _UNSURE finds one, from_text() returns None. Each alternative of _UNSURE
#   contains one of _DOUBTS, which are faster to search for.
# - If _INDENTED does not match, inspect.cleandoc() would only remove blank lines at the beginning and the end.
_STRING = r"""(?:"[^"\\\n]*"|'[^'\\\n]*')"""
_ONE_STRING = re.compile(_STRING)
_STRINGS = (
    rf"(?:\([ \t\n]*{_STRING}(?:[ \t\n]*,[ \t\n]*{_STRING})*(?:[ \t\n]*,)?[ \t\n]*\)|"
    rf"\[[ \t\n]*{_STRING}(?:[ \t\n]*,[ \t\n]*{_STRING})*(?:[ \t\n]*,)?[ \t\n]*\])"
)
_DOCSTRING = re.compile(r'(?:[ \t]*(?:#[^\n]*)?\n)*(?:"""(?P<doc>[^"\\]*(?:"{1,2}(?!")[^"\\]*)*)"""[ \t]*(?:\n|\Z))?')
_ANNOTATION = r"(?:[ \t]*:[\w .,\[\]|]+)?[ \t]*=[ \t]*"
_VALUE = rf"None|{_STRING}|{_STRINGS}"
_IMPORT = r"(?:import|from)[ \t][^\n()\\;*]*\n"
_HEAD = re.compile(
    rf'"""(?P<doc>[^"\\]*)"""\n(?P<imports>(?:{_IMPORT}|\n)*)(?:#[^\n]*\n)*'
    + "".join(rf"{name}{_ANNOTATION}(?P<{name}>{_VALUE})\n" for name in _USUAL)
    + "".join(rf"(?:{name}{_ANNOTATION}(?P<{name}>{_VALUE})\n)?" for name in _OWN),
    re.ASCII,
)
_LINE = re.compile(
    rf"(?P<name>{'|'.join(NAMES)}){_ANNOTATION}(?P<value>{_VALUE})"
    r"[ \t]*(?:#[^\n]*)?(?:\n|\Z)"
    r"|[ \t]*(?:#[^\n]*)?\n"
    rf"|(?P<imports>{_IMPORT}|from[ \t][^\n()\\;*]*\([^()\\;*]*\)[ \t]*(?:\n|\Z))",
    re.ASCII,
)
_DOUBTS = (*(name for name in NAMES if name != "down_revision"), "*", "<<<<<<< ")
_UNSURE = re.compile(rf"\b(?:{'|'.join(NAMES)})\b|\bimport\b[\s\\(]*\*|^<<<<<<< ", re.MULTILINE)
_INDENTED = re.compile(r"(?:^|\n)[^\S\n]|\t")


def from_text(source: bytes) -> Header | None:
    """Return the header of a file, or None if Python might interpret its text differently."""
    text = _plain_text(source)
    if text is None:
        return None
    head = _HEAD.match(text)
    if head is not None:
        values: dict[str, object] = {name: _plain_value(head[name]) for name in _USUAL}
        for name in _OWN:  # in a loop, which is faster than a comprehension
            if (value := head[name]) is not None:
                values[name] = _plain_value(value)
        doc, rest = head["doc"], head["imports"] + text[head.end() :]
    else:
        values, doc, rest = _by_line(text)
    if not rest.isascii():
        rest = unicodedata.normalize("NFKC", rest)  # as Python normalizes names
    if "revision" not in values or (any(map(rest.__contains__, _DOUBTS)) and _UNSURE.search(rest)):
        return None
    return values, _clean(doc)


def _plain_text(source: bytes) -> str | None:
    """Return the text of a file, or None if it declares an encoding, is not UTF-8, or has unusual line endings."""
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
    """Return the header and the docstring at the beginning of a file, and the text that is part of neither."""
    start = _DOCSTRING.match(text)
    position = start.end() if start is not None else 0
    values: dict[str, object] = {}
    others: list[str] = []
    while (line := _LINE.match(text, position)) is not None and line.end() > position:
        if line["name"]:
            values[line["name"]] = _plain_value(line["value"])
        elif line["imports"]:
            others.append(line["imports"])
        position = line.end()
    return values, (start and start["doc"]) or "", "".join([*others, text[position:]])


def _clean(doc: str) -> str:
    """Return what ``inspect.cleandoc()`` returns, without calling that slow function if nothing is indented."""
    return inspect.cleandoc(doc) if _INDENTED.search(doc) else doc.strip("\n")


def _plain_value(text: str) -> object:
    if text == "None":
        return None
    if text[0] in "\"'":
        return sys.intern(text[1:-1])
    strings = tuple(sys.intern(string[1:-1]) for string in _ONE_STRING.findall(text))
    is_one = text[0] == "(" and len(strings) == 1 and not text[:-1].rstrip().endswith(",")
    return strings[0] if is_one else strings


def from_syntax_tree(source: bytes, file: str) -> Header | None:
    """Return the header of a file from its syntax tree, or None if the header is computed.

    :raises SyntaxError: if Python cannot parse the file; the error may also be a ``ValueError`` or ``RecursionError``.
    """
    try:
        tree = ast.parse(source, filename=file)
    except SystemError:
        # In Python 3.11, the parser's depth counter becomes wrong if the garbage collector runs during parsing and a
        # finalizer formats a traceback, which also uses the parser (python/cpython#106905). So parse again.
        tree = ast.parse(source, filename=file)
    values = _literals(tree)
    return None if values is None else (values, ast.get_docstring(tree) or "")


def _literals(tree: ast.Module) -> dict[str, object] | None:
    """Return the literals that a module assigns to the names of a header, or None if it may assign other values."""
    values: dict[str, object] = {}
    for node in tree.body:
        match node:
            case ast.Assign(targets=[ast.Name(id=name)], value=value) if name in NAMES:
                pass
            case ast.AnnAssign(target=ast.Name(id=name), value=ast.expr() as value) if name in NAMES:
                pass
            case _ if _may_bind(node):
                return None
            case _:
                continue
        try:
            values[name] = ast.literal_eval(value)
        except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
            return None
    return values


def _may_bind(node: ast.stmt) -> bool:
    """Return whether a statement may bind a name of the header in any way other than a plain assignment."""
    match node:
        case ast.AnnAssign(value=None):
            return False
        case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
            return name in NAMES or any(map(_reaches_globals, ast.walk(node)))
    return any(_binds(part) or _reaches_globals(part) for part in ast.walk(node))


def _binds(part: ast.AST) -> bool:
    match part:
        case ast.Name(id=name, ctx=ast.Store() | ast.Del()) | ast.ExceptHandler(name=str(name)):
            return name in NAMES
        case ast.MatchAs(name=str(name)) | ast.MatchStar(name=str(name)) | ast.MatchMapping(rest=str(name)):
            return name in NAMES
        case ast.alias(name=name, asname=alias):
            return name == "*" or (alias or name.partition(".")[0]) in NAMES
    return False


def _reaches_globals(part: ast.AST) -> bool:
    match part:
        case ast.Global(names=names):
            return any(name in NAMES for name in names)
        case ast.Name(id=name):
            return name in BINDERS
    return False


def from_module(module: ModuleType) -> Header:
    """Return the header of a file that was executed."""
    values = {name: getattr(module, name) for name in NAMES if hasattr(module, name)}
    return values, inspect.cleandoc(module.__doc__ or "")
