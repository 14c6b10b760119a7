"""Reading everything that the catalogs of a database say about its schema, to compare two databases by name.

The definitions are spelled in the same way however the schema was written, so that two databases with the same schema
have the same catalog, even if one was created by one statement and the other by many.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, TypeAlias

from sqlalchemy import text

from ampho.database import sqlite_table

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection

Object: TypeAlias = tuple[str, str]
"""The kind of an object, such as ``index``, and its name; the names of what belongs to a table begin with the table."""

Catalog: TypeAlias = Mapping[Object, str]
"""The definitions of the objects."""

CODE = ("view", "materialized view", "function", "procedure", "trigger", "rule", "policy", "event", "extension")
"""The kinds of objects that only SQL of the user's own creates."""

# In these queries, $named is the schema before a name, unless it is the current one, and $own(CLASS, OID) is true for
# objects that belong neither to PostgreSQL nor to an extension.
_POSTGRES = (
    """SELECT 'table', $named c.relname, concat_ws(' ', CASE c.relkind WHEN 'p' THEN pg_get_partkeydef(c.oid) END,
        pg_get_expr(c.relpartbound, c.oid), array_to_string(c.reloptions, ' '), CASE c.relpersistence WHEN 'u'
        THEN 'UNLOGGED' END, CASE WHEN c.relrowsecurity THEN 'ROW LEVEL SECURITY' END,
        (SELECT 'INHERITS ' || string_agg(i.inhparent::regclass::text, ', ' ORDER BY i.inhseqno) FROM pg_inherits i
        WHERE i.inhrelid = c.oid), 'columns ' || (SELECT string_agg(a.attname, ', ' ORDER BY a.attnum)
        FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped))
        FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE c.relkind IN ('r', 'p', 'f') AND $own(pg_class, c.oid)""",
    """SELECT 'column', $named c.relname || '.' || a.attname, concat_ws(' ', format_type(a.atttypid, a.atttypmod),
        CASE WHEN l.oid <> t.typcollation THEN 'COLLATE ' || l.collname END,
        CASE WHEN a.attnotnull THEN 'NOT NULL' END, CASE a.attgenerated WHEN 's' THEN 'STORED' WHEN 'v' THEN 'VIRTUAL'
        END, CASE a.attidentity WHEN 'a' THEN 'IDENTITY ALWAYS' WHEN 'd' THEN 'IDENTITY BY DEFAULT' END,
        'DEFAULT ' || pg_get_expr(d.adbin, d.adrelid))
        FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid JOIN pg_namespace n ON n.oid = c.relnamespace
        JOIN pg_type t ON t.oid = a.atttypid LEFT JOIN pg_collation l ON l.oid = a.attcollation
        LEFT JOIN pg_attrdef d ON d.adrelid = c.oid AND d.adnum = a.attnum
        WHERE c.relkind IN ('r', 'p', 'f') AND a.attnum > 0 AND NOT a.attisdropped
        AND $own(pg_class, c.oid)""",
    """SELECT 'constraint', $named c.relname || '.' || o.conname, pg_get_constraintdef(o.oid)
        FROM pg_constraint o JOIN pg_class c ON c.oid = o.conrelid JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE o.contype IN ('p', 'u', 'f', 'c', 'x') AND $own(pg_class, c.oid)""",
    """SELECT 'index', $named c.relname || '.' || i.relname,
        regexp_replace(pg_get_indexdef(x.indexrelid), '^CREATE (UNIQUE )?INDEX .* (ON .*)$', '\\1\\2')
        FROM pg_index x JOIN pg_class i ON i.oid = x.indexrelid JOIN pg_class c ON c.oid = x.indrelid
        JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE NOT EXISTS (SELECT 1 FROM pg_constraint o WHERE o.conindid = i.oid AND o.contype IN ('p', 'u', 'x'))
        AND $own(pg_class, c.oid)""",
    """SELECT 'sequence', $named c.relname, concat_ws(' ', format_type(s.seqtypid, NULL), 'START', s.seqstart,
        'INCREMENT', s.seqincrement, 'MIN', s.seqmin, 'MAX', s.seqmax, 'CACHE', s.seqcache,
        CASE WHEN s.seqcycle THEN 'CYCLE' END, (SELECT 'OWNED BY ' || d.refobjid::regclass || '.' || a.attname
        FROM pg_depend d JOIN pg_attribute a ON a.attrelid = d.refobjid AND a.attnum = d.refobjsubid
        WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'a'))
        FROM pg_sequence s JOIN pg_class c ON c.oid = s.seqrelid JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE $own(pg_class, c.oid) AND NOT EXISTS (SELECT 1 FROM pg_depend d
        WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'i')""",
    """SELECT 'identity', $named t.relname || '.' || a.attname, concat_ws(' ', format_type(s.seqtypid, NULL), 'START',
        s.seqstart, 'INCREMENT', s.seqincrement, 'MIN', s.seqmin, 'MAX', s.seqmax, 'CACHE', s.seqcache,
        CASE WHEN s.seqcycle THEN 'CYCLE' END)
        FROM pg_sequence s JOIN pg_depend d ON d.classid = 'pg_class'::regclass AND d.objid = s.seqrelid
        AND d.deptype = 'i' JOIN pg_class t ON t.oid = d.refobjid JOIN pg_namespace n ON n.oid = t.relnamespace
        JOIN pg_attribute a ON a.attrelid = t.oid AND a.attnum = d.refobjsubid WHERE $own(pg_class, t.oid)""",
    """SELECT 'enum type', $named t.typname,
        (SELECT string_agg(quote_literal(e.enumlabel), ', ' ORDER BY e.enumsortorder) FROM pg_enum e
        WHERE e.enumtypid = t.oid)
        FROM pg_type t JOIN pg_namespace n ON n.oid = t.typnamespace
        WHERE t.typtype = 'e' AND $own(pg_type, t.oid)""",
    """SELECT 'domain', $named t.typname, concat_ws(' ', format_type(t.typbasetype, t.typtypmod),
        CASE WHEN t.typnotnull THEN 'NOT NULL' END, 'DEFAULT ' || t.typdefault,
        (SELECT string_agg(o.conname || ' ' || pg_get_constraintdef(o.oid), ' ' ORDER BY o.conname)
        FROM pg_constraint o WHERE o.contypid = t.oid))
        FROM pg_type t JOIN pg_namespace n ON n.oid = t.typnamespace
        WHERE t.typtype = 'd' AND $own(pg_type, t.oid)""",
    """SELECT 'comment', $named c.relname || coalesce('.' || a.attname, ''), d.description
        FROM pg_description d JOIN pg_class c ON c.oid = d.objoid AND d.classoid = 'pg_class'::regclass
        JOIN pg_namespace n ON n.oid = c.relnamespace
        LEFT JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = d.objsubid AND d.objsubid <> 0
        WHERE $own(pg_class, c.oid)""",
    """SELECT 'comment', $named c.relname || '.' || o.conname, d.description
        FROM pg_description d JOIN pg_constraint o ON o.oid = d.objoid AND d.classoid = 'pg_constraint'::regclass
        JOIN pg_class c ON c.oid = o.conrelid JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE $own(pg_class, c.oid)""",
    """SELECT CASE c.relkind WHEN 'v' THEN 'view' ELSE 'materialized view' END, $named c.relname,
        pg_get_viewdef(c.oid)
        FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE c.relkind IN ('v', 'm') AND $own(pg_class, c.oid)""",
    """SELECT CASE p.prokind WHEN 'p' THEN 'procedure' ELSE 'function' END,
        $named p.proname || '(' || pg_get_function_identity_arguments(p.oid) || ')',
        CASE WHEN p.prokind = 'a' THEN '' ELSE pg_get_functiondef(p.oid) END
        FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace WHERE $own(pg_proc, p.oid)""",
    """SELECT 'trigger', $named c.relname || '.' || g.tgname, pg_get_triggerdef(g.oid)
        FROM pg_trigger g JOIN pg_class c ON c.oid = g.tgrelid JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE NOT g.tgisinternal AND $own(pg_class, c.oid)""",
    """SELECT 'rule', $named c.relname || '.' || r.rulename, pg_get_ruledef(r.oid)
        FROM pg_rewrite r JOIN pg_class c ON c.oid = r.ev_class JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE r.rulename <> '_RETURN' AND $own(pg_class, c.oid)""",
    """SELECT 'policy', $named c.relname || '.' || p.polname, concat_ws(' ', p.polcmd, p.polpermissive,
        p.polroles, pg_get_expr(p.polqual, p.polrelid), pg_get_expr(p.polwithcheck, p.polrelid))
        FROM pg_policy p JOIN pg_class c ON c.oid = p.polrelid JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE $own(pg_class, c.oid)""",
    """SELECT 'schema', n.nspname, '' FROM pg_namespace n
        WHERE $own(pg_namespace, n.oid) AND n.nspname <> 'public' AND n.nspname <> current_schema()""",
    "SELECT 'extension', extname, '' FROM pg_extension WHERE extname <> 'plpgsql'",
)
_MARIADB_CODE = (
    "SELECT 'view', table_name, view_definition FROM information_schema.views WHERE table_schema = DATABASE()",
    """SELECT 'trigger', CONCAT(event_object_table, '.', trigger_name), CONCAT_WS(' ', action_timing,
        event_manipulation, action_statement) FROM information_schema.triggers WHERE trigger_schema = DATABASE()""",
    """SELECT LOWER(routine_type), routine_name, CONCAT_WS(' ', dtd_identifier, routine_definition)
        FROM information_schema.routines WHERE routine_schema = DATABASE()""",
    "SELECT 'event', event_name, event_definition FROM information_schema.events WHERE event_schema = DATABASE()",
)
_ITEM = re.compile(r"`(?P<name>(?:[^`]|``)*)` (?P<rest>.*)")
_KEY = re.compile(r"(?P<kind>(?:UNIQUE |FULLTEXT |SPATIAL )?KEY|CONSTRAINT) `(?P<name>(?:[^`]|``)*)` (?P<rest>.*)")


