"""AsyncSQLAlchemy, a database extension for Quart that does what Flask-SQLAlchemy does for Flask.

This room holds the declarative base, the engines, the sessions, and the pool of in-memory databases. An app can use it
without migrations, which are in :mod:`ampho.aio.extension`: nothing here knows about revisions.
"""

from ampho.aio.sqlalchemy.extension import AsyncSQLAlchemy
from ampho.aio.sqlalchemy.sessions import RoutingSession

__all__ = ["AsyncSQLAlchemy", "RoutingSession"]
