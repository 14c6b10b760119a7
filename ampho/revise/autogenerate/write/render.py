"""Rendering the changes of a package as Python code that runs.

This module uses these private names of Alembic and SQLAlchemy:

- ``render._render_python_into_templatevars`` renders the operations.
- ``render._repr_type``, ``_user_autogenerate_prefix``, and ``_sqlalchemy_autogenerate_prefix`` render a type.
- ``TypeEngine._variant_mapping`` contains the variants of a type.
- ``IdentifierPreparer._double_percents`` tells whether SQL contains two percent signs instead of one, and ``_strings``
  contains the names that were quoted before.
"""

from __future__ import annotations

import ast
import io
import re
import sys
import tokenize
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from itertools import accumulate
from typing import TYPE_CHECKING, Any, TypeAlias

from alembic.autogenerate import render, renderers
from alembic.operations import ops
from sqlalchemy import ClauseElement, Column, DefaultClause, False_, TextClause, True_, TypeDecorator
from sqlalchemy.dialects.postgresql import DOMAIN, ENUM
from sqlalchemy.sql import functions
from sqlalchemy.sql.sqltypes import Enum, NullType
from sqlalchemy.util import immutabledict

from ampho._text import listed
from ampho.errors import RevisionInputError
from ampho.migrate.alembic import Body
from ampho.revise.autogenerate.operations.changes import table_key
from ampho.revise.autogenerate.operations.domains import DomainOp
from ampho.revise.autogenerate.operations.enum_catalog import native_enum, renders_enums
from ampho.revise.autogenerate.operations.enums import commit_used_labels
from ampho.revise.autogenerate.operations.statements import literal_sql
from ampho.revise.autogenerate.write.safe import merged

if TYPE_CHECKING:
    from alembic.autogenerate.api import AutogenContext
    from sqlalchemy.engine import Dialect
    from sqlalchemy.types import TypeEngine

    from ampho.revise.autogenerate.operations.changes import Changes

RenderItem: TypeAlias = Callable[[str, Any, "AutogenContext"], "str | bool"]
"""The function that Alembic calls for each column, type, and constraint, before it renders the item itself."""

_TEMPLATE_NAMES = frozenset({"op", "sa"})
_INDENTED = "if True:\n    "  # the first line of a body lacks the indentation of the others
_STRING = re.compile(r"'(?:[^'\\]|''|\\.)*'", re.DOTALL)
_OPERATOR = re.compile(r"[\w)\s][%*/+<>=&|-]|\b(?:mod|div|and|or|xor)\b", re.IGNORECASE)
_SINGLE_QUOTED = re.compile(r"""([a-zA-Z]*)('''|')((?:\\[^'"]|[^\\"])*)\2""")


