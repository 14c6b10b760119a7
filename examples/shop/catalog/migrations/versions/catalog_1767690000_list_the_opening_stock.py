"""List the opening stock

Revision ID: catalog_1767690000
Revises: catalog_1767610800
Create Date: 2026-01-06 09:00:00
"""

from decimal import Decimal

import sqlalchemy as sa
from alembic import op

revision = "catalog_1767690000"
down_revision = "catalog_1767610800"
branch_labels = None
depends_on = None

# The tables as they are here, and not the models, which go on changing.
authors = sa.table("authors", sa.column("id", sa.Integer), sa.column("name", sa.String))
books = sa.table(
    "books",
    sa.column("author_id", sa.Integer),
    sa.column("isbn", sa.String),
    sa.column("title", sa.String),
    sa.column("price", sa.Numeric(8, 2)),
)


def upgrade():
    op.bulk_insert(authors, [{"id": 1, "name": "Ursula K. Le Guin"}, {"id": 2, "name": "Italo Calvino"}])
    op.bulk_insert(
        books,
        [
            {"author_id": 1, "isbn": "9780141354910", "title": "A Wizard of Earthsea", "price": Decimal("8.99")},
            {"author_id": 1, "isbn": "9781473216068", "title": "The Dispossessed", "price": Decimal("9.99")},
            {"author_id": 2, "isbn": "9780099429838", "title": "Invisible Cities", "price": Decimal("10.99")},
        ],
    )


def downgrade():
    op.execute(books.delete().where(books.c.isbn.in_(["9780141354910", "9781473216068", "9780099429838"])))
    op.execute(authors.delete().where(authors.c.id.in_([1, 2])))
