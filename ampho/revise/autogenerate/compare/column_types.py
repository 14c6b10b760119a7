"""Comparing the types of columns in cases in which Alembic misses differences, or reports some that do not exist.

Alembic compares the names of types, and their arguments if both have the same number of arguments.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import ARRAY, Enum, Float, LargeBinary, Numeric, String, Text
from sqlalchemy.dialects.mysql import INET4, INET6, SET
from sqlalchemy.dialects.mysql.base import ischema_names
from sqlalchemy.dialects.postgresql import TSQUERY
from sqlalchemy.dialects.postgresql.base import ischema_names as postgresql_names
from sqlalchemy.types import NullType, TypeDecorator, TypeEngine

if TYPE_CHECKING:
    from sqlalchemy import Column
    from sqlalchemy.engine import Dialect

# SQLAlchemy creates columns of these types, but some versions do not recognize them when they reflect a table.
_known: dict[str, Any] = ischema_names
for _type in (INET4, INET6):
    _known.setdefault(_type.__name__.lower(), _type)
postgresql_names.setdefault("tsquery", TSQUERY)

_BLOBS = {"tinyblob": 255, "blob": 65_535, "mediumblob": 16_777_215, "longblob": 4_294_967_295}
_TEXTS = {"tinytext": 255, "text": 65_535, "mediumtext": 16_777_215, "longtext": 4_294_967_295}
_MAXIMUM_BYTES = 4  # the maximum number of bytes in a character
_SINGLE = 24  # the largest precision of a single-precision number, in bits


def differs(present: Column[Any], declared: Column[Any], dialect: Dialect) -> bool | None:
    """Return whether the type of a column differs between the database and the model, or None to let Alembic decide."""
    here, there = present.type, _of_database(declared.type, dialect)
    if isinstance(there, NullType):
        return None
    if isinstance(here, NullType):  # reflection does not recognize it, so it is not one of SQLAlchemy's types
        is_sqlalchemys = type(there).__module__.startswith("sqlalchemy.")
        return dialect.name != "sqlite" and is_sqlalchemys and not isinstance(there, ARRAY)
    if dialect.name == "sqlite" and _is_affinity(here, there, dialect):
        return False
    if dialect.name in ("mysql", "mariadb"):
        found = _differs_on_mysql(here, there, present, dialect)
    else:
        found = _differs_on_postgresql(here, there) if dialect.name == "postgresql" else None
    return _has_other_size(here, there, dialect) or None if found is None else found


def _of_database(type_: TypeEngine[Any], dialect: Dialect) -> TypeEngine[Any]:
    """Return the type that a database uses for a model's type, without decorators and variants."""
    type_ = type_._variant_mapping.get(dialect.name, type_)  # noqa: SLF001 (it has no public name)
    return _of_database(type_.load_dialect_impl(dialect), dialect) if isinstance(type_, TypeDecorator) else type_


def _name(type_: TypeEngine[Any], dialect: Dialect) -> str:
    return dialect.type_compiler_instance.process(type_).lower()


def _is_affinity(here: TypeEngine[Any], there: TypeEngine[Any], dialect: Any) -> bool:  # noqa: ANN401 (a method of SQLite's dialect)
    """Return whether SQLAlchemy, which does not know all of SQLite's type names, reads the model's type as ``here``."""
    try:
        read = dialect._resolve_type_affinity(_name(there, dialect).upper())  # noqa: SLF001 (there is no public function)
    except AttributeError:  # pragma: no cover (every tested version has this private method; a later one may not)
        return False
    return _name(read, dialect) == _name(here, dialect)


def _has_other_size(here: TypeEngine[Any], there: TypeEngine[Any], dialect: Dialect) -> bool:
    """Return whether the lengths of two text types, or the precisions of two number types, differ."""
    sizes = [_size(type_, dialect) for type_ in (here, there)]
    return None not in sizes and sizes[0] != sizes[1]


def _size(type_: TypeEngine[Any], dialect: Dialect) -> tuple[object, ...] | None:
    name = _name(type_, dialect).partition("(")[0].partition(" ")[0]
    if isinstance(type_, String) and not isinstance(type_, (Text, Enum)) and name in ("varchar", "char", "character"):
        return "text", type_.length or (1 if name != "varchar" and dialect.name != "sqlite" else None)
    if isinstance(type_, Numeric) and not isinstance(type_, Float) and name in ("numeric", "decimal"):
        precision = type_.precision or (10 if dialect.name in ("mysql", "mariadb") else None)
        return "number", precision, type_.scale or 0
    return None


def _differs_on_postgresql(here: TypeEngine[Any], there: TypeEngine[Any]) -> bool | None:
    if isinstance(here, ARRAY) != isinstance(there, ARRAY):
        return True
    if isinstance(there, Float) and isinstance(here, Float) and there.precision:
        return _is_single(here) != (there.precision <= _SINGLE)
    if isinstance(here, String) and isinstance(there, String) and here.collation and not there.collation:
        return True
    reads_collations = hasattr(String(), "collation_schema")  # from SQLAlchemy 2.1 on
    if isinstance(here, String) and isinstance(there, String) and there.collation and not here.collation:
        return reads_collations or None
    return None


def _is_single(type_: Float[Any]) -> bool:
    return type_.__visit_name__ == "REAL" or (type_.precision or 53) <= _SINGLE


def _differs_on_mysql(
    here: TypeEngine[Any], there: TypeEngine[Any], present: Column[Any], dialect: Dialect
) -> bool | None:
    name, wanted = _name(here, dialect).split("(")[0].split(" ")[0], _name(there, dialect)
    if getattr(there, "national", False):
        return getattr(here, "length", None) != getattr(there, "length", None)
    if name == "double" and (wanted.startswith(("real", "double precision")) or _is_double(there)):
        return False
    if isinstance(there, (LargeBinary, Text)) and there.length and name in (*_BLOBS, *_TEXTS):
        return name not in _names_for(there)
    if isinstance(here, SET) and isinstance(there, SET):
        return set(here.values) != set(there.values)
    for attribute in ("unsigned", "fsp"):
        if hasattr(here, attribute) and (getattr(here, attribute) or 0) != (getattr(there, attribute, None) or 0):
            return True
    return _has_new_collation(here, there, present) or None


def _is_double(type_: TypeEngine[Any]) -> bool:
    return isinstance(type_, Float) and (type_.precision or 0) > _SINGLE


def _names_for(type_: LargeBinary | Text) -> set[str]:
    """Return the names of the types that MariaDB and MySQL may choose for a length, depending on the character set."""
    sizes = _TEXTS if isinstance(type_, Text) else _BLOBS
    lengths = {(type_.length or 0) * factor for factor in ((1, 2, 3, _MAXIMUM_BYTES) if sizes is _TEXTS else (1,))}
    return {next((name for name, most in sizes.items() if length <= most), "") for length in lengths}


def _has_new_collation(here: TypeEngine[Any], there: TypeEngine[Any], present: Column[Any]) -> bool:
    """Return whether the model has another collation than the table, if the column has none of its own."""
    if not isinstance(here, String) or not isinstance(there, String) or not there.collation or here.collation:
        return False
    options = {name.partition("_")[2]: value for name, value in present.table.kwargs.items()}
    return bool(options.get("collate", there.collation) != there.collation)
