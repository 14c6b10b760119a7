"""What the pytest plug-in does: finding the app, keeping it away from its own databases, and giving it clones instead.

``pytest_ampho.py`` declares the options and the fixtures, and imports this room when a fixture is first used.
"""

from ampho.testing.databases import Databases
from ampho.testing.migrations import AsyncMigrations, Migrations

__all__ = ["AsyncMigrations", "Databases", "Migrations"]
