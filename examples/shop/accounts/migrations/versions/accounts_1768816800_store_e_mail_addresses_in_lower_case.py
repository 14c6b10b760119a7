"""Store e-mail addresses in lower case

Revision ID: accounts_1768816800
Revises: accounts_1767607200
Create Date: 2026-01-19 10:00:00
"""

import sqlalchemy as sa
from alembic import op

revision = "accounts_1768816800"
down_revision = "accounts_1767607200"
branch_labels = None
depends_on = None


def upgrade():
    customers = sa.table("customers", sa.column("email"))
    op.execute(customers.update().values(email=sa.func.lower(customers.c.email)))


def downgrade():
    pass  # Nobody knows how they were written before, and lower case is fine for the revision before this one.
