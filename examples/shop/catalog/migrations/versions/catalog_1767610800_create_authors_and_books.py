"""Create authors and books

Revision ID: catalog_1767610800
Revises: -
Create Date: 2026-01-05 11:00:00
"""

import sqlalchemy as sa
from alembic import op

revision = "catalog_1767610800"
down_revision = None
branch_labels = ("catalog",)
depends_on = None


def upgrade():
    op.create_table(
        "authors",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("name", sa.String(100), nullable=False, unique=True),
    )
    op.create_table(
        "books",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("author_id", sa.Integer, sa.ForeignKey("authors.id"), nullable=False, index=True),
        sa.Column("isbn", sa.String(13), nullable=False, unique=True),
        sa.Column("title", sa.String(200), nullable=False),
        sa.Column("published_on", sa.Date),
        sa.Column("price", sa.Numeric(8, 2), nullable=False),
        sa.CheckConstraint("price >= 0", name="price_not_negative"),
    )


def downgrade():
    op.drop_table("books")
    op.drop_table("authors")