def read_catalog(connection: Connection, hidden: Iterable[str] = ()) -> Catalog:
    """Return the definitions of all objects in a database.

    :param hidden: the names of tables that are left out, with their sequences.
    """
    readers = {"sqlite": _sqlite, "postgresql": _postgres}
    found = readers.get(connection.dialect.name, _mariadb)(connection)
    left_out = {*hidden}
    return {key: sql for key, sql in found if key[1].split(".")[0] not in left_out and _owner(sql) not in left_out}


def _owner(sql: str) -> str:
    """Return the table that owns a sequence."""
    return sql.partition(" OWNED BY ")[2].rpartition(".")[0].rpartition(".")[2].strip('"')


def differences(wanted: Catalog, found: Catalog) -> list[str]:
    """Return how a catalog differs from the wanted one, one line for each object."""
    lines: list[str] = []
    for key in sorted({*wanted, *found}):
        if key not in found:
            if not _is_of_one(key, wanted, found):
                lines.append(f"it lacks the {_named(key)}")
        elif key not in wanted:
            if not _is_of_one(key, found, wanted):
                lines.append(f"it has the {_named(key)}, too")
        elif wanted[key] != found[key]:
            lines.append(f"the {_named(key)} is {found[key] or 'without options'!s}, not {wanted[key] or 'without'}")
    return lines


