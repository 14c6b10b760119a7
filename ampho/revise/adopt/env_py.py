"""Read an ``env.py`` of another tool: what it adds to the template that the tool wrote."""

from __future__ import annotations

import ast
import builtins
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from types import FunctionType

# The folders of the tools' templates.
_TOOLS = {"alembic": "templates", "flask_migrate": "templates", "advanced_alchemy": "alembic/templates"}
# Ampho passes these itself. The last three belong to the templates for several databases.
_PASSED = frozenset(
    [
        *("connection", "target_metadata", "url", "literal_binds", "dialect_opts", "dialect_name"),
        *("upgrade_token", "downgrade_token", "engine_name"),
    ],
)
# What the templates of advanced-alchemy pass has no effect on revisions that Ampho writes.
_WITHOUT_EFFECT = ("process_revision_directives", "version_table_pk", "user_module_prefix")

_HERE = "        # The metadata of the models"
_BEFORE = "\n\ndef run_migrations("
_TABLE = ("version_table", "version_table_schema")


@dataclass(frozen=True, slots=True)
class Own:
    """What a project has added to an ``env.py``.

    :ivar arguments: the arguments of ``context.configure()`` that can be copied, as source text by name.
    :ivar definitions: the source text of the imports, constants, and functions that these arguments use.
    :ivar notes: everything else, as line numbers with source text; 0 if there is no line.
    :ivar of_tool: the names of arguments among the notes that the tool's own template passes.
    """

    arguments: dict[str, str] = field(default_factory=dict[str, str])
    definitions: tuple[str, ...] = ()
    notes: tuple[tuple[int, str], ...] = ()
    of_tool: frozenset[str] = frozenset()

    def added_to(self, text: str) -> str:
        """Return the text of an ``env.py`` of Ampho with the arguments that it lacks, and with what they use."""
        given = arguments_in(text)
        lines = "".join(f"        {name}={value},\n" for name, value in self.arguments.items() if name not in given)
        if not lines or _HERE not in text:
            return text
        text = text.replace(_HERE, lines + _HERE, 1)
        imports = [each for each in self.definitions if each.startswith(("import ", "from "))]
        others = [each for each in self.definitions if each not in imports]
        before = "".join(f"\n{each}" for each in imports) + "".join(f"\n\n\n{each}" for each in others)
        head, found, tail = text.partition(_BEFORE)
        return f"{head.rstrip()}{before}\n{found}{tail}" if before else text


def arguments_in(source: str) -> dict[str, str]:
    """Return the arguments that an ``env.py`` passes to ``configure()``, as source text by name."""
    try:
        text = _Text(source, ast.parse(source))
    except (SyntaxError, ValueError):
        return {}
    return {word.arg: text.of(word.value) for call in text.calls() for word in call.keywords if word.arg}


def read_own(source: str) -> Own:
    """Return what a project has added to an ``env.py``; nothing if it cannot be parsed."""
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError):
        return Own(notes=((1, "it cannot be parsed"),))
    text = _Text(source, tree)
    arguments: dict[str, str] = {}
    used: dict[str, None] = {}
    notes: list[tuple[int, str]] = []
    of_tool: set[str] = set()
    for name, value in text.arguments():
        needed = text.needed(value)
        if needed is None:
            notes.append((value.lineno, _note(name, text.of(value))))
            of_tool |= {name} if (name, ast.dump(value)) in _arguments_in_templates() else set()
        else:
            arguments[name] = text.of(value)
            used |= dict.fromkeys(needed)
    notes += [(each.lineno, text.first_line(each)) for each in text.own() if text.of(each) not in used]
    return Own(arguments, tuple(used), tuple(sorted(dict.fromkeys(notes))), frozenset(of_tool))


def own_of_values(values: Mapping[str, object]) -> Own:
    """Return what a project has in ``ALEMBIC_CONTEXT`` of Flask-Alembic, which has no ``env.py``."""
    arguments: dict[str, str] = {}
    imports: dict[str, None] = {}
    notes: list[tuple[int, str]] = []
    for name, value in values.items():
        text = value.__name__ if isinstance(value, FunctionType) else repr(value)
        if name in _PASSED or (name, value) == ("compare_server_default", True):  # as in Ampho's options
            continue
        if isinstance(value, FunctionType) and getattr(sys.modules.get(value.__module__), text, None) is value:
            arguments[name] = text
            imports[f"from {value.__module__} import {text}"] = None
        elif _is_literal(text, value):
            arguments[name] = text
        else:
            notes.append((0, _note(name, text)))
    return Own(arguments, tuple(imports), tuple(notes))


def _is_literal(text: str, value: object) -> bool:
    try:
        return bool(ast.literal_eval(text) == value)
    except (SyntaxError, ValueError):
        return False


def _note(name: str, text: str) -> str:
    why = "  (add this before you migrate, or every revision will run again)" if name in _TABLE else ""
    return f"{name}={text}{why}"


