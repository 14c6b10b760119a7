"""How a statement is shown: what it says, and none of its values."""

from __future__ import annotations

import pytest
from sqlalchemy import make_url

from ampho.database.statement import Statement

URLS = {
    "postgresql": make_url("postgresql+psycopg://shop:s3cret-word@db/shop"),
    "mysql": make_url("mysql+pymysql://shop:s3cret-word@db/shop"),
}


@pytest.mark.parametrize(
    ("backend", "sql", "shown"),
    [
        ("postgresql", "UPDATE t SET a = %(a)s\n  WHERE id = $1", "UPDATE t SET a = %(a)s WHERE id = $1"),
        ("postgresql", "UPDATE t SET a = 'hidden', b = 'it''s hidden'", "UPDATE t SET a = '...', b = '...'"),
        ("postgresql", "-- don't\nSELECT 'hidden' /* it's */ FROM t", "SELECT '...' FROM t"),
        ("postgresql", "SELECT '-- no comment', 'hidden'", "SELECT '...', '...'"),
        ("postgresql", "DO $$ SELECT 'hidden' $$; SELECT $a$hidden $$ too$a$", "DO '...'; SELECT '...'"),
        ("postgresql", 'SELECT "it\'s", \'hidden\' FROM "t"', 'SELECT "it\'s", \'...\' FROM "t"'),
        ("postgresql", r"SELECT E'\'', 'hidden'", "SELECT E'...'"),
        ("postgresql", "SELECT 'hidden", "SELECT '...'"),
        ("postgresql", "ALTER ROLE shop PASSWORD s3cret-word", "ALTER ROLE shop PASSWORD ***"),
        (
            "mysql",
            'SELECT "hidden" FROM `it\'s` # don\'t\nWHERE a = "hid""den"',
            "SELECT '...' FROM `it's` WHERE a = '...'",
        ),
        ("mysql", r"SELECT 'C:\\', 'hidden', '\'hidden'", "SELECT '...'"),
    ],
)
def test_literals_comments_and_passwords_are_left_out(backend: str, sql: str, shown: str) -> None:
    assert str(Statement(sql, URLS[backend])) == shown


def test_a_long_one_is_cut() -> None:
    statement = Statement(f"SELECT {', '.join(['a'] * 1000)}", URLS["postgresql"])
    assert len(str(statement)) == 500
    assert repr(statement).startswith("<Statement SELECT a, a")
