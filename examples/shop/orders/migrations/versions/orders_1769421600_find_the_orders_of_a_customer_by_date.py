"""Find the orders of a customer by date

Revision ID: orders_1769421600
Revises: orders_1767693600
Create Date: 2026-01-26 10:00:00
"""

from alembic import op

revision = "orders_1769421600"
down_revision = "orders_1767693600"
branch_labels = None
depends_on = None


def upgrade():
    op.create_index("ix_orders_customer_id_placed_at", "orders", ["customer_id", "placed_at"])
    op.drop_index("ix_orders_customer_id", "orders")


def downgrade():
    op.create_index("ix_orders_customer_id", "orders", ["customer_id"])
    op.drop_index("ix_orders_customer_id_placed_at", "orders")