def without_code(catalog: Catalog) -> Catalog:
    """Return a catalog without views, functions, and other objects that only SQL of the user's own creates."""
    return {key: sql for key, sql in catalog.items() if key[0] not in CODE}


def code_only(catalog: Catalog) -> Catalog:
    """Return only those objects of a catalog."""
    return {key: sql for key, sql in catalog.items() if key[0] in CODE}


def _named(key: Object) -> str:
    kind, name = key
    table, _, own = name.rpartition(".")
    return f"{kind} {own} of {table}" if table and kind in ("constraint", "index", "trigger") else f"{kind} {name}"


def _is_of_one(key: Object, here: Catalog, there: Catalog) -> bool:
    """Return whether an object belongs to a table that is missing as a whole."""
    table = key[1].rpartition(".")[0]
    return key[0] != "table" and ("table", table) in here and ("table", table) not in there


# ---- PostgreSQL ----


_OWN = re.compile(r"\$own\((\w+), ([\w.]+)\)")
_IS_OWN = (
    r"NOT EXISTS (SELECT 1 FROM pg_depend e WHERE e.classid = '\1'::regclass AND e.objid = \2 AND e.deptype = 'e')"
    r" AND n.nspname NOT IN ('pg_catalog', 'information_schema') AND n.nspname NOT LIKE 'pg\\_t%'"
)
_NAMED = "CASE WHEN n.nspname = current_schema() THEN '' ELSE n.nspname || '.' END || "