class ItemRenderer:
    """A ``render_item`` for Alembic that renders types for which Alembic's own code would not run.

    :ivar warnings: sentences about the types that were replaced.
    :ivar failures: descriptions of the types that cannot be rendered.
    :ivar is_unrecognized: whether a type is missing, because SQLAlchemy does not recognize it in the database.
    """

    def __init__(self, users: RenderItem | None) -> None:
        """Create a renderer that calls the user's ``render_item`` first, if there is one."""
        self._users = users
        self._column = ""
        self.warnings: list[str] = []
        self.failures: list[str] = []
        self.is_unrecognized: bool = False

    def __call__(self, kind: str, item: Any, autogen: AutogenContext) -> str | bool:  # noqa: ANN401 (Alembic's signature)
        """Return the code of an item; False if Alembic should render it."""
        text = self._users(kind, item, autogen) if self._users else False
        if kind == "column":
            self._column = str(item)
        if kind == "server_default" and text is False:
            return _default_text(item, autogen)
        if kind != "type" or text is not False:
            return text
        return self._render_unrecognized(autogen) if isinstance(item, NullType) else self._render_type(item, autogen)

    def _render_unrecognized(self, autogen: AutogenContext) -> str | bool:
        """Return the code of a column of SQLite without a type. On other databases, the file cannot be written."""
        if autogen.dialect.name == "sqlite":
            return f"{render._sqlalchemy_autogenerate_prefix(autogen)}BLOB()"  # SQLite stores both in the same way
        self.is_unrecognized = True
        return False

    def _render_type(self, type_: TypeEngine[Any], autogen: AutogenContext) -> str | bool:
        if type_._variant_mapping:
            return self._render_variants(type_, autogen)
        if isinstance(type_, DOMAIN):
            return _domain_text(type_, autogen, "create_type=False")
        if renders_enums(autogen) and (enum := native_enum(type_, autogen.dialect)) is not None:
            if getattr(type_, "item_type", None) is None:
                return _enum_text(enum, autogen)
        elif type(type_) is Enum and type_.metadata is not None:
            shown = repr(type_).replace(", metadata=MetaData()", "")  # SQLAlchemy 2.1 does not show the metadata
            return f"{render._sqlalchemy_autogenerate_prefix(autogen)}{shown}"
        if getattr(type_, "item_type", None) is not None and _is_sqlalchemys(type_):
            return _array_text(type_, autogen)
        return False if _is_sqlalchemys(type_) else self._render_users_type(type_, autogen)

    def _render_variants(self, type_: TypeEngine[Any], autogen: AutogenContext) -> str:
        base = type_.copy()
        base._variant_mapping = immutabledict()
        text = render._repr_type(base, autogen)
        for dialect, variant in sorted(type_._variant_mapping.items()):
            text += f".with_variant({render._repr_type(variant, autogen)}, {dialect!r})"
        return text

    def _render_users_type(self, type_: TypeEngine[Any], autogen: AutogenContext) -> str | bool:
        """Return the code that creates a type of the app or of a library, or else the type that it decorates."""
        shown, name = _shown(type_), type(type_).__name__
        arguments = shown.removeprefix(name)
        same = shown != arguments and _creates(type_, arguments, autogen.dialect)
        if same and "<locals>" not in type(type_).__qualname__:
            prefix = str(render._user_autogenerate_prefix(autogen, type_))  # type: ignore[no-untyped-call]
            outer = type(type_).__qualname__.removesuffix(name) if prefix == f"{type(type_).__module__}." else ""
            if getattr(type_, "spatial_index", False):  # the revision creates the index, so GeoAlchemy2 must not
                shown = f"{shown[:-1]}{'' if shown.endswith('()') else ', '}spatial_index=False)"
            return f"{prefix}{outer}{shown}"
        where = f"the type {name} of {self._place(type_, autogen)}"
        if (plain := _plain_type(type_, autogen)) is None:
            self.failures.append(where)
            return False
        self.warnings.append(
            f"The code that creates {where} is not known, so the revision contains {plain} instead, which the database"
            " stores in the same way. To write other code, pass render_item."
        )
        return plain

    def _place(self, type_: TypeEngine[Any], autogen: AutogenContext) -> str:
        columns = [column for table in autogen.table_key_to_table.values() for column in table.columns]
        return next((str(column) for column in columns if column.type is type_), self._column)


def _unrecognized(changes: Changes) -> Iterator[str]:
    """Yield the columns that the downgrade creates with a type that SQLAlchemy does not recognize in the database."""
    for operation in changes.operations():
        if not isinstance(operation, ops.DropTableOp | ops.AlterTableOp):
            continue
        columns: list[Column[Any]] = []
        if isinstance(operation, ops.DropTableOp):
            columns = [*operation.to_table().columns]
        elif isinstance(operation, ops.DropColumnOp):
            columns = [operation.to_column()]
        elif isinstance(operation, ops.AlterColumnOp) and operation.existing_type is not None:
            columns = [Column(operation.column_name, operation.existing_type)]
        unknown = [column.name for column in columns if isinstance(column.type, NullType)]
        yield from (f"{table_key(operation)}.{name}" for name in unknown)


@contextmanager
def _single_percents(dialect: Any) -> Iterator[None]:  # noqa: ANN401 (private names of a dialect)
    """Write each percent sign in SQL once; some drivers need two, but the second is added when the revision runs."""
    preparer = dialect.identifier_preparer
    before, quoted = preparer._double_percents, preparer._strings
    preparer._double_percents, preparer._strings = False, {}
    try:
        yield
    finally:
        preparer._double_percents, preparer._strings = before, quoted


