"""Databases that a test upgrades and downgrades step by step."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from flask import Flask
    from quart import Quart
    from sqlalchemy import URL

    from ampho.extension import AsyncExtension, SyncExtension
    from ampho.migrate.plan import Run
    from ampho.testing.databases import Databases


class _Stepwise:
    """The databases of a test of migrations, which are empty at first.

    :ivar urls: their URLs, by the names of the databases.
    """

    def __init__(self, databases: Databases) -> None:
        self.urls: Mapping[str, URL] = databases.urls
        self.url: URL = databases.url


class Migrations(_Stepwise):
    """The databases of a Flask app, which are empty at first, for tests of revisions."""

    def __init__(self, ampho: SyncExtension, app: Flask, databases: Databases) -> None:
        super().__init__(databases)
        self._ampho = ampho
        self._app = app

    def upgrade_to(self, specifier: str, *, database: str | None = None) -> Run:
        """Upgrade the databases to a specifier, such as ``orders@+1``, as ``db-up`` does.

        :param database: the name of a database; by default, all.
        """
        __tracebackhide__ = True
        with self._app.app_context():
            return self._ampho.upgrade(specifier, database=database)

    def downgrade_to(self, specifier: str, *, cascade: bool = False, database: str | None = None) -> Run:
        """Downgrade a database to a specifier, such as ``orders@-1`` or ``base``, as ``db-down`` does.

        :param cascade: whether to also revert revisions of other packages that depend on the reverted ones.
        :param database: the name of the database; required if packages live in several.
        """
        __tracebackhide__ = True
        with self._app.app_context():
            return self._ampho.downgrade(specifier, cascade=cascade, database=database)


class AsyncMigrations(_Stepwise):
    """The databases of a Quart app, which are empty at first, for tests of revisions. Await its methods."""

    def __init__(self, ampho: AsyncExtension, app: Quart, databases: Databases) -> None:
        super().__init__(databases)
        self._ampho = ampho
        self._app = app

    async def upgrade_to(self, specifier: str, *, database: str | None = None) -> Run:
        """Upgrade the databases, as :meth:`Migrations.upgrade_to` does."""
        __tracebackhide__ = True
        async with self._app.app_context():
            return await self._ampho.upgrade(specifier, database=database)

    async def downgrade_to(self, specifier: str, *, cascade: bool = False, database: str | None = None) -> Run:
        """Downgrade a database, as :meth:`Migrations.downgrade_to` does."""
        __tracebackhide__ = True
        async with self._app.app_context():
            return await self._ampho.downgrade(specifier, cascade=cascade, database=database)
