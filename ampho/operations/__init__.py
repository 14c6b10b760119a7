"""What revision files import from Ampho: operations that Alembic does not have.

Each is called in ``upgrade()`` or ``downgrade()``, like the functions of ``alembic.op``.
"""

from ampho.operations.backfills import backfill
from ampho.operations.columns import add_column, alter_column
from ampho.operations.constraints import (
    create_check_constraint,
    create_foreign_key,
    create_unique_constraint,
    drop_constraint,
)
from ampho.operations.indexes import create_index, drop_index

__all__: list[str] = [
    "add_column",
    "alter_column",
    "backfill",
    "create_check_constraint",
    "create_foreign_key",
    "create_index",
    "create_unique_constraint",
    "drop_constraint",
    "drop_index",
]
