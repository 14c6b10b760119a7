"""Ampho for Quart, and the database extension that it uses there."""

from .extension import AsyncAmpho
from .sqlalchemy import AsyncSQLAlchemy

__all__ = ["AsyncAmpho", "AsyncSQLAlchemy"]
