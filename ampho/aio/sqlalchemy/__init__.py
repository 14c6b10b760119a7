"""AsyncSQLAlchemy, a database extension for Quart that does what Flask-SQLAlchemy does for Flask.

This package contains the declarative base, the engines, the sessions, and the pool of in-memory databases. An app can
use it without migrations. It does not depend on :mod:`ampho.aio.extension`.
"""

from ampho.aio.sqlalchemy.extension import AsyncSQLAlchemy
from ampho.aio.sqlalchemy.sessions import RoutingSession

__all__ = ["AsyncSQLAlchemy", "RoutingSession"]