def body(changes: Changes) -> Body:
    """Return the changes as the bodies of a revision's functions.

    :raises RevisionInputError: if a type cannot be rendered.
    """
    autogen, texts = changes.autogen, dict[str, Any]()
    renderer = autogen.opts["render_item"]
    renderer.warnings.clear()
    renderer.failures.clear()
    renderer.is_unrecognized = False
    commit_used_labels(changes)
    autogen.imports = set(changes.script.imports)
    with _single_percents(autogen.dialect):
        render._render_python_into_templatevars(autogen, changes.script, texts)
    if failures := [*dict.fromkeys(renderer.failures)]:
        raise RevisionInputError(
            f"The code that creates {listed(failures)} is not known. Pass context.configure() a render_item"
            " function that returns the code, or give the type's class a __repr__() that does.",
            package=changes.package,
        )
    if renderer.is_unrecognized:
        raise RevisionInputError(
            f"The downgrade cannot create {listed([*_unrecognized(changes)])} again, because SQLAlchemy does not"
            " recognize the type in the database. Import the library that defines the type in the module of the"
            " models, or add your own type to the dialect's ischema_names there.",
            package=changes.package,
        )
    changes.warnings += dict.fromkeys(renderer.warnings)
    upgrades = _without_remarks(texts[changes.upgrade.upgrade_token])
    downgrades = _without_remarks(texts[changes.downgrade.downgrade_token])
    imports = {line for line in texts["imports"].splitlines() if line}
    for code in (upgrades, downgrades):
        imports |= _missing_imports(code, imports)
    imports_text = "\n".join(merged(imports))
    return Body(_double_quoted(upgrades), _double_quoted(downgrades), imports_text, autogen.migration_context.opts)


def _is_sqlalchemys(type_: TypeEngine[Any]) -> bool:
    return type(type_).__module__.startswith("sqlalchemy.")


def _shown(type_: TypeEngine[Any]) -> str:
    """Return the ``repr()`` of a type, or that of a plain object if the type's own fails."""
    try:
        return repr(type_)
    except Exception:  # noqa: BLE001  # the class belongs to the user
        return object.__repr__(type_)


def _default_text(default: object, autogen: AutogenContext) -> str | bool:
    """Return the code of a server default where Alembic's own does not run on every database, or is wrong.

    These are functions such as ``now()``, ``true()`` and ``false()``, which Alembic writes as SQL of one database;
    expressions of SQLite that Alembic takes for strings, such as ``'a' || 'b'``; and expressions of MariaDB and MySQL
    without parentheses, such as ``5 % 3``, which ``ALTER TABLE`` does not accept.
    """
    prefix, argument = render._sqlalchemy_autogenerate_prefix(autogen), getattr(default, "arg", None)
    if isinstance(argument, True_ | False_):
        return f"{prefix}{argument}()"
    if isinstance(argument, functions.now | functions.AnsiFunction) and len(argument.clauses) == 0:
        return f"{prefix}func.{argument.name}()"
    database = autogen.dialect.name
    if database == "postgresql" or not isinstance(default, DefaultClause) or not isinstance(default.arg, TextClause):
        return False
    sql = autogen.migration_context.impl.render_ddl_sql_expr(default.arg, is_server_default=True)
    if database == "sqlite":
        is_mistaken = sql[:1] == sql[-1:] == "'" and not re.fullmatch("'(?:[^']|'')*'", sql)
    else:
        is_mistaken = sql[:1] != "(" and _OPERATOR.search(_STRING.sub("''", sql)) is not None
    return is_mistaken and f"{prefix}text({f'({sql})'!r})"


def _domain_text(domain: DOMAIN, autogen: AutogenContext, *options: str) -> str:
    """Return the code of a domain."""
    autogen.imports.add("from sqlalchemy.dialects import postgresql")
    schema = [f"schema={str(domain.schema)!r}"] if domain.schema else []
    type_ = render._repr_type(domain.data_type, autogen)
    return f"postgresql.DOMAIN({', '.join([repr(str(domain.name)), type_, *options, *schema])})"


@renderers.dispatch_for(DomainOp)
def _render_domain(autogen: AutogenContext, operation: DomainOp) -> str:
    options = [*_domain_options(operation.domain, autogen)] if operation.creates else []
    bind = f"{autogen.opts['alembic_module_prefix'] or ''}get_bind()"
    action = "create" if operation.creates else "drop"
    return f"{_domain_text(operation.domain, autogen, *options)}.{action}({bind}, checkfirst=True)"


def _domain_options(domain: DOMAIN, autogen: AutogenContext) -> Iterator[str]:
    for name in ("collation", "default", "constraint_name", "not_null", "check"):
        value: Any = getattr(domain, name)
        if isinstance(value, ClauseElement):
            sql = autogen.migration_context.impl.render_ddl_sql_expr(value)
            yield f"{name}={render._sqlalchemy_autogenerate_prefix(autogen)}text({literal_sql(sql)!r})"
        elif value:
            yield f"{name}={value!r}"


