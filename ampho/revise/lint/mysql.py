"""What an ``ALTER TABLE`` does to a table of InnoDB: whether it blocks writes, or rebuilds a table that is in use.

The rules follow the manuals: "InnoDB Online DDL Operations" with INSTANT, NOCOPY, and INPLACE, and "Online Schema
Change" of MariaDB, and "Online DDL Operations" of MySQL 5.7, 8.0, and 8.4. A test compares them with a MariaDB server.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from typing import NamedTuple

from ampho.history.losses import argument, limit, string, type_name
from ampho.history.sql import NAME
from ampho.revise.lint.report import BLOCKS_WRITES, REBUILDS_TABLE, REPLACE_HELP, Found
from ampho.revise.lint.statements import Server, Statement

_TABLE = re.compile(rf"\s*ALTER\s+(?:ONLINE\s+)?(?:IGNORE\s+)?TABLE\s+(?:IF\s+EXISTS\s+)?{NAME}\s+", re.IGNORECASE)
_CREATES_INDEX = re.compile(r"\s*CREATE\s+(?:OR\s+REPLACE\s+)?(?P<kind>FULLTEXT|SPATIAL)\s+INDEX\s", re.IGNORECASE)
_ADDS_BOTH = re.compile(
    r"\s*ALTER\b(?=.*\b(?:ADD|DROP)\s+COLUMN\b)(?=.*\bADD\s+(?:UNIQUE\s+)?(?:INDEX|KEY)\b)", re.IGNORECASE | re.DOTALL
)
_OPTIMIZES = re.compile(r"\s*OPTIMIZE\s+TABLE\s", re.IGNORECASE)
_CLAUSES = re.compile(r",(?![^()]*\))")
_UNCHECKED = re.compile(r"\s*SET\s+(?:SESSION\s+|@@(?:SESSION\.)?)?FOREIGN_KEY_CHECKS\s*(:?=)\s*(?P<on>\w+)", re.I)

_CHECK_ROWS = "Check the rows. Then run SET foreign_key_checks=0 before the statement, and add ALGORITHM={}, LOCK=NONE."
_SWAP = "Fill a new table in batches, and swap the tables."

_TEXTS = {"STRING": "VARCHAR", "UNICODE": "VARCHAR", "NVARCHAR": "VARCHAR", "UNICODETEXT": "TEXT"}
_INTS = {"INTEGER": "INT", "BIGINTEGER": "BIGINT", "SMALLINTEGER": "SMALLINT", "BOOLEAN": "BOOL", "NUMERIC": "DECIMAL"}
_SIZELESS = ("INT", "BIGINT", "SMALLINT", "TINYINT", "MEDIUMINT", "BOOL", "DATE", "TEXT", "JSON", "DOUBLE", "FLOAT")
_BYTES = 4  # of a character in utf8mb4


class _Effect(NamedTuple):
    how: str  # COPY, LOCK, or REBUILD
    what: str
    help: str = ""


def found_in(statement: Statement, earlier: list[Statement], server: Server) -> Iterator[Found]:
    """Yield what a statement does to a table, if it blocks writes, or rebuilds the table while it is in use."""
    bare = statement.bare.upper()
    effects = list(_effects(statement, earlier, server))
    if re.search(r"LOCK\s*=?\s*NONE|ALTER\s+ONLINE\s", bare):
        effects = [each for each in effects if each.how == "REBUILD"]  # the server refuses it rather than blocking
    if not effects or re.search(r"ALGORITHM\s*=?\s*(?:INSTANT|NOCOPY)", bare):
        return
    worst = next((each for each in effects if each.how != "REBUILD"), effects[0])
    copies_online = worst.how == "COPY" and server.is_mariadb and server.version >= (11, 2)
    if worst.how == "REBUILD" or copies_online:
        message = f"It {worst.what}, which rebuilds the table: the app can use it, but replicas lag behind."
        remedy = worst.help or "Do it when there is little traffic, with ALGORITHM=INPLACE, LOCK=NONE."
        yield Found(REBUILDS_TABLE, message, remedy)
    else:
        how = "copies the table, and blocks writes" if worst.how == "COPY" else "blocks writes"
        yield Found(
            BLOCKS_WRITES,
            f"It {worst.what}, which {how} until it is done.",
            worst.help or REPLACE_HELP.format("column"),
        )


def _effects(statement: Statement, earlier: list[Statement], server: Server) -> Iterator[_Effect]:
    """Yield what the parts of a statement do, for those parts that are not instant."""
    bare = statement.bare
    if index := _CREATES_INDEX.match(bare):
        yield _index(index["kind"])
    elif _OPTIMIZES.match(bare):
        yield _Effect("REBUILD", "optimizes the table")
    table = _TABLE.match(bare)
    if _ADDS_BOTH.match(bare):
        yield _Effect("REBUILD", "changes columns and indexes together", "Use a statement for each.")
    for clause in _CLAUSES.split(bare[table.end() :]) if table else ():
        words = " ".join(clause.upper().split())
        if words.startswith("ADD"):
            yield from _added(words, earlier, server)
        elif words.startswith("DROP"):
            yield from _dropped(words, bare.upper(), server)
        elif words.startswith(("MODIFY", "CHANGE ")):
            yield from _modified(statement, words, server)
        else:
            yield from _of_table(words)


def _index(kind: str) -> _Effect:
    return _Effect("LOCK", f"adds a {kind.upper()} index", "Do it when nothing writes, or on a copy of the table.")


def _added(words: str, earlier: list[Statement], server: Server) -> Iterator[_Effect]:
    if index := re.match(r"ADD (FULLTEXT|SPATIAL)\b", words):
        yield _index(index[1])
    elif re.match(r"ADD (?:CONSTRAINT (?:\S+ )?)?FOREIGN KEY", words):
        if checks_keys(earlier):
            remedy = _CHECK_ROWS.format("NOCOPY" if server.is_mariadb else "INPLACE")
            yield _Effect("COPY", "adds a foreign key", remedy)
    elif re.match(r"ADD (?:CONSTRAINT (?:\S+ )?)?CHECK\b", words):
        if server.is_mariadb or server.version >= (8, 0, 16):  # MySQL ignored the constraint before
            yield _Effect("COPY", "adds a check constraint", "Check the values in the app, or stop the app.")
    elif re.match(r"ADD (?:CONSTRAINT (?:\S+ )?)?PRIMARY KEY", words):
        yield _Effect("REBUILD", "adds a primary key")
    elif re.match(r"ADD (?:CONSTRAINT|UNIQUE|INDEX|KEY)\b|ADD PARTITION\b", words):
        pass  # done in place, while the app reads and writes
    elif "SYSTEM VERSIONING" in words:
        how = "LOCK" if server.is_mariadb else "COPY"
        yield _Effect(how, "adds system versioning", "Stop the app, or version a new table.")
    else:
        yield from _added_column(words, server)


def _added_column(words: str, server: Server) -> Iterator[_Effect]:
    is_instant = server.is_since((10, 3, 2), (8, 0, 12))
    is_anywhere = server.is_since((10, 4), (8, 0, 29))
    if re.search(r"\bAS \(.*\) ?(?:STORED|PERSISTENT)\b", words):
        yield _Effect("COPY", "adds a stored column", "Make the column VIRTUAL, or fill an ordinary column in batches.")
    elif "AUTO_INCREMENT" in words:
        yield _Effect("LOCK", "adds an AUTO_INCREMENT column", _SWAP)
    elif re.search(r"\bDEFAULT ?\(? ?(?:UUID|RAND|RANDOM_BYTES|SYS_GUID|NEXTVAL|NEXT VALUE)\b", words):
        remedy = "Add the column without a default, fill it in batches, and then set the default."
        yield _Effect("COPY", "adds a column with a different value for each row", remedy)
    elif re.search(r"\b(?:UNIQUE|PRIMARY KEY)\b", words):
        yield _Effect("REBUILD", "adds a column with an index", "Add the column first, and then the index.")
    elif not is_instant or (re.search(r" (?:FIRST|AFTER \S+)$", words) and not is_anywhere):
        remedy = "Add it as the last column." if is_instant else ""
        yield _Effect("REBUILD", "adds a column", remedy)


def checks_keys(earlier: list[Statement]) -> bool:
    """Return whether a new foreign key is checked: whether earlier statements leave ``foreign_key_checks`` on."""
    settings = [found["on"].upper() for each in earlier if (found := _UNCHECKED.match(each.bare))]
    return not settings or settings[-1] not in ("0", "OFF")


def _dropped(words: str, bare: str, server: Server) -> Iterator[_Effect]:
    if words.startswith("DROP PRIMARY KEY"):
        if re.search(r"\bADD\s+(?:CONSTRAINT\s+(?:\S+\s+)?)?PRIMARY\s+KEY\b", bare):
            yield _Effect("REBUILD", "replaces the primary key")
        else:
            yield _Effect("COPY", "drops the primary key", "Add the new primary key in the same ALTER TABLE.")
    elif "SYSTEM VERSIONING" in words:
        yield _Effect("LOCK", "drops system versioning", "Stop the app.")
    elif re.match(r"DROP (?:INDEX|KEY|FOREIGN KEY|CONSTRAINT|CHECK|PARTITION)\b", words):
        pass
    elif not server.is_since((10, 4), (8, 0, 29)):
        yield _Effect("REBUILD", "drops a column")


def _of_table(words: str) -> Iterator[_Effect]:
    if words.startswith("CONVERT TO"):
        yield _Effect("COPY", "converts the table to another character set", _SWAP)
    elif re.match(r"(?:REMOVE PARTITIONING|PARTITION BY|COALESCE PARTITION|REORGANIZE PARTITION)", words):
        yield _Effect("COPY", "changes the partitions", _SWAP)
    elif engine := re.match(r"ENGINE ?=? ?(\w+)", words):
        is_same = engine[1] == "INNODB"
        yield _Effect("REBUILD", "sets ENGINE=InnoDB") if is_same else _Effect("COPY", "changes the engine", _SWAP)
    elif re.match(r"FORCE\b|ROW_FORMAT\b|KEY_BLOCK_SIZE\b", words):
        yield _Effect("REBUILD", "changes the format of the rows")
    elif words.startswith("ORDER BY"):
        yield _Effect("COPY", "sorts the rows", "Leave it out: InnoDB sorts the rows by the primary key.")


def _modified(statement: Statement, words: str, server: Server) -> Iterator[_Effect]:
    """Yield the effect of ``MODIFY`` or ``CHANGE``, which the call of ``alter_column()`` says more about."""
    for each in statement.alters or (None,):
        call = None if each is None or _is_open(each) else each
        old = argument(call, "existing_type") if call else None
        new = argument(call, "type_") if call else None
        if call is None:
            yield _Effect("COPY", "may change the type of a column")
        elif new is not None and not _is_cheap(old, new, server):
            yield _Effect("COPY", "changes the type of a column")
        elif _is_other_null(call):
            yield _Effect("REBUILD", "changes whether a column may be NULL")
        elif re.search(r" (?:FIRST|AFTER \S+)$", words) and not (server.is_mariadb and server.version >= (10, 4)):
            yield _Effect("REBUILD", "moves a column")


def _is_open(call: ast.Call) -> bool:
    """Return whether what a call of ``alter_column()`` does depends on the values of variables."""
    nullable = argument(call, "nullable")
    return any(word.arg is None for word in call.keywords) or not isinstance(nullable, ast.Constant | None)


def _is_other_null(call: ast.Call) -> bool:
    new, old = (getattr(argument(call, name), "value", None) for name in ("nullable", "existing_nullable"))
    return new is not None and new != old


def _is_cheap(old: ast.expr | None, new: ast.expr, server: Server) -> bool:
    """Return whether a column can get another type without a copy of the table."""
    if old is None:
        return False
    before, after = (_TEXTS.get(name, _INTS.get(name, name)) for name in map(type_name, (old, new)))
    if before != after:
        return False
    if ast.dump(old) == ast.dump(new):
        return True
    if before in ("ENUM", "SET"):
        values = [[string(each) for each in node.args] if isinstance(node, ast.Call) else [] for node in (old, new)]
        return bool(values[0]) and values[1][: len(values[0])] == values[0]
    if before == "VARCHAR":
        old_size, new_size = limit(old) * _BYTES, limit(new) * _BYTES
        # The length needs a second byte from 256 bytes on. MariaDB 10.4.3 can tell both forms apart below 128 bytes.
        has_both_forms = server.is_mariadb and server.version >= (10, 4, 3) and old_size < 128
        return new_size >= old_size and (old_size > 255 or new_size <= 255 or has_both_forms)
    return before in _SIZELESS and _flags(old) == _flags(new)


def _flags(type_: ast.expr) -> set[str]:
    """Return the options of a type, except the display width of an integer."""
    words = type_.keywords if isinstance(type_, ast.Call) else ()
    return {ast.unparse(word) for word in words if word.arg != "display_width"}
