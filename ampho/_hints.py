"""What to do about well-known messages of drivers and databases."""

from __future__ import annotations

_HINTS = (
    ("multiple commands into a prepared statement", "asyncpg runs one statement at a time: split it up"),
    ("database is locked", "another process is writing to it: wait until that ends, and run again"),
    ("attempt to write a readonly database", "this user may not write to the file or its folder"),
    ("unable to open database file", "check that the folder exists and that this user may write to it"),
    ("ALTER TYPE ... ADD cannot run inside a transaction", "put it into op.get_context().autocommit_block()"),
    ("unsafe use of new value", "add the value in op.get_context().autocommit_block(), so that it is committed first"),
    ("cannot run inside a transaction block", "put it into op.get_context().autocommit_block()"),
    ("No support for ALTER of constraints in SQLite", "use op.batch_alter_table()"),
    (
        "Constraint must have a name",
        "name it here and in the model, or give the metadata a naming_convention before it is written",
    ),
    *(
        (words, "give the column a server_default, or add it nullable, fill it, and then make it NOT NULL")
        for words in ("Cannot add a NOT NULL column with default value NULL", "contains null values")
    ),
    ("got multiple values for keyword argument", "give it to environment.options(), and not to configure() as well"),
    ("value too long for type character varying(32)", "the version table takes ids of 32 characters at most"),
)


def with_hint(text: str) -> str:
    """Add what to do about a message, where that is known."""
    lowered = text.lower()
    for part, remedy in _HINTS:
        if part.lower() in lowered:
            return f"{text} ({remedy})"
    return text
