"""Ampho for Quart, and the database extension that it uses there."""

from ampho.aio.extension import AsyncAmpho
from ampho.aio.sqlalchemy import AsyncSQLAlchemy

__all__ = ["AsyncAmpho", "AsyncSQLAlchemy"]
