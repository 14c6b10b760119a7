"""The base class of models, which sets their table names and their metadata."""

from __future__ import annotations

import re
import types
from typing import TYPE_CHECKING, cast

from sqlalchemy import Column, MetaData, PrimaryKeyConstraint, Table, inspect
from sqlalchemy.ext.asyncio import AsyncAttrs
from sqlalchemy.orm import DeclarativeBase, DeclarativeBaseNoMeta, DeclarativeMeta, declared_attr

from ampho.errors import ConfigurationError

if TYPE_CHECKING:
    from typing import Any, ClassVar, NoReturn

    from sqlalchemy.orm import InstanceState

_WORD_STARTS = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=.)(?=[A-Z][a-z])")


class Metadatas(dict[str | None, MetaData]):
    """The metadata of each bind key, created on first use, with the naming convention of the default metadata."""

    def __missing__(self, key: str | None) -> MetaData:
        convention = None if key is None else self[None].naming_convention
        self[key] = metadata = MetaData(naming_convention=convention, info={"bind_key": key})
        return metadata


class _NoQuery:
    """Stands for Flask-SQLAlchemy's ``Model.query``, and says what to use instead."""

    def __get__(self, instance: object, model: type) -> NoReturn:
        name = model.__name__
        message = f"{name}.query is not available, because a query needs 'await'. Use db.select({name}) instead, as in"
        raise AttributeError(f"{message} 'await db.session.scalars(db.select({name}))'.")


class _BindMixin:
    """Sets the metadata of models from their ``__bind_key__``."""

    __metadatas__: ClassVar[Metadatas]

    if TYPE_CHECKING:
        __bind_key__: ClassVar[str | None]
        metadata: ClassVar[MetaData]
    else:
        query = _NoQuery()

    def __init_subclass__(cls, **options: object) -> None:
        if hasattr(cls, "__bind_key__") and not {"metadata", "__table__"} & cls.__dict__.keys():
            metadata = cls.__metadatas__[cls.__bind_key__]
            if metadata is not cls.metadata:
                cls.metadata = metadata
        super().__init_subclass__(**options)


class _NameMixin(_BindMixin):
    """Sets the table names of models from their class names, too."""

    if TYPE_CHECKING:
        __tablename__: str

    def __init_subclass__(cls, **options: object) -> None:
        if _wants_name(cls):
            cls.__tablename__ = table_name(cls.__name__)
        super().__init_subclass__(**options)
        if cls.__dict__.get("__table__", cls) is None:
            del cls.__table__  # type: ignore[attr-defined]  # The None from __table_cls__ would hide the parent's table.

    @classmethod
    def __table_cls__(cls, name: str, metadata: MetaData, *items: object, **options: Any) -> Table | None:  # noqa: ANN401
        """Return the table of a model, or None for a model without a primary key, which uses its parent's table.

        SQLAlchemy calls this; see ``__table_cls__`` in its documentation.
        """
        schema = options.get("schema", metadata.schema)
        is_reflected = (f"{schema}.{name}" if schema else name) in metadata.tables
        has_key = any(isinstance(i, PrimaryKeyConstraint) or (isinstance(i, Column) and i.primary_key) for i in items)
        has_parent = any("__table__" in parent.__dict__ for parent in cls.__mro__[1:])
        if is_reflected or has_key or not has_parent:
            return Table(name, metadata, *cast("tuple[Any, ...]", items), **options)  # the items come from SQLAlchemy
        if "__tablename__" in cls.__dict__:
            del cls.__tablename__
        return None


def _wants_name(cls: type) -> bool:
    if cls.__dict__.get("__abstract__") or "__table__" in cls.__dict__:
        return False
    for parent in cls.__mro__:
        if "__tablename__" in parent.__dict__:
            is_computed = isinstance(parent.__dict__["__tablename__"], declared_attr)
            return parent is not cls and not is_computed and "__mapper__" in parent.__dict__
    return True


def table_name(class_name: str) -> str:
    """Return the table name for a class name, such as ``account_entry`` for ``AccountEntry``."""
    return _WORD_STARTS.sub("_", class_name).lower().lstrip("_")


def make_model(
    model_class: type | None, metadatas: Metadatas, *, disable_autonaming: bool = False
) -> type[DeclarativeBase]:
    """Return the base class of models. Its metadata becomes the metadata of the default bind.

    :param model_class: a declarative base, whose existing models and metadata are used; or any other class, which
        becomes a parent of the result.
    :param disable_autonaming: do not name tables after their classes.
    :raises ConfigurationError: if the default metadata is not the metadata of the declarative base, or if the class
        has several declarative bases.
    """
    roots = [root for root in (DeclarativeBase, DeclarativeBaseNoMeta) if model_class and issubclass(model_class, root)]
    if model_class is not None and len(roots) > 1:
        message = f"model_class {model_class.__name__} has two declarative bases. Use one of them."
        raise ConfigurationError(message)
    mixin = _BindMixin if disable_autonaming else _NameMixin
    if isinstance(model_class, DeclarativeMeta) or (roots and model_class not in roots):
        base = cast("type[DeclarativeBase]", model_class)
        if metadatas.setdefault(None, base.metadata) is not base.metadata:
            raise ConfigurationError(
                f"AsyncSQLAlchemy(metadata=...) is not the metadata of model_class {base.__name__}. Omit metadata=."
            )
        base.metadata.info["bind_key"] = None
        if isinstance(model_class, DeclarativeMeta):
            return base
        return _new_class((mixin, base, AsyncAttrs), {"__abstract__": True, "__metadatas__": metadatas})
    parents = () if model_class in (None, AsyncAttrs, *roots) else (model_class,)
    root = roots[0] if roots else DeclarativeBase
    content: dict[str, object] = {"metadata": metadatas[None], "__abstract__": True, "__metadatas__": metadatas}
    return _new_class((mixin, *parents, AsyncAttrs, root), content)


def _new_class(bases: tuple[type, ...], content: dict[str, object]) -> type[DeclarativeBase]:
    if not any("__repr__" in parent.__dict__ for base in bases for parent in base.__mro__[:-1]):
        content["__repr__"] = _represent
    return cast("type[DeclarativeBase]", types.new_class("Model", bases, exec_body=lambda names: names.update(content)))


def _represent(self: object) -> str:
    """Return the class and the primary key of an object, or its state if it has no primary key yet."""
    state: InstanceState[object] = inspect(self)
    if state.identity is None:
        return f"<{type(self).__name__} ({'pending' if state.pending else 'transient'} {id(self)})>"
    return f"<{type(self).__name__} {', '.join(map(str, state.identity))}>"
