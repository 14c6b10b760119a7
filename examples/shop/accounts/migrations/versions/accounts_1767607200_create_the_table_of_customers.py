"""Create the table of customers

Revision ID: accounts_1767607200
Revises: -
Create Date: 2026-01-05 10:00:00
"""

import sqlalchemy as sa
from alembic import op

revision = "accounts_1767607200"
down_revision = None
branch_labels = ("accounts",)
depends_on = None


def upgrade():
    op.create_table(
        "customers",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("email", sa.String(254), nullable=False, unique=True),
        sa.Column("name", sa.String(100), nullable=False),
        sa.Column("created_at", sa.DateTime, nullable=False, server_default=sa.func.now()),
    )


def downgrade():
    op.drop_table("customers")
