"""Count the books in stock

Revision ID: catalog_1768298400
Revises: catalog_1767690000
Create Date: 2026-01-13 10:00:00
"""

import sqlalchemy as sa
from alembic import op

revision = "catalog_1768298400"
down_revision = "catalog_1767690000"
branch_labels = None
depends_on = None


def upgrade():
    with op.batch_alter_table("books") as books:
        books.add_column(sa.Column("stock", sa.Integer, nullable=False, server_default="0"))
        books.create_check_constraint("stock_not_negative", "stock >= 0")
    op.execute("UPDATE books SET stock = 10")  # what the first delivery brought


def downgrade():
    with op.batch_alter_table("books") as books:
        books.drop_constraint("stock_not_negative", type_="check")
        books.drop_column("stock")