def _postgres(connection: Connection) -> Iterator[tuple[Object, str]]:
    for query in _POSTGRES:
        for kind, name, sql in connection.execute(text(_OWN.sub(_IS_OWN, query).replace("$named", _NAMED))):
            yield (kind, name), sql or ""


# ---- MariaDB and MySQL ----


def _mariadb(connection: Connection) -> Iterator[tuple[Object, str]]:
    tables = "SELECT table_name, table_type FROM information_schema.tables WHERE table_schema = DATABASE()"
    for name, kind in connection.execute(text(tables)).all():
        if kind == "BASE TABLE":
            sql = connection.exec_driver_sql(f"SHOW CREATE TABLE {_backquoted(name)}").one()[1]
            yield from _table_of_mariadb(name, sql)
        elif kind == "SEQUENCE":
            sql = connection.exec_driver_sql(f"SHOW CREATE SEQUENCE {_backquoted(name)}").one()[1]
            yield ("sequence", name), sql.partition("` ")[2]
    for query in _MARIADB_CODE:
        for kind, name, sql in connection.execute(text(query)):
            yield (kind, name), sql or ""


def _backquoted(name: str) -> str:
    return "`" + name.replace("`", "``") + "`"


def _table_of_mariadb(table: str, sql: str) -> Iterator[tuple[Object, str]]:
    _, *items, options = sql.split("\n")
    columns: list[str] = []
    for item in (line.strip().removesuffix(",") for line in items):
        if key := _KEY.match(item):
            kind = "constraint" if key["kind"] == "CONSTRAINT" else "index"
            yield (kind, f"{table}.{key['name']}"), f"{key['kind']} {key['rest']}"
        elif column := _ITEM.match(item):
            columns.append(column["name"])
            yield ("column", f"{table}.{column['name']}"), column["rest"]
        else:
            yield ("constraint", f"{table}.{item.partition(' (')[0].lower()}"), item
    options = re.sub(r" AUTO_INCREMENT=\d+", "", options.removeprefix(")")).strip()
    yield ("table", table), f"{options} columns {', '.join(columns)}"


# ---- SQLite ----


