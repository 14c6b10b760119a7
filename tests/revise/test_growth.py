"""Twice as many tables take about twice as many function calls, whatever changes."""

from __future__ import annotations

from collections.abc import Callable
from cProfile import Profile

import pytest
import sqlalchemy as sa
from comparing import compare, connected
from servers import Database

from ampho.revise.autogenerate.write.render import body

NUMBERS = (2, 8, 16, 32)
"""The first number of tables only fills the caches."""


def tables(number: int, prefix: str = "t") -> sa.MetaData:
    metadata = sa.MetaData(naming_convention={"ix": "ix_%(column_0_label)s", "fk": "fk_%(table_name)s"})
    for each in range(number):
        name = f"{prefix}{each}"
        sa.Table(
            name,
            metadata,
            sa.Column("id", sa.Integer, primary_key=True),
            sa.Column("parent_id", sa.ForeignKey(f"{prefix}{each // 2}.id")),
            sa.Column("state", sa.Enum("a", "b", name=f"{name}_state")),
            sa.Column(f"only_{each}", sa.Text),
            sa.Column("name", sa.String(50), index=True),
        )
    return metadata


CHANGES: dict[str, Callable[[int], tuple[sa.MetaData, sa.MetaData]]] = {
    "drop": lambda number: (tables(number), sa.MetaData()),
    "replace": lambda number: (tables(number), tables(number, "u")),
}


def calls(function: Callable[[], object]) -> int:
    """Return how many functions of Python a function calls."""
    profile = Profile(builtins=False)
    profile.runcall(function)
    return sum(entry.callcount for entry in profile.getstats())


@pytest.mark.usefixtures("unmeasured")
@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.drivers("postgresql+psycopg")
def test_the_work_grows_with_the_number_of_tables(database: Database, change: str) -> None:
    found: list[int] = []
    with connected(database) as connection:
        for number in NUMBERS:
            old, new = CHANGES[change](number)
            old.create_all(connection)
            connection.commit()

            def write(metadata: sa.MetaData = new) -> None:
                comparison = compare(connection, metadata)
                comparison.questions()
                body(comparison.packages["shop"])

            found.append(calls(write))
            connection.rollback()
            old.drop_all(connection)
            connection.commit()
    _, first, second, third = found
    assert third - second < 2.6 * (second - first), found
