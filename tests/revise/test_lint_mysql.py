"""Which ALTER TABLE blocks writes or rebuilds the table: as the server itself says, and as the manuals say."""

from __future__ import annotations

import ast
from contextlib import suppress

import pytest
from servers import Database
from sqlalchemy import Connection, text
from sqlalchemy.exc import DBAPIError

from ampho.revise.lint.mysql import found_in
from ampho.revise.lint.statements import Server, Statement

TABLES = (
    "CREATE TABLE p (id INT PRIMARY KEY)",
    (
        "CREATE TABLE t (id INT PRIMARY KEY, a INT NULL, b VARCHAR(50) NULL, n INT NOT NULL DEFAULT 0, v VARCHAR(300),"
        " e ENUM('x','y'), s VARCHAR(20), d DATETIME NULL, ch CHAR(10), txt TEXT, m DECIMAL(10,2),"
        " p_id INT, u INT UNSIGNED, KEY ia (a), KEY ib (b), CONSTRAINT ck CHECK (n >= 0))"
    ),
)
PLAIN = """\
ADD COLUMN x INT
ADD COLUMN x INT NOT NULL
ADD COLUMN x INT NOT NULL DEFAULT 5
ADD x INT
ADD COLUMN x VARCHAR(20) DEFAULT 'a' FIRST
ADD COLUMN x INT AFTER a
ADD COLUMN x DATETIME DEFAULT now()
ADD COLUMN x VARCHAR(36) DEFAULT uuid()
ADD COLUMN x VARCHAR(36) DEFAULT (uuid())
ADD COLUMN x INT AUTO_INCREMENT UNIQUE
ADD COLUMN x INT AS (a + 1) STORED
ADD COLUMN x INT GENERATED ALWAYS AS (a + 1) PERSISTENT
ADD COLUMN x INT AS (a + 1) VIRTUAL
ADD COLUMN x INT UNIQUE
ADD COLUMN x INT CHECK (x > 1)
ADD COLUMN x INT COMMENT 'stored, unique', ADD COLUMN y DECIMAL(10, 2)
DROP COLUMN b
DROP COLUMN d
DROP d
ALTER COLUMN a SET DEFAULT 5
ALTER COLUMN n DROP DEFAULT
RENAME COLUMN b TO bb
ADD INDEX ix (d)
ADD KEY ix (d, a)
ADD UNIQUE INDEX ux (d)
ADD CONSTRAINT uq UNIQUE (d)
ADD FULLTEXT INDEX fx (txt)
DROP INDEX ia
RENAME INDEX ia TO iaa
ADD CONSTRAINT fk FOREIGN KEY (p_id) REFERENCES p (id)
ADD FOREIGN KEY (p_id) REFERENCES p (id)
ADD CONSTRAINT ck2 CHECK (n < 100)
ADD CHECK (n IN (1, 2, 3))
DROP CONSTRAINT ck
DROP PRIMARY KEY
DROP PRIMARY KEY, ADD PRIMARY KEY (id, n)
CONVERT TO CHARACTER SET utf8mb3
DEFAULT CHARACTER SET utf8mb3
COMMENT 'x'
AUTO_INCREMENT = 100
ENGINE=InnoDB
ENGINE = MyISAM
FORCE
ADD SYSTEM VERSIONING
ADD COLUMN x INT, ADD INDEX ix (d)
""".splitlines()
CALLS = {
    "MODIFY b VARCHAR(100) NULL": "existing_type=sa.String(50), type_=sa.String(100)",
    "MODIFY b VARCHAR(60) NULL": "existing_type=sa.String(50), type_=sa.String(60)",
    "MODIFY s VARCHAR(200) NULL": "existing_type=sa.String(20), type_=sa.String(200)",
    "MODIFY v VARCHAR(400) NULL": "existing_type=sa.String(300), type_=sa.String(400)",
    "MODIFY b VARCHAR(300) NULL": "existing_type=sa.String(50), type_=sa.String(300)",
    "MODIFY b VARCHAR(20) NULL": "existing_type=sa.String(50), type_=sa.String(20)",
    "MODIFY b TEXT": "existing_type=sa.String(50), type_=sa.Text()",
    "MODIFY b CHAR(50)": "existing_type=sa.String(50), type_=sa.CHAR(50)",
    "MODIFY ch CHAR(20)": "existing_type=sa.CHAR(10), type_=sa.CHAR(20)",
    "MODIFY a BIGINT NULL": "existing_type=sa.Integer(), type_=sa.BigInteger()",
    "MODIFY a SMALLINT NULL": "existing_type=mysql.INTEGER(display_width=11), type_=sa.SmallInteger()",
    "MODIFY a INT NULL": "existing_type=mysql.INTEGER(), type_=sa.Integer()",
    "MODIFY u INT NULL": "existing_type=mysql.INTEGER(unsigned=True), type_=mysql.INTEGER()",
    "MODIFY d TIMESTAMP NULL": "existing_type=sa.DateTime(), type_=sa.TIMESTAMP()",
    "MODIFY m DECIMAL(12, 2) NULL": "existing_type=sa.Numeric(10, 2), type_=sa.Numeric(12, 2)",
    "MODIFY e ENUM('x', 'y', 'z')": "existing_type=sa.Enum('x', 'y'), type_=sa.Enum('x', 'y', 'z')",
    "MODIFY e ENUM('z', 'x', 'y')": "existing_type=sa.Enum('x', 'y'), type_=sa.Enum('z', 'x', 'y')",
    "MODIFY a INT NOT NULL": "existing_type=sa.Integer(), nullable=False",
    "MODIFY n INT NULL DEFAULT 0": "existing_type=sa.Integer(), nullable=True",
    "MODIFY n INT NOT NULL DEFAULT 0": "existing_type=sa.Integer(), nullable=False, existing_nullable=False",
    "MODIFY a INT NULL COMMENT 'x'": "existing_type=sa.Integer(), comment='x'",
    "CHANGE b bb VARCHAR(50) NULL": "existing_type=sa.String(50), new_column_name='bb'",
    "CHANGE b bb TEXT NULL": "existing_type=sa.String(50), type_=sa.Text(), new_column_name='bb'",
    "MODIFY a INT NULL FIRST": "existing_type=sa.Integer(), mysql_first=True",
}