@dataclass(frozen=True)
class _Text:
    source: str
    tree: ast.Module

    def of(self, node: ast.AST) -> str:
        return ast.get_source_segment(self.source, node) or ""

    def first_line(self, node: ast.AST) -> str:
        first, *more = self.of(node).splitlines()
        return f"{first.rstrip()} ..." if more else first

    def calls(self) -> list[ast.Call]:
        """Return the calls of ``configure()``."""
        return [each for each in ast.walk(self.tree) if isinstance(each, ast.Call) and _is_configure(each)]

    def arguments(self) -> Iterator[tuple[str, ast.expr]]:
        """Yield the arguments of ``configure()`` that no template passes; those of an online run come last."""
        found: dict[str, ast.expr] = {}
        for call in sorted(self.calls(), key=lambda each: any(word.arg == "connection" for word in each.keywords)):
            found |= {word.arg: word.value for word in call.keywords if word.arg and word.arg not in _PASSED}
        for name, value in found.items():
            is_of_tool = isinstance(value, ast.Name) and self._is_of_template(value.id)
            if not is_of_tool and not (name in _WITHOUT_EFFECT and self._is_as_in_template(name, value)):
                yield name, value

    def _is_as_in_template(self, name: str, value: ast.expr) -> bool:
        is_extended = isinstance(value, ast.Name) and any(self._decorated_with(value.id))
        return (name, ast.dump(value)) in _arguments_in_templates() and not is_extended

    def _decorated_with(self, name: str) -> Iterator[ast.stmt]:
        """Yield the functions at the top level that are registered with an object, such as a ``Rewriter``."""
        for each in self.tree.body:
            decorators = each.decorator_list if isinstance(each, ast.FunctionDef) else []
            if any(name in _free_names(decorator) for decorator in decorators):
                yield each

    def _is_of_template(self, name: str) -> bool:
        named = [each for each in ast.walk(self.tree) if isinstance(each, ast.FunctionDef) and each.name == name]
        return bool(named) and all(ast.dump(each) in _templates() for each in named)

    def needed(self, value: ast.expr) -> list[str] | None:
        """Return the source of what an expression uses, in order; None if a copy would not work elsewhere."""
        chosen: dict[ast.stmt, None] = {}
        todo = [*_free_names(value)]
        while todo:
            name = todo.pop()
            if hasattr(builtins, name):
                continue
            statement = self._defining(name)
            if statement is None or (not isinstance(statement, (ast.Import, ast.ImportFrom)) and _depends(statement)):
                return None
            for each in (statement, *self._decorated_with(name)):
                if each not in chosen:
                    chosen[each] = None
                    todo += [] if isinstance(each, (ast.Import, ast.ImportFrom)) else _free_names(each)
        return [self.of(each) for each in self.tree.body if each in chosen]

    def _defining(self, name: str) -> ast.stmt | None:
        """Return the only statement at the top level that defines a name."""
        found = [each for each in self.tree.body if name in _defined(each)]
        return found[0] if len(found) == 1 else None

    def own(self) -> Iterator[ast.stmt]:
        """Yield the statements that are in no template, except for imports, the metadata, and ``configure()``."""
        names = _names_in_templates()
        todo: list[ast.stmt] = [*self.tree.body]
        while todo:
            each = todo.pop(0)
            if ast.dump(each) in _templates() or isinstance(each, (ast.Import, ast.ImportFrom, ast.Pass)):
                continue
            inner = [part for part in ast.iter_child_nodes(each) if isinstance(part, ast.stmt)]
            is_other = (
                isinstance(each, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)) and each.name not in names
            )
            if inner and not is_other:
                todo = inner + todo
            elif not (_is_text(each) or "target_metadata" in _defined(each) or _calls_configure(each)):
                yield each


def _is_configure(call: ast.Call) -> bool:
    return isinstance(call.func, ast.Attribute) and call.func.attr == "configure"


def _calls_configure(statement: ast.stmt) -> bool:
    return isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Call) and _is_configure(statement.value)


def _is_text(statement: ast.stmt) -> bool:
    return isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)


def _defined(statement: ast.stmt) -> set[str]:
    match statement:
        case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
            return {name}
        case ast.Import(names=names) | ast.ImportFrom(names=names):
            return {alias.asname or alias.name.partition(".")[0] for alias in names}
    stored = (each for each in ast.walk(statement) if isinstance(each, ast.Name) and isinstance(each.ctx, ast.Store))
    return {each.id for each in stored}


def _free_names(node: ast.AST) -> list[str]:
    """Return the names that a piece of code reads and does not bind itself."""
    parts = [*ast.walk(node)]
    bound = {each.arg for each in parts if isinstance(each, ast.arg)}
    bound |= {each.id for each in parts if isinstance(each, ast.Name) and not isinstance(each.ctx, ast.Load)}
    read = dict.fromkeys(each.id for each in parts if isinstance(each, ast.Name) and isinstance(each.ctx, ast.Load))
    return [name for name in read if name not in bound]


def _depends(statement: ast.stmt) -> bool:
    """Return whether a definition uses the run or the app, which may be different in the new file."""
    return not {"config", "context", "current_app"}.isdisjoint(_free_names(statement))


@cache
def _templates() -> frozenset[str]:
    """Return the statements of all templates of the installed tools, at every level."""
    found: set[str] = set()
    for tree in _trees():
        found |= {ast.dump(each) for each in ast.walk(tree) if isinstance(each, ast.stmt)}
    return frozenset(found)


@cache
def _arguments_in_templates() -> frozenset[tuple[str | None, str]]:
    calls = [call for tree in _trees() for call in _Text("", tree).calls()]
    return frozenset((word.arg, ast.dump(word.value)) for call in calls for word in call.keywords)


@cache
def _names_in_templates() -> frozenset[str]:
    return frozenset(
        each.name
        for tree in _trees()
        for each in ast.walk(tree)
        if isinstance(each, (ast.FunctionDef, ast.AsyncFunctionDef))
    )


@cache
def _trees() -> Sequence[ast.Module]:
    return [ast.parse(path.read_text("utf-8")) for path in template_files("env.py")]


def template_files(name: str) -> list[Path]:
    """Return the files with a name in the templates of the installed tools."""
    found: list[Path] = []
    for tool, folder in _TOOLS.items():
        spec = find_spec(tool)
        if spec is not None and spec.origin:
            found += sorted(Path(spec.origin).parent.joinpath(folder).glob(f"*/{name}"))
    return found
