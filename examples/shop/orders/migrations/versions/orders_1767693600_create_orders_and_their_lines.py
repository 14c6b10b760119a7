"""Create orders and their lines

Revision ID: orders_1767693600
Revises: -
Create Date: 2026-01-06 10:00:00
"""

import sqlalchemy as sa
from alembic import op

revision = "orders_1767693600"
down_revision = None
branch_labels = ("orders",)
depends_on = ("accounts_1767607200", "catalog_1767690000")


def upgrade():
    op.create_table(
        "orders",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("customer_id", sa.Integer, sa.ForeignKey("customers.id"), nullable=False, index=True),
        sa.Column("placed_at", sa.DateTime, nullable=False, server_default=sa.func.now()),
    )
    op.create_table(
        "order_lines",
        sa.Column("order_id", sa.Integer, sa.ForeignKey("orders.id", ondelete="CASCADE"), primary_key=True),
        sa.Column("book_id", sa.Integer, sa.ForeignKey("books.id"), primary_key=True, index=True),
        sa.Column("quantity", sa.Integer, nullable=False),
        sa.Column("unit_price", sa.Numeric(8, 2), nullable=False),
        sa.CheckConstraint("quantity > 0", name="quantity_positive"),
    )


def downgrade():
    op.drop_table("order_lines")
    op.drop_table("orders")