def effect(sql: str, version: tuple[int, ...], *, call: str = "", mariadb: bool = True, earlier: str = "") -> str:
    """What is expected of a statement: ``blocks``, ``rebuilds``, or nothing."""
    alters = ()
    if call:
        node = ast.parse(f"op.alter_column('t', 'c', {call})", mode="eval").body
        assert isinstance(node, ast.Call)
        alters = (node,)
    bare = sql.replace("'stored, unique'", "''")
    server = Server("mariadb" if mariadb else "mysql", version)
    found = found_in(Statement(bare, sql, 1, alters=alters), [Statement(earlier, earlier, 1)], server)
    return next(("blocks" if each.rule == "blocks-writes" else "rebuilds" for each in found), "")


def tried(connection: Connection, alter: str) -> str:
    """What the server says of a statement, by refusing what it cannot do that way."""
    for how, name in (("ALGORITHM=NOCOPY, LOCK=NONE", ""), ("LOCK=NONE", "rebuilds")):
        with suppress(DBAPIError):
            connection.execute(text(f"ALTER TABLE t {alter}, {how}"))
            return name
    return "blocks"


@pytest.mark.drivers("mariadb+pymysql")
def test_the_rules_say_what_the_server_says(database: Database) -> None:
    expected, said = dict[str, str](), dict[str, str]()
    with database.connect() as connection:
        version = tuple(map(int, connection.dialect.server_version_info or ()))
        for alter, call in {**dict.fromkeys(PLAIN, ""), **CALLS}.items():
            for statement in ("DROP TABLE IF EXISTS t, p", *TABLES):
                connection.execute(text(statement))
            expected[alter] = effect(f"ALTER TABLE t {alter}", version, call=call)
            said[alter] = tried(connection, alter)
    assert expected == said
    assert {*said.values()} == {"", "rebuilds", "blocks"}


