"""What revision files import from Ampho: operations that Alembic does not have.

Each is called in ``upgrade()`` or ``downgrade()``, like the functions of ``alembic.op``.
"""

__all__: list[str] = []
