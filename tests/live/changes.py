"""The ten changes of the guide "Changes without downtime": what apps do with a row, and the change in one revision.

The models and revisions of :data:`CHANGES` are those of the page.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from textwrap import dedent
from typing import TypeAlias

from documents import ROOT, blocks

PAGE = ROOT / "docs" / "zero-downtime.md"
RELEASE, REVISION = "release", "revision"
Code: TypeAlias = tuple[str, str]
TRIGGERS, RETRY = "shop/triggers.py", "shop/retry.py"


@dataclass(frozen=True)
class Release:
    """A release of the app.

    :ivar models: its classes.
    :ivar put: a statement that writes ``value``, a number as text, to ``row``.
    :ivar get: an expression that reads it.
    """

    models: str
    put: str
    get: str


@dataclass(frozen=True)
class Change:
    """A change of a table with rows.

    :ivar row: the class that requests read and write.
    :ivar fill: statements that make the rows; row ``i`` has the value ``i``.
    :ivar revisions: how the guide does it.
    :ivar naive: the same as one revision.
    """

    name: str
    row: str
    fill: tuple[str, ...]
    old: Release
    new: Release
    revisions: tuple[str, ...]
    naive: str

    @property
    def table(self) -> str:
        return self.row.lower()


def _read() -> tuple[dict[str, str], dict[str, list[str]]]:
    releases, revisions = dict[str, str](), defaultdict[str, list[str]](list)
    for block in blocks(PAGE):
        word, name = block.note
        if word == RELEASE:
            releases[name] = block.text
        elif word == REVISION:
            revisions[name.partition(" ")[0]].append(block.text)
    return releases, revisions


RELEASES, REVISIONS = _read()


def _change(name: str, row: str, *, fill: tuple[str, ...], old: Code, new: Code, naive: str) -> Change:
    return Change(
        name,
        row,
        fill,
        Release(RELEASES[f"{name} old"], *old),
        Release(RELEASES[f"{name} new"], *new),
        tuple(REVISIONS[name]),
        dedent(naive).strip(),
    )


CHANGES = {
    change.name: change
    for change in (
        _change(
            "rename",
            "Member",
            fill=("INSERT INTO member (name) SELECT concat('Member ', i) FROM {numbers}",),
            old=("row.name = 'Member ' + value", "row.name.partition(' ')[2]"),
            new=("row.full_name = 'Member ' + value", "row.full_name.partition(' ')[2]"),
            naive="""op.alter_column("member", "name", new_column_name="full_name", existing_type=sa.String(100))""",
        ),
        _change(
            "type",
            "Product",
            fill=("INSERT INTO product (price) SELECT concat(i, '.00') FROM {numbers}",),
            old=("row.price = value + '.00'", "row.price.removesuffix('.00')"),
            new=("row.price = Decimal(value)", "str(int(row.price))"),
            naive="""
            op.alter_column(
                "product", "price", new_column_name="amount", existing_type=sa.String(20), existing_nullable=False
            )
            op.alter_column(
                "product",
                "amount",
                existing_nullable=False,
                type_=sa.Numeric(10, 2),
                postgresql_using="amount::numeric(10, 2)",
            )
            """,
        ),
        _change(
            "not_null",
            "Member",
            fill=("INSERT INTO member (name) SELECT i FROM {numbers}",),
            old=("row.name = value", "row.name"),
            new=("row.name = value", "row.name"),
            naive="""
            op.execute("UPDATE member SET phone = '' WHERE phone IS NULL")
            op.alter_column("member", "phone", existing_type=sa.String(20), nullable=False)
            """,
        ),
        _change(
            "split",
            "Customer",
            fill=("INSERT INTO customer (street, city) SELECT concat(i, ' Elm Street'), 'Oslo' FROM {numbers}",),
            old=("row.street = value + ' Elm Street'; row.city = 'Oslo'", "row.street.partition(' ')[0]"),
            new=(
                "row.address = row.address or shop.Address(); row.address.street = value + ' Elm Street'",
                "row.address.street.partition(' ')[0]",
            ),
            naive="""
            op.create_table(
                "address",
                sa.Column(
                    "customer_id", sa.Integer, sa.ForeignKey("customer.id"), primary_key=True, autoincrement=False
                ),
                sa.Column("street", sa.String(100), nullable=False),
                sa.Column("city", sa.String(100)),
            )
            op.execute("INSERT INTO address SELECT id, street, city FROM customer WHERE street IS NOT NULL")
            op.drop_column("customer", "street")
            op.drop_column("customer", "city")
            """,
        ),
        _change(
            "drop",
            "Member",
            fill=("INSERT INTO member (name, fax) SELECT i, '' FROM {numbers}",),
            old=("row.name = value; row.fax = ''", "row.name"),
            new=("row.name = value", "row.name"),
            naive="""op.drop_column("member", "fax")""",
        ),
        _change(
            "enum",
            "Ticket",
            fill=("INSERT INTO ticket (title, status) SELECT i, 'closed' FROM {numbers}",),
            old=("row.title = value; row.status = 'open'", "row.title"),
            new=("row.title = value; row.status = 'open'", "row.title"),
            naive="""
            if op.get_context().dialect.name == "postgresql":
                with op.get_context().autocommit_block():
                    op.execute("ALTER TYPE status ADD VALUE 'archived'")
            else:
                op.alter_column(
                    "ticket", "status", existing_nullable=False, type_=sa.Enum("open", "closed", "archived")
                )
            op.execute("UPDATE ticket SET status = 'archived' WHERE status = 'closed'")
            """,
        ),
        _change(
            "key",
            "Invoice",
            fill=(
                "INSERT INTO customer (name) SELECT i FROM {numbers} WHERE i <= 100",
                "INSERT INTO invoice (customer_id, text) SELECT 1 + i % 100, i FROM {numbers}",
            ),
            old=("row.customer_id = 1 + int(value) % 100; row.text = value", "row.text"),
            new=("row.customer_id = 1 + int(value) % 100; row.text = value", "row.text"),
            naive="""
            op.create_foreign_key("fk_invoice_customer_id_customer", "invoice", "customer", ["customer_id"], ["id"])
            """,
        ),
        _change(
            "index",
            "Invoice",
            fill=("INSERT INTO invoice (text) SELECT i FROM {numbers}",),
            old=("row.text = value", "row.text"),
            new=("row.text = value", "row.text"),
            naive="""op.create_index("ix_invoice_text", "invoice", ["text"])""",
        ),
        _change(
            "default",
            "Member",
            fill=("INSERT INTO member (name) SELECT i FROM {numbers}",),
            old=("row.name = value", "row.name"),
            new=("row.name = value", "row.name if row.is_active else ''"),
            naive="""
            op.add_column("member", sa.Column("is_active", sa.Boolean))
            op.execute("UPDATE member SET is_active = true")
            op.alter_column("member", "is_active", existing_type=sa.Boolean, nullable=False)
            """,
        ),
        _change(
            "move",
            "Member",
            fill=(
                "INSERT INTO member (theme) SELECT i FROM {numbers}",
                "INSERT INTO settings (member_id, language) SELECT id, 'en' FROM member",
            ),
            old=("row.settings = row.settings or shop.Settings(); row.theme = value", "row.theme"),
            new=("row.settings = row.settings or shop.Settings(); row.settings.theme = value", "row.settings.theme"),
            naive="""
            op.add_column("settings", sa.Column("theme", sa.String(100)))
            op.execute("UPDATE settings SET theme = (SELECT theme FROM member WHERE id = member_id)")
            op.drop_column("member", "theme")
            """,
        ),
    )
}
