"""AsyncSQLAlchemy, a database extension for Quart that does what Flask-SQLAlchemy does for Flask.

This package contains the declarative base, the engines, the sessions and their checks, the pages of results, and the
pool of in-memory databases. An app can use it without migrations. It does not depend on :mod:`ampho.aio.extension`.
"""

from ampho.aio.sqlalchemy.extension import AsyncSQLAlchemy
from ampho.aio.sqlalchemy.pagination import Pagination
from ampho.aio.sqlalchemy.queries import RecordedQuery, get_recorded_queries
from ampho.aio.sqlalchemy.sessions import RoutingSession

__all__ = ["AsyncSQLAlchemy", "Pagination", "RecordedQuery", "RoutingSession", "get_recorded_queries"]