def _enum_text(enum: ENUM, autogen: AutogenContext) -> str:
    """Return the code of an enum type, without the creation of the type, which is an operation of its own."""
    autogen.imports.add("from sqlalchemy.dialects import postgresql")
    schema = f", schema={str(enum.schema)!r}" if enum.schema else ""
    return f"postgresql.ENUM({', '.join(map(repr, enum.enums))}, name={str(enum.name)!r}{schema}, create_type=False)"


def _array_text(type_: Any, autogen: AutogenContext) -> str:  # noqa: ANN401 (an array type of any dialect)
    item, shown = type_.item_type, repr(type_)
    is_dialects = type(type_).__module__.startswith("sqlalchemy.dialects.")
    prefix = "postgresql." if is_dialects else render._sqlalchemy_autogenerate_prefix(autogen)
    if is_dialects:
        autogen.imports.add("from sqlalchemy.dialects import postgresql")
    return f"{prefix}{shown.replace(f'({item!r}', f'({render._repr_type(item, autogen)}', 1)}"


def _creates(type_: TypeEngine[Any], arguments: str, dialect: Dialect) -> bool:
    """Return whether the class of a type, called with arguments that are Python code, creates the same type again."""
    try:
        made = eval(f"type_{arguments}", {"type_": type(type_)})  # noqa: S307  # the revision would contain this code
    except Exception:  # noqa: BLE001  # the class belongs to the user
        return False
    return isinstance(made, type(type_)) and _ddl(made, dialect) == _ddl(type_, dialect)


def _ddl(type_: TypeEngine[Any], dialect: Dialect) -> str | None:
    try:
        return type_.compile(dialect=dialect)
    except Exception:  # noqa: BLE001  # the class belongs to the user
        return None


def _plain_type(type_: TypeEngine[Any], autogen: AutogenContext) -> str | None:
    """Return the code of the SQLAlchemy type that a ``TypeDecorator`` uses on the database; None if it is not known."""
    if not isinstance(type_, TypeDecorator):
        return None
    of_dialect = type_.load_dialect_impl(autogen.dialect)
    candidates = [type_.impl_instance, of_dialect]
    with suppress(NotImplementedError):  # a type such as BLOB is LargeBinary on any database
        candidates.insert(1, of_dialect.as_generic())
    for plain in candidates:
        public = next((cls for cls in type(plain).__mro__ if not cls.__name__.startswith("_")), object)
        same = _ddl(plain, autogen.dialect) == _ddl(type_, autogen.dialect)
        if same and public.__module__.startswith("sqlalchemy.") and public is type(plain):
            return str(render._repr_type(plain, autogen))
    return None


def _without_remarks(text: str) -> str:
    """Return rendered code without the comments that Alembic puts around it."""
    return "\n".join(line for line in text.splitlines() if not line.lstrip().startswith("# ###")).strip()


def _double_quoted(code: str) -> str:
    """Return rendered code with its strings in double quotes, as code formatters write them.

    Strings that contain double quotes or escaped single quotes, and those inside f-strings, stay as they are.
    """
    code = f"{_INDENTED}{code}"
    starts = [0, *accumulate(map(len, io.StringIO(code)))]
    pieces: list[str] = []
    end = depth = 0
    for token in tokenize.generate_tokens(io.StringIO(code).readline):
        kind = tokenize.tok_name[token.type]
        depth += kind.endswith("STRING_START") - kind.endswith("STRING_END")
        if kind == "STRING" and not depth and (match := _SINGLE_QUOTED.fullmatch(token.string)):
            begin = starts[token.start[0] - 1] + token.start[1]
            quotes = '"' * len(match[2])
            pieces += [code[end:begin], f"{match[1]}{quotes}{match[3]}{quotes}"]
            end = begin + len(token.string)
    return "".join([*pieces, code[end:]]).removeprefix(_INDENTED)


def _missing_imports(code: str, imports: Iterable[str]) -> set[str]:
    """Return the missing imports of modules that the code names in full, such as those of the app's own types."""
    bound = set(_TEMPLATE_NAMES)
    for node in ast.walk(ast.parse("\n".join(imports))):
        if isinstance(node, ast.alias):
            bound.add((node.asname or node.name).partition(".")[0])
    found: set[str] = set()
    tree = ast.parse(f"{_INDENTED}{code}")
    stored = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute | ast.Name):
            dotted = ast.unparse(node)
            if dotted.partition(".")[0] not in bound | stored and dotted in sys.modules:
                found.add(f"import {dotted}")
    return {line for line in found if not any(other.startswith(f"{line}.") for other in found)}
