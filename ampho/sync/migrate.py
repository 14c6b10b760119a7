"""Create Flask-Migrate's object on first use, and make its commands use the packages of the app."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, cast
from weakref import WeakSet

import click
from flask import current_app

from ampho.extension import LazyGroup

if TYPE_CHECKING:
    from alembic.config import Config
    from flask import Flask
    from flask_migrate import Migrate
    from flask_sqlalchemy import SQLAlchemy

KEY = "migrate"

_configured: WeakSet[Migrate] = WeakSet()


class MigrateOnDemand:
    """Stands in for Flask-Migrate's object in ``app.extensions["migrate"]`` until that object is first used.

    Flask-Migrate imports Alembic and Mako, which a web worker does not need.
    """

    def __init__(self, app: Flask, db: SQLAlchemy, options: dict[str, Any]) -> None:
        self.__dict__.update(_app=app, _db=db, options=options)

    def make(self) -> Any:
        """Replace this object with a new ``Migrate``, and return the new object."""
        from flask_migrate import Migrate

        if self._app.extensions[KEY] is self:
            use_packages(Migrate(self._app, self._db, **self.options))
        return self._app.extensions[KEY]

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return getattr(self.make(), name)


def db_group(stand_in: MigrateOnDemand) -> LazyGroup:
    """Return the command group ``flask db``. Flask-Migrate is only imported when the group is called."""

    def load() -> click.Group:
        stand_in.make()
        from flask_migrate.cli import db

        group: click.Group = db
        return group

    return LazyGroup("db", "Perform database migrations.", load)


def use_packages(migrate: Migrate) -> None:
    """Make the ``flask db`` commands of a ``Migrate`` use the packages of the current app. Repeated calls are safe."""
    if migrate in _configured:
        return
    _configured.add(migrate)

    def configure(config: Config) -> Config:
        import flask_migrate

        from ampho._text import shown_path
        from ampho.errors import ConfigurationError
        from ampho.history.host import TEMPLATES
        from ampho.migrate.alembic import set_locations, without_tables

        extension = current_app.extensions.get("ampho")
        if extension is None:
            return config
        script_location = config.get_main_option("script_location")
        app = cast("Any", current_app)._get_current_object()  # noqa: SLF001 (documented)
        project = extension.project(app)
        set_locations(config, project)
        env = Path(migrate.directory) / "env.py"
        is_flask_db = isinstance(config, flask_migrate.Config)
        if is_flask_db and project.has_several_databases and env.is_file() and b"ampho" not in env.read_bytes():
            names = ", ".join([*project.homes.names, *project.homes.groups])
            raise ConfigurationError(
                f"{shown_path(env)} migrates one database, and the app has several: {names}. Use the commands of ampho,"
                f" or replace this file with a copy of {TEMPLATES / project.template / 'env.py'}, and select the"
                " database with -x database=NAME."
            )
        # Flask-Migrate's own env.py does not exclude the table of the journal, so autogenerate would drop this table.
        options = app.extensions[KEY].configure_args
        options["include_name"] = without_tables(project.own_tables, options.get("include_name"))
        if script_location and Path(migrate.directory).is_dir():
            config.set_main_option("script_location", script_location.replace("%", "%%"))
        return config

    migrate.configure(configure)  # pyright: ignore[reportArgumentType] (its Config is Alembic's)
