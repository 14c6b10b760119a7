"""Foreign keys of MariaDB and their indexes: a key needs one at any time."""

from __future__ import annotations

import os
from itertools import permutations

import pytest
import sqlalchemy as sa
from comparing import compare, connected, run
from servers import Database
from sqlalchemy.engine import Connection

from ampho.revise.autogenerate.operations.describe import describe
from ampho.revise.autogenerate.write.render import body

STATES = ("key", "key ix", "key two", "key ix two", "key unique", "key redefined two", "", "ix", "unique")
FEW = (
    *(("key", "key ix"), ("key", "ix"), ("ix", "key")),
    *(("key two", "key unique"), ("key two", "key redefined two")),
)
PAIRS = [*permutations(STATES, 2)] if "AMPHO_MODELS" in os.environ else FEW


def tables(state: str) -> sa.MetaData:
    metadata = sa.MetaData()
    sa.Table("customers", metadata, sa.Column("id", sa.Integer, primary_key=True))
    key = [sa.ForeignKey("customers.id", name="orders_customer", ondelete="CASCADE")] if "key" in state else []
    customer: sa.Column[int] = sa.Column("customer_id", sa.Integer, *key)
    total: sa.Column[int] = sa.Column("total", sa.Integer)
    note: sa.Column[str] = sa.Column("note", sa.String(20))
    made = sa.Table("orders", metadata, sa.Column("id", sa.Integer, primary_key=True), customer, total, note)
    if "ix" in state:
        sa.Index("ix_orders_customer_id", customer)
        sa.Index("ix_orders_total", total)
    if "two" in state:
        sa.Index("ix_two", customer, note if "redefined" in state else total)
    if "unique" in state:
        made.append_constraint(sa.UniqueConstraint("customer_id", name="uq_orders"))
    return metadata


def indexes(connection: Connection) -> list[str]:
    found = sorted(str(index) for index in sa.inspect(connection).get_indexes("orders"))
    connection.rollback()
    return found


@pytest.mark.drivers("mariadb+pymysql")
def test_indexes_of_foreign_keys_change_in_both_directions(database: Database) -> None:
    with connected(database) as connection:
        for before, after in PAIRS:
            tables(before).create_all(connection)
            connection.commit()
            at_first = indexes(connection)
            found = compare(connection, tables(after)).packages["shop"]
            shown = " ".join(change.text for change in describe(found))
            written = body(found)

            for _ in range(2):
                run(connection, written.upgrades, written.imports)
                assert describe(compare(connection, tables(after)).packages["shop"]) == (), (before, after)
                run(connection, written.downgrades, written.imports)
                assert indexes(connection) == at_first, (before, after)
            assert ("foreign key" in shown) == (("key" in before) != ("key" in after)), (before, after)
            tables(before).drop_all(connection)
            connection.commit()


@pytest.mark.drivers("mariadb+pymysql")
def test_an_unnamed_key_keeps_its_index_in_a_renamed_table(database: Database) -> None:
    old, new = sa.MetaData(), sa.MetaData()
    for metadata, name in ((old, "carts"), (new, "baskets")):
        sa.Table("customers", metadata, sa.Column("id", sa.Integer, primary_key=True))
        key = sa.Column("customer_id", sa.ForeignKey("customers.id"), index=name == "baskets")
        sa.Table(name, metadata, sa.Column("id", sa.Integer, primary_key=True), key)
    with connected(database) as connection:
        old.create_all(connection)
        connection.commit()
        written = body(compare(connection, new, rename=["carts=baskets"]).packages["shop"])

        for _ in range(2):
            run(connection, written.upgrades, written.imports)
            assert describe(compare(connection, new).packages["shop"]) == ()
            run(connection, written.downgrades, written.imports)
            assert describe(compare(connection, old).packages["shop"]) == ()
