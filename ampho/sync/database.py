"""The ``SQLAlchemy`` that Ampho creates if the app has none."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
from flask_sqlalchemy import SQLAlchemy

from ampho.database.engine import make_folder_first
from ampho.database.url import in_folder

if TYPE_CHECKING:
    from flask import Flask

_FILE = "file:"
_MEMORY = ":memory:"


class QuietSQLAlchemy(SQLAlchemy):
    """A ``SQLAlchemy`` that does not create the instance folder until it first connects.

    Flask-SQLAlchemy creates the folder when the app starts, but the disk may be read-only in a container.
    """

    def _apply_driver_defaults(self, options: dict[str, Any], app: Flask) -> None:
        url = sa.make_url(options["url"])
        if url.get_backend_name() == "sqlite" and (url.database or "").removeprefix(_FILE) not in ("", _MEMORY):
            options["url"] = in_folder(url, Path(app.instance_path))
        super()._apply_driver_defaults(options, app)

    def _make_engine(self, bind_key: str | None, options: dict[str, Any], app: Flask) -> sa.Engine:
        engine = super()._make_engine(bind_key, options, app)
        path = (engine.url.database or "").removeprefix(_FILE)
        folder = Path(app.instance_path)
        if engine.dialect.name == "sqlite" and Path(path).is_relative_to(folder):
            make_folder_first(engine, folder)
        return engine
