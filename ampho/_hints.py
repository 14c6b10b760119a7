"""What to do about well-known messages of Python, Alembic, SQLAlchemy, drivers and databases."""

from __future__ import annotations

import re
from collections.abc import Mapping

_ONE_STATEMENT = "one statement at a time: call op.execute() once for each"
_AUTOCOMMIT = "put it into op.get_context().autocommit_block()"
_NO_VALUE = "give the column a server_default, or fill it first and make it NOT NULL then"
_DRIVERS = "psycopg|psycopg2|asyncpg|pg8000|pymysql|asyncmy|aiomysql|MySQLdb|mysql|mariadb|aiosqlite|pyodbc|oracledb"

_HINTS: Mapping[str, str] = {
    # The database URL
    r"Can't load plugin: sqlalchemy\.dialects:postgres\b(?!ql)": "the dialect is called postgresql, as in"
    " postgresql+psycopg:// for Flask and postgresql+asyncpg:// for Quart",
    r"No module named 'MySQLdb'": "mysql:// means the driver mysqlclient: name mysql+pymysql:// instead, whose driver"
    " comes with pip install 'ampho[mysql]'",
    r"No module named 'psycopg2'": "postgresql:// means the driver psycopg2: name postgresql+psycopg:// instead, whose"
    " driver comes with pip install 'ampho[postgres]'",
    rf"No module named '({_DRIVERS})'": "the database URL names a driver that is not installed: install it, or name"
    " another one, as in postgresql+psycopg://",
    # SQL
    r"A value is required for bind parameter": r"a colon before a name makes a parameter of it: write \: for a colon"
    r" that belongs to the SQL, in a raw string such as r'...'",
    r"multiple commands into a prepared statement": f"asyncpg runs {_ONE_STATEMENT}",
    r"You can only execute one statement at a time": f"SQLite runs {_ONE_STATEMENT}",
    r"error in your SQL syntax.*\[SQL: [^]]*;\s*\w": f"if these are several statements: PyMySQL runs {_ONE_STATEMENT}",
    r"schema \"?[^ ]+ does not exist": "create it in an earlier statement: op.execute('CREATE SCHEMA IF NOT EXISTS"
    " NAME')",
    r"OperationalError: unknown database": "SQLite has no schemas: leave out schema=, or attach a database of that name"
    " on each connect",
    r"Unknown database '": "here a schema is a database of the server: create it first, with CREATE DATABASE",
    r"(table|relation) [^ ]+ already exists.*\[SQL: \s*CREATE TABLE": "if it is right as it is, as a table from before"
    " the migrations, 'ampho db-stamp' marks the revision as applied without running it",
    # Locks and files
    r"database is locked": "another process is writing to it: wait until that ends, and run again",
    r"attempt to write a readonly database": "this user may not write to the file or its folder",
    r"unable to open database file": "check that the folder exists and that this user may write to it",
    # Transactions
    r"ALTER TYPE \.\.\. ADD cannot run inside a transaction": _AUTOCOMMIT,
    r"unsafe use of new value": "add the value in op.get_context().autocommit_block(), so that it is committed first",
    r"cannot run inside a transaction block": _AUTOCOMMIT,
    r"This Connection is closed": "op.get_bind() is for Ampho to close: leave out close(), and 'with op.get_bind()'",
    # Event loops
    r"from a running event loop|another loop is running|event loop is already running|Already running asyncio": "await"
    " in op.run_async(), or make it 'async def upgrade()'",
    # Constraints
    r"No support for ALTER of constraints in SQLite": "use op.batch_alter_table()",
    r"Constraint must have a name": "name it here and in the model, or give the metadata a naming_convention before it"
    " is written",
    r"Can't emit DROP CONSTRAINT .* it has no name|AssertionError: raised in format_constraint": "give the name that it"
    " has in the database, and name those of the models, or give their metadata a naming_convention",
    r"Cannot add a NOT NULL column with default value NULL": _NO_VALUE,
    r"contains null values": _NO_VALUE,
    r"NOT NULL constraint failed: _alembic_tmp_": _NO_VALUE,
    r"(Data truncated|Invalid use of NULL).*\[SQL: ALTER TABLE [^]]* NOT NULL": _NO_VALUE,
    # env.py
    r"got multiple values for keyword argument": "give it to environment.options(), and not to configure() as well",
    r"value too long for type character varying\(32\)": "the version table takes ids of 32 characters at most",
}


def with_hint(text: str) -> str:
    """Add what to do about a message, where that is known."""
    for pattern, remedy in _HINTS.items():
        if re.search(pattern, text, re.IGNORECASE):
            return f"{text} ({remedy})"
    return text