# By version: MariaDB 10.3, 10.4, 11.4; MySQL 5.7, 8.0.11, 8.0.28, 8.4. The sources are in docs/commands.md.
VERSIONS = ((10, 3, 39), (10, 4, 30), (11, 4, 2)), ((5, 7, 40), (8, 0, 11), (8, 0, 28), (8, 4, 0))
BY_VERSION = {
    "ADD COLUMN x INT": "- - - | r r - -",
    "ADD COLUMN x INT AFTER a": "r - - | r r r -",
    "DROP COLUMN x": "r - - | r r r -",
    "ADD COLUMN x INT AS (a) STORED": "b b r | b b b b",
    "ADD COLUMN x INT AUTO_INCREMENT": "b b b | b b b b",
    "ADD INDEX i (a)": "- - - | - - - -",
    "ADD FULLTEXT INDEX i (a)": "b b b | b b b b",
    "ADD CHECK (a > 1)": "b b r | - - b b",
    "ADD FOREIGN KEY (a) REFERENCES p (id)": "b b r | b b b b",
    "CONVERT TO CHARACTER SET utf8mb4": "b b r | b b b b",
    "FORCE": "r r r | r r r r",
    "ORDER BY a": "b b r | b b b b",
    "REMOVE PARTITIONING": "b b r | b b b b",
    "DROP SYSTEM VERSIONING": "b b b | b b b b",
    "MODIFY a BIGINT": "b b r | b b b b",
    "ADD INDEX i (a), ADD COLUMN x INT": "r r r | r r r r",
}
CALLS_BY_VERSION = {
    "existing_type=sa.String(20), type_=sa.String(40)": "- - - | - - - -",
    "existing_type=sa.String(50), type_=sa.String(100)": "b b r | b b b b",
    "existing_type=sa.String(20), type_=sa.String(100)": "b - - | b b b b",
    "existing_type=sa.String(100), type_=sa.String(200)": "- - - | - - - -",
    "existing_type=sa.Enum('a'), type_=sa.Enum('a', 'b')": "- - - | - - - -",
    "existing_type=sa.Enum(*VALUES), type_=sa.Enum('a', 'b')": "b b r | b b b b",
    "existing_type=sa.Integer(), nullable=False": "r r r | r r r r",
    "existing_type=sa.Integer(), mysql_first=True": "r - - | r r r r",
    "type_=sa.Integer()": "b b r | b b b b",
}


def by_version(sql: str, call: str = "") -> str:
    letters = {"": "-", "rebuilds": "r", "blocks": "b"}
    kinds = (
        " ".join(letters[effect(sql, version, call=call, mariadb=mariadb)] for version in versions)
        for mariadb, versions in zip((True, False), VERSIONS, strict=True)
    )
    return " | ".join(kinds)


def test_versions_differ_as_the_manuals_say() -> None:
    assert {alter: by_version(f"ALTER TABLE t {alter}") for alter in BY_VERSION} == BY_VERSION
    modify = "ALTER TABLE t MODIFY a INT FIRST"
    assert {call: by_version(modify if "first" in call else modify[:-6], call) for call in CALLS_BY_VERSION} == (
        CALLS_BY_VERSION
    )


@pytest.mark.parametrize(
    ("sql", "earlier", "expected"),
    [
        ("ALTER TABLE t MODIFY a BIGINT, LOCK=NONE", "", ""),
        ("ALTER ONLINE TABLE t MODIFY a BIGINT", "", ""),
        ("ALTER TABLE t FORCE, LOCK=NONE", "", "rebuilds"),
        ("ALTER TABLE t FORCE, ALGORITHM=NOCOPY", "", ""),
        ("ALTER TABLE t ADD FOREIGN KEY (a) REFERENCES p (id)", "SET foreign_key_checks=0", ""),
        ("ALTER TABLE t ADD FOREIGN KEY (a) REFERENCES p (id)", "SET SESSION foreign_key_checks = ON", "blocks"),
        ("CREATE FULLTEXT INDEX i ON t (a)", "", "blocks"),
        ("CREATE INDEX i ON t (a)", "", ""),
        ("OPTIMIZE TABLE t", "", "rebuilds"),
        ("UPDATE t SET a = 1", "", ""),
    ],
)
def test_clauses_that_make_the_server_refuse_count(sql: str, earlier: str, expected: str) -> None:
    assert effect(sql, (10, 11), earlier=earlier) == expected