def _sqlite(connection: Connection) -> Iterator[tuple[Object, str]]:
    query = "SELECT type, name, tbl_name, sql FROM sqlite_master WHERE name NOT LIKE 'sqlite\\_%' ESCAPE '\\'"
    for kind, name, table, sql in connection.execute(text(query)).all():
        if kind == "table":
            yield from _table_of_sqlite(name, sql)
        elif kind == "index" and sql:
            found = _plain(sqlite_table.tokens(sql))
            yield (
                ("index", f"{table}.{name}"),
                _joined([*found[1 : found.index("index")], *found[found.index("on") :]]),
            )
        elif sql:
            yield (kind, name if kind == "view" else f"{table}.{name}"), _joined(_plain(sqlite_table.tokens(sql)))


def _plain(found: Sequence[sqlite_table.Token]) -> list[str]:
    """Return tokens in lower case and without quotes, except for strings, because SQLite reads names in any case."""
    return [token.text if token.text[0] == "'" else token.name or token.text.lower() for token in found]


def _joined(words: Iterable[str]) -> str:
    return re.sub(r"\( | (?=[,)])", lambda found: found[0].strip(), " ".join(words))


def _table_of_sqlite(table: str, sql: str) -> Iterator[tuple[Object, str]]:
    try:
        found = sqlite_table.TableText(sql)
    except sqlite_table.UnreadableTableError:  # such as a virtual table
        yield ("table", table), _joined(_plain(sqlite_table.tokens(sql)))
        return
    constraints: list[tuple[str, str]] = []
    for definition in found.definitions:
        parts: list[str] = []
        for clause in definition.clauses:
            if clause.kind in ("PRIMARY", "UNIQUE", "CHECK", "FOREIGN", "REFERENCES"):
                constraints.append((clause.name, _constraint_of_sqlite(clause)))
            elif clause.kind != "NULL":
                parts.append(_clause_of_sqlite(clause))
        if definition.column:
            yield ("column", f"{table}.{definition.column}"), " ".join(sorted(parts, key=_place))
    names: dict[str, int] = {}
    for name, definition_text in sorted(constraints):
        base = name or definition_text
        names[base] = number = names.get(base, 0) + 1
        yield ("constraint", f"{table}.{base}{'' if number == 1 else f' {number}'}"), definition_text
    columns = ", ".join(each.column for each in found.definitions if each.column)
    yield ("table", table), " ".join([*sorted(found.options), "columns", columns])


def _place(part: str) -> int:
    order = ("NOT NULL", "DEFAULT", "COLLATE", "AS")
    return next((place for place, word in enumerate(order, 1) if part.startswith(word)), 0)


def _clause_of_sqlite(clause: sqlite_table.Clause) -> str:
    words = [token.text if token.text[0] in "'\"" else token.text.upper() for token in clause.tokens]
    if clause.kind == "COLLATE":  # whose name may have quotes
        words = [word.upper() for word in _plain(clause.tokens)]
    if clause.kind == "AS":
        after = [token.keyword for token in clause.tokens].index("AS") + 1
        words = ["AS", *_plain(clause.tokens[after:])]
        words = words if words[-1] in ("stored", "virtual") else [*words, "virtual"]
    if clause.kind == "DEFAULT":
        while words[1:2] == ["("] and words[-1] == ")" and len(words) <= 4:
            words = ["DEFAULT", *words[2:-1]]
    return " ".join(words)


def _constraint_of_sqlite(clause: sqlite_table.Clause) -> str:
    """Return a constraint in the form of a constraint of the table, even if a column has it."""
    found = [*clause.tokens]
    if found and found[0].keyword == "CONSTRAINT":
        found = found[2:]
    words = _plain(found)
    if clause.kind == "CHECK":
        return _joined(words)
    columns = f"({', '.join(clause.columns)})"
    if clause.kind in ("FOREIGN", "REFERENCES"):
        return _joined(["foreign key", columns, *words[words.index("references") :]])
    rest = words[2 if clause.kind == "PRIMARY" else 1 :]
    if not clause.column:
        rest = rest[rest.index(")") + 1 :]
    kind = "primary key" if clause.kind == "PRIMARY" else "unique"
    return _joined([kind, columns, *(word for word in rest if word != "asc")])
