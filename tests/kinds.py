# ruff: noqa: E501 (a kind is a line)
"""Kinds of columns, constraints, and tables, each with a change, for tests of what autogenerate sees.

A kind is a line: its name, the Python source of items of a table, the source after a change, and optionally the
databases on which autogenerate does not see the change, with ``no-`` where the database has no such thing. In the sources, ``@`` is a name that only this kind has. A source without
``Column(`` is the type of a column, with what follows the type. A source that begins with ``Table(`` is a whole table;
the other kinds share tables. An empty source means that the items do not exist.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

Line = tuple[str, str, str] | tuple[str, str, str, str]

HEAD = """\
import enum
from importlib.metadata import version

from sqlalchemy import *
from sqlalchemy import schema, types
from sqlalchemy.dialects import mysql, postgresql as pg, sqlite
from sqlalchemy.dialects.mysql import mariadb


class Color(enum.Enum):
    red = "r"
    blue = "b"


class Stripped(types.TypeDecorator):
    impl = String
    cache_ok = True


class Document(types.TypeDecorator):
    impl = Text
    cache_ok = True

    def load_dialect_impl(self, dialect):
        return dialect.type_descriptor(pg.JSONB() if dialect.name == "postgresql" else Text())


class Money(types.UserDefinedType):
    cache_ok = True

    def get_col_spec(self, **kw):
        return "NUMERIC(12, 2)"


ALEMBIC = tuple(map(int, version("alembic").split(".")[:3]))
EMPTY = {"comment": ""} if ALEMBIC >= (1, 20, 1) else {}  # before, it seemed to differ from no comment
WITH = {"postgresql_with": {"fillfactor": 50}} if "with" in dict(pg.dialect.construct_arguments)[Table] else {}
"""
"""What the sources use."""

CONVENTION = """\
CONVENTION = {
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
    "pk": "pk_%(table_name)s",
}
metadata = MetaData(naming_convention=CONVENTION)
"""
"""Names for constraints without one, apart from check constraints, so that each change can be made."""

TARGET = """\
target = Table(
    "target", metadata, Column("id", Integer, primary_key=True), Column("x", Integer), Column("y", Integer),
    UniqueConstraint("x", "y", name="uq_target"),
)"""
"""The table that foreign keys reference."""

# fmt: off
TYPES: list[Line] = [
    ("Integer", "Integer", "Text"),
    ("SmallInteger", "SmallInteger", "Integer"),
    ("BigInteger", "BigInteger", "Integer"),
    ("BigInteger with a variant", "BigInteger().with_variant(Integer(), 'sqlite')", "String(30)"),
    ("Boolean", "Boolean", "String(5)"),
    ("String", "String(50)", "String(60)"),
    ("String of one character", "String(1)", "String(2)"),
    ("String that becomes shorter", "String(50)", "String(40)"),
    ("String that becomes Text", "String(50)", "Text"),
    ("Unicode", "Unicode(20)", "Unicode(30)"),
    ("UnicodeText", "UnicodeText", "String(30)"),
    ("Text", "Text", "String(100)"),
    ("CHAR", "CHAR(10)", "CHAR(12)"),
    ("CHAR without a length", "CHAR", "CHAR(3)"),
    ("CHAR that becomes VARCHAR", "CHAR(10)", "VARCHAR(10)"),
    ("VARCHAR", "VARCHAR(10)", "VARCHAR(20)"),
    ("TEXT", "TEXT", "VARCHAR(10)"),
    ("Numeric", "Numeric", "Numeric(8, 2)"),
    ("Numeric with a precision", "Numeric(10)", "Numeric(12)"),
    ("Numeric with a scale", "Numeric(10, 2)", "Numeric(12, 2)"),
    ("Numeric whose scale changes", "Numeric(10, 2)", "Numeric(10, 4)"),
    ("Numeric that returns floats", "Numeric(6, 3, asdecimal=False)", "Numeric(7, 3, asdecimal=False)"),
    ("DECIMAL", "DECIMAL(5, 1)", "DECIMAL(6, 1)"),
    ("NUMERIC", "NUMERIC(5, 1)", "NUMERIC(6, 1)"),
    ("Float", "Float", "Numeric(8, 2)"),
    ("Float of single precision", "Float(24)", "Numeric(9, 3)"),
    ("Float of double precision", "Float(53)", "Numeric(9, 3)"),
    ("Double", "Double", "Numeric(9, 3)"),
    ("REAL", "REAL", "Numeric(9, 3)"),
    ("DOUBLE_PRECISION", "DOUBLE_PRECISION", "Numeric(9, 3)"),
    ("FLOAT", "FLOAT", "Numeric(9, 3)"),
    ("Date", "Date", "DateTime"),
    ("DateTime", "DateTime", "Date"),
    ("DateTime with a time zone", "DateTime(timezone=True)", "Date"),
    ("Time", "Time", "String(20)"),
    ("Time with a time zone", "Time(timezone=True)", "String(30)"),
    ("TIMESTAMP", "TIMESTAMP", "Date"),
    ("TIMESTAMP with a time zone", "TIMESTAMP(timezone=True)", "Date"),
    ("Interval", "Interval", "String(40)"),
    ("LargeBinary", "LargeBinary", "", ""),
    ("LargeBinary with a length", "LargeBinary(100)", ""),
    ("JSON", "JSON", "Text"),
    ("JSON that stores None as NULL", "JSON(none_as_null=True)", "Text"),
    ("Uuid", "Uuid", "String(40)"),
    ("Uuid as strings", "Uuid(as_uuid=False)", "String(40)"),
    ("Uuid without the native type", "Uuid(native_uuid=False)", "String(40)"),
    ("Enum", "Enum('a', 'b', name='@')", "String(20)"),
    ("value of an Enum, added", "Enum('a', 'b', name='@')", "Enum('a', 'b', 'long', name='@')"),
    ("Enum without the native type", "Enum('a', 'b', native_enum=False, name='@')", "Enum('a', 'long', native_enum=False, name='@')"),
    ("Enum with a length", "Enum('a', 'b', native_enum=False, length=20)", "Enum('a', 'b', native_enum=False, length=30)"),
    ("Enum with a check", "Enum('a', 'b', native_enum=False, create_constraint=True, name='ck_@')", "Enum('a', 'b', native_enum=False)"),
    ("Enum of a class", "Enum(Color, name='@')", "String(20)"),
    ("Enum of the values of a class", "Enum(Color, name='@', values_callable=lambda c: [i.value for i in c])", "String(20)"),
    ("Enum with a quote", 'Enum("it\'s", "50%", name="@")', "String(20)"),
    ("Boolean with a check", "Boolean(create_constraint=True, name='ck_@')", "String(5)"),
    ("PickleType", "PickleType", ""),
    ("TypeDecorator", "Stripped(40)", "Stripped(50)"),
    ("TypeDecorator for each database", "Document", "String(40)"),
    ("UserDefinedType", "Money", "Numeric(14, 2)"),
    ("with_variant", "JSON().with_variant(Text(), 'sqlite', 'mysql', 'mariadb').with_variant(pg.TSQUERY(), 'postgresql')", "String(40)"),
    ("with_variant of the length", "String(50).with_variant(String(60), 'mysql', 'mariadb', 'postgresql', 'sqlite')", "String(50)"),
]

DEFAULTS: list[Line] = [
    ("default: text", "String(50), server_default='red'", "String(50), server_default='blue'"),
    ("default: text in other letters", "String(50), server_default='red'", "String(50), server_default='RED'"),
    ("default: empty text", "String(50), server_default=''", "String(50), server_default=' '"),
    ("default: empty text, dropped", "String(50), server_default=''", "String(50)"),
    ("default: text with a quote", 'String(50), server_default="it\'s"', 'String(50), server_default="it\'\'s"'),
    ("default: text with quotes around it", "String(50), server_default=\"'red'\"", "String(50), server_default='red'", "sqlite postgresql mariadb"),
    ("default: text with double quotes", "String(50), server_default='\"red\"'", "String(50), server_default='red'"),
    ("default: text with a percent sign", "String(50), server_default='100%'", "String(50), server_default='50%'"),
    ("default: text with a backslash", r"String(50), server_default='a\\b'", r"String(50), server_default='a\\c'"),
    ("default: text with a colon", "String(50), server_default='a:b'", "String(50), server_default='a:c'"),
    ("default: text with casts", "String(50), server_default='a::b'", "String(50), server_default='a'"),
    ("default: text with parentheses", "String(50), server_default='(a)'", "String(50), server_default='a'"),
    ("default: text with spaces", "String(50), server_default='a  b'", "String(50), server_default='a b'"),
    ("default: text in two lines", r"String(50), server_default='a\nb'", r"String(50), server_default='a\nc'"),
    ("default: text of other scripts", "String(50), server_default='äöü €'", "String(50), server_default='äöü'"),
    ("default: the word NULL as text", "String(50), server_default='NULL'", "String(50)"),
    ("default: the word true as text", "String(50), server_default='true'", "String(50), server_default='1'"),
    ("default: digits as text", "String(50), server_default='5'", "String(50), server_default='05'"),
    ("default: text, added", "String(50)", "String(50), server_default='red'"),
    ("default: text, dropped", "String(50), server_default='red'", "String(50)"),
    ("default: text in SQL", "String(50), server_default=text(\"'red'\")", "String(50), server_default=text(\"'blue'\")"),
    ("default: text as a literal", "String(50), server_default=literal('red')", "String(50), server_default=literal('blue')"),
    ("default: a letter", "CHAR(1), server_default='Y'", "CHAR(1), server_default='N'"),
    ("default: Unicode", "Unicode(20), server_default='é'", "Unicode(20), server_default='e'"),
    ("default: number as text", "Integer, server_default='5'", "Integer, server_default='6'"),
    ("default: number in SQL", "Integer, server_default=text('5')", "Integer, server_default=text('6')"),
    ("default: zero", "Integer, server_default='0'", "Integer, server_default='1'"),
    ("default: zero, dropped", "Integer, server_default='0'", "Integer"),
    ("default: zero, added", "Integer", "Integer, server_default='0'"),
    ("default: negative number", "Integer, server_default='-1'", "Integer, server_default='1'"),
    ("default: negative number in SQL", "Integer, server_default=text('-1')", "Integer, server_default=text('-2')"),
    ("default: arithmetic", "Integer, server_default=text('(1 + 2)')", "Integer, server_default=text('(1 + 3)')"),
    ("default: SmallInteger", "SmallInteger, server_default='5'", "SmallInteger, server_default='7'"),
    ("default: BigInteger", "BigInteger, server_default='5000000000'", "BigInteger, server_default='5000000001'"),
    ("default: Numeric", "Numeric(10, 2), server_default='0.00'", "Numeric(10, 2), server_default='1.00'"),
    ("default: Numeric in SQL", "Numeric(10, 2), server_default=text('1.50')", "Numeric(10, 2), server_default=text('1.60')"),
    ("default: Float", "Float, server_default='1.5'", "Float, server_default='2.5'"),
    ("default: Float in SQL", "Float, server_default=text('0.5')", "Float, server_default=text('0.25')"),
    ("default: true()", "Boolean, server_default=true()", "Boolean, server_default=false()"),
    ("default: false()", "Boolean, server_default=false(), nullable=False", "Boolean, server_default=true(), nullable=False"),
    ("default: false(), dropped", "Boolean, server_default=false(), nullable=False", "Boolean, nullable=False"),
    ("default: false(), added", "Boolean, nullable=False", "Boolean, server_default=false(), nullable=False"),
    ("default: Boolean as text", "Boolean, server_default='1'", "Boolean, server_default='0'"),
    ("default: Boolean in SQL", "Boolean, server_default=text('true')", "Boolean, server_default=text('false')"),
    ("default: func.now()", "DateTime, server_default=func.now()", "DateTime"),
    ("default: func.now(), added", "DateTime", "DateTime, server_default=func.now()"),
    ("default: func.current_timestamp()", "DateTime, server_default=func.current_timestamp()", "DateTime, server_default='2020-01-01 00:00:00'"),
    ("default: CURRENT_TIMESTAMP in SQL", "DateTime, server_default=text('CURRENT_TIMESTAMP')", "DateTime"),
    ("default: func.now() with a time zone", "DateTime(timezone=True), server_default=func.now(), nullable=False", "DateTime(timezone=True), nullable=False"),
    ("default: func.now() in a TIMESTAMP", "TIMESTAMP, server_default=func.now()", "TIMESTAMP, server_default='2020-01-01 00:00:00'"),
    ("default: moment", "DateTime, server_default='2020-01-01 00:00:00'", "DateTime, server_default='2021-01-01 00:00:00'"),
    ("default: day", "Date, server_default='2020-01-01'", "Date, server_default='2020-01-02'"),
    ("default: time of day", "Time, server_default='12:00:00'", "Time, server_default='13:00:00'"),
    ("default: func.current_date()", "Date, server_default=func.current_date()", "Date"),
    ("default: Enum", "Enum('a', 'b', name='@'), server_default='a'", "Enum('a', 'b', name='@'), server_default='b'"),
    ("default: Enum of a class", "Enum(Color, name='@'), server_default='red'", "Enum(Color, name='@'), server_default='blue'"),
    ("default: Enum of a class, as a member", "Enum(Color, name='@'), server_default=Color.red.name", "Enum(Color, name='@')"),
    ("default: Enum without the native type", "Enum('a', 'b', native_enum=False), server_default='a'", "Enum('a', 'b', native_enum=False), server_default='b'"),
    ("default: Uuid", "Uuid, server_default='0000000000000000000000000000000a'", "Uuid"),
    ("default: TypeDecorator", "Stripped(40), server_default='a'", "Stripped(40), server_default='b'"),
    ("default: function of a text", "String(50), server_default=func.lower('ABC')", "String(50), server_default=func.lower('ABD')"),
    ("default: NULL in SQL", "Integer, server_default=text('NULL')", "Integer, server_default='3'"),
    ("default: only in Python", "Integer, default=5", "Integer, default=5, server_default='6'"),
    ("default: FetchedValue", "Integer, server_default=FetchedValue()", "Integer, server_default='3'"),
    ("default and onupdate", "DateTime, server_default=func.now(), onupdate=func.now()", "DateTime"),
    ("default and server_onupdate", "DateTime, server_default=func.now(), server_onupdate=FetchedValue()", "DateTime"),
    ("default: NOT NULL", "Integer, server_default='5', nullable=False", "Integer, nullable=False"),
]

COLUMNS: list[Line] = [
    ("column, added", "", "Integer"),
    ("column with a default, added", "", "Integer, server_default='3', nullable=False"),
    ("column with an index, added", "", "Integer, index=True"),
    ("column, dropped", "Integer", ""),
    ("column with an index, dropped", "Integer, index=True", ""),
    ("column with a default, dropped", "String(5), server_default='x', nullable=False", ""),
    ("NULL", "Integer, nullable=True", "Integer, nullable=False"),
    ("NOT NULL", "Integer, nullable=False", "Integer"),
    ("NOT NULL on a String", "String(20), nullable=False", "String(20)"),
    ("NOT NULL on a DateTime", "DateTime, nullable=False", "DateTime"),
    ("NOT NULL on a TIMESTAMP", "TIMESTAMP, nullable=False, server_default=func.now()", "TIMESTAMP, server_default=func.now()"),
    ("NOT NULL on an Enum", "Enum('a', 'b', name='@'), nullable=False", "Enum('a', 'b', name='@')"),
    ("NOT NULL and another type", "String(20), nullable=False", "String(30)"),
    ("comment of a column", "Integer, comment='the number'", "Integer, comment='the numbers'", "no-sqlite"),
    ("comment of a column, added", "Integer", "Integer, comment='the number'", "no-sqlite"),
    ("comment of a column, dropped", "Integer, comment='the number'", "Integer", "no-sqlite"),
    ("comment of a column, with quotes", 'Integer, comment="it\'s a \\"name\\" 100% \\\\ and\\nmore"', "Integer, comment='plain'", "no-sqlite"),
    ("comment of a column, empty", "Integer, **EMPTY", "Integer, comment='x'", "no-sqlite"),
    ("quoted column", 'Column("@ order", Integer)', 'Column("@ order", String(5))'),
    ("column in upper case", 'Column("@Upper", Integer)', 'Column("@Upper", String(5))'),
    ("column with a percent sign", 'Column("@%x", Integer)', ""),
    ("column with a key", 'Column("@", Integer, key="key_@")', 'Column("@", String(5), key="key_@")'),
    ("column with info", "Integer, info={'a': 1}, doc='the number'", "String(5), info={'a': 1}, doc='the number'"),
    ("column without a default", "Integer", "Integer, server_default='7'"),
    ("column named by a keyword", 'Column("@select", Integer, server_default="1", quote=True)', 'Column("@select", Integer, server_default="2", quote=True)'),
    ("Computed", "Integer, Computed('n * 2')", "Integer, Computed('n * 3')"),
    ("Computed, persisted", "Integer, Computed('n + 7', persisted=True)", "Integer, Computed('n + 8', persisted=True)"),
    ("Computed with a function", "Integer, Computed('abs(n)', persisted=True)", "Integer, Computed('abs(n + 1)', persisted=True)"),
    ("Computed, only parentheses change", "Integer, Computed('(n + 1) * 2', persisted=True)", "Integer, Computed('n + 1 * 2', persisted=True)", "mariadb"),
    ("Computed with a text", "String(30), Computed(\"CASE WHEN n > 5 THEN 'Many' ELSE 'few' END\", persisted=True)", "String(30), Computed(\"CASE WHEN n > 5 THEN 'many' ELSE 'few' END\", persisted=True)"),
    ("Computed, added", "", "Integer, Computed('n * 2', persisted=True)"),
    ("Computed, dropped", "Integer, Computed('n * 2', persisted=True)", ""),
    ("Computed column that becomes an ordinary one", "Integer, Computed('n * 2', persisted=True)", "Integer", "sqlite postgresql mariadb"),
    ("ordinary column that becomes Computed", "Integer", "Integer, Computed('n * 2', persisted=True)", "sqlite postgresql mariadb"),
]

INDEXES: list[Line] = [
    ("index=True", "Integer, index=True", "Integer"),
    ("index=True, added", "Integer", "Integer, index=True"),
    ("index=True that becomes unique", "Integer, index=True", "Integer, index=True, unique=True"),
    ("unique=True", "String(20), unique=True", "String(20)"),
    ("unique=True, added", "String(20)", "String(20), unique=True"),
    ("unique index", "String(20), unique=True, index=True", "String(20), index=True"),
    ("Index", 'Column("@", Integer), Index("ix_@", "@")', 'Column("@", Integer)'),
    ("Index, added", 'Column("@", Integer)', 'Column("@", Integer), Index("ix_@", "@")'),
    ("Index with another name", 'Column("@", Integer), Index("ix_@", "@")', 'Column("@", Integer), Index("ix_@_x", "@")'),
    ("Index of two columns", 'Column("@", Integer), Column("b@", Integer), Index("ix_@", "@", "b@")', 'Column("@", Integer), Column("b@", Integer), Index("ix_@", "@")'),
    ("Index in another order", 'Column("@", Integer), Column("b@", Integer), Index("ix_@", "@", "b@")', 'Column("@", Integer), Column("b@", Integer), Index("ix_@", "b@", "@")'),
    ("unique Index", 'Column("@", Integer), Index("ix_@", "@", unique=True)', 'Column("@", Integer), Index("ix_@", "@")'),
    ("Index that becomes unique", 'Column("@", Integer), Index("ix_@", "@")', 'Column("@", Integer), Index("ix_@", "@", unique=True)'),
    ("Index on another column", 'Column("@", Integer), Column("b@", Integer), Index("ix_@", "@")', 'Column("@", Integer), Column("b@", Integer), Index("ix_@", "b@")'),
    ("UniqueConstraint", 'Column("@", Integer), UniqueConstraint("@", name="uq_@")', 'Column("@", Integer)'),
    ("UniqueConstraint, added", 'Column("@", Integer)', 'Column("@", Integer), UniqueConstraint("@", name="uq_@")'),
    ("UniqueConstraint of two columns", 'Column("@", Integer), Column("b@", Integer), UniqueConstraint("@", "b@", name="uq_@")', 'Column("@", Integer), Column("b@", Integer), UniqueConstraint("@", name="uq_@")'),
    ("UniqueConstraint without a name", 'Column("@", Integer), Column("b@", Integer), UniqueConstraint("@", "b@")', 'Column("@", Integer), Column("b@", Integer)'),
    ("UniqueConstraint that becomes an Index", 'Column("@", Integer), UniqueConstraint("@", name="uq_@")', 'Column("@", Integer), Index("ix_@", "@")'),
    ("Index in descending order", 'Column("@", Integer), Index("ix_@", text("@ DESC"))', 'Column("@", Integer), Index("ix_@", "@")'),
    ("Index that becomes descending", 'Column("@", Integer), Index("ix_@", "@")', 'Column("@", Integer), Index("ix_@", text("@ DESC"))'),
    ("Index in ascending order", 'Column("@", Integer), Index("ix_@", text("@ ASC"))', 'Column("@", Integer)'),
    ("Index on a name with a percent sign", 'Column("@%", Integer), Index("ix_@%", "@%")', 'Column("@%", Integer), Index("ix_@%", column("@%").desc())'),
    ("partial Index", 'Column("@", Integer), Index("ix_@", "@", postgresql_where=text("@ > 0"), sqlite_where=text("@ > 0"))', 'Column("@", Integer), Index("ix_@", "@", postgresql_where=text("@ > 1"), sqlite_where=text("@ > 1"))', "no-mariadb"),
    ("partial Index that becomes whole", 'Column("@", Integer), Index("ix_@", "@", postgresql_where=text("@ > 0"), sqlite_where=text("@ > 0"))', 'Column("@", Integer), Index("ix_@", "@")', "no-mariadb"),
    ("Index on a long name", 'Column("@_a_column_whose_name_is_as_long_as_a_database_allows", Integer, index=True)', 'Column("@_a_column_whose_name_is_as_long_as_a_database_allows", Integer)'),
]

CONSTRAINTS: list[Line] = [
    ("ForeignKey", "ForeignKey('target.id')", "Integer"),
    ("ForeignKey, added", "Integer", "Integer, ForeignKey('target.id')"),
    ("ForeignKey with a name", "ForeignKey('target.id', name='fk_@')", "Integer"),
    ("ForeignKey ondelete", "ForeignKey('target.id', name='fk_@', ondelete='CASCADE')", "ForeignKey('target.id', name='fk_@', ondelete='SET NULL')"),
    ("ForeignKey ondelete, added", "ForeignKey('target.id', name='fk_@')", "ForeignKey('target.id', name='fk_@', ondelete='CASCADE')"),
    ("ForeignKey ondelete, dropped", "ForeignKey('target.id', name='fk_@', ondelete='CASCADE')", "ForeignKey('target.id', name='fk_@')"),
    ("ForeignKey onupdate", "ForeignKey('target.id', name='fk_@', onupdate='CASCADE')", "ForeignKey('target.id', name='fk_@')"),
    ("ForeignKey with RESTRICT", "ForeignKey('target.id', name='fk_@', ondelete='RESTRICT', onupdate='RESTRICT')", "ForeignKey('target.id', name='fk_@', ondelete='CASCADE')"),
    ("ForeignKey with NO ACTION", "ForeignKey('target.id', name='fk_@', ondelete='NO ACTION')", "ForeignKey('target.id', name='fk_@', ondelete='CASCADE')"),
    ("index of a ForeignKey, dropped", "ForeignKey('target.id', name='fk_@'), index=True", "ForeignKey('target.id', name='fk_@')", "mariadb"),
    ("ForeignKey with NOT NULL", "ForeignKey('target.id'), nullable=False", "ForeignKey('target.id')"),
    ("ForeignKey of a unique column", "ForeignKey('target.id', name='fk_@'), unique=True", "Integer, unique=True"),
    ("ForeignKeyConstraint", 'Column("@", Integer), Column("b@", Integer), ForeignKeyConstraint(["@", "b@"], ["target.x", "target.y"], name="fk_@")', 'Column("@", Integer), Column("b@", Integer)'),
    ("ForeignKeyConstraint ondelete", 'Column("@", Integer), Column("b@", Integer), ForeignKeyConstraint(["@", "b@"], ["target.x", "target.y"], name="fk_@", ondelete="CASCADE")', 'Column("@", Integer), Column("b@", Integer), ForeignKeyConstraint(["@", "b@"], ["target.x", "target.y"], name="fk_@")'),
    ("ForeignKey to the table itself", 'Table("@", metadata, Column("id", Integer, primary_key=True), Column("parent", ForeignKey("@.id")))', 'Table("@", metadata, Column("id", Integer, primary_key=True), Column("parent", Integer))'),
    ("CheckConstraint", 'Column("@", Integer), CheckConstraint("@ > 0", name="ck_@")', 'Column("@", Integer)'),
    ("CheckConstraint, added", 'Column("@", Integer)', 'Column("@", Integer), CheckConstraint("@ > 0", name="ck_@")'),
    ("CheckConstraint with another expression", 'Column("@", Integer), CheckConstraint("@ > 0", name="ck_@")', 'Column("@", Integer), CheckConstraint("@ > 1", name="ck_@")'),
    ("CheckConstraint without a name", 'Column("@", Integer), CheckConstraint("@ > 0")', 'Column("@", Integer)', "sqlite postgresql mariadb"),
    ("CheckConstraint of a column without a name", "Integer, CheckConstraint('@ > 0')", "Integer", "sqlite postgresql mariadb"),
    ("CheckConstraint with texts", 'Column("@", String(9)), CheckConstraint("@ IN (\'a\', \'it\'\'s\', \'50%\')", name=\'ck_@\')', 'Column("@", String(9)), CheckConstraint("@ IN (\'a\', \'b\')", name=\'ck_@\')'),
    ("CheckConstraint with a function", 'Column("@", String(9)), CheckConstraint(\'length(@) > 2 AND length(@) < 9\', name=\'ck_@\')', 'Column("@", String(9)), CheckConstraint(\'length(@) > 3 AND length(@) < 9\', name=\'ck_@\')'),
    ("CheckConstraint, only parentheses change", 'Column("@", Integer), CheckConstraint(\'(@ + 1) * 2 > 4\', name=\'ck_@\')', 'Column("@", Integer), CheckConstraint(\'@ + 1 * 2 > 4\', name=\'ck_@\')', "mariadb"),
    ("CheckConstraint with BETWEEN", 'Column("@", Integer), CheckConstraint(\'@ BETWEEN 1 AND 5\', name=\'ck_@\')', 'Column("@", Integer), CheckConstraint(\'@ BETWEEN 1 AND 6\', name=\'ck_@\')'),
    ("CheckConstraint as an expression", 'Column("@", Integer), CheckConstraint(column("@") > 0, name="ck_@")', 'Column("@", Integer), CheckConstraint(column("@") > 1, name="ck_@")'),
]

TABLES: list[Line] = [
    ("table, added", "", 'Table("@", metadata, Column("id", Integer, primary_key=True), Column("x", Integer, index=True))'),
    ("table, dropped", 'Table("@", metadata, Column("id", Integer, primary_key=True), Column("x", Integer, index=True))', ""),
    ("primary key", 'Table("@", metadata, Column("id", Integer, primary_key=True))', 'Table("@", metadata, Column("id", String(40), primary_key=True))'),
    ("primary key of a BigInteger", 'Table("@", metadata, Column("id", BigInteger, primary_key=True), Column("x", Integer))', 'Table("@", metadata, Column("id", BigInteger, primary_key=True))'),
    ("name of a primary key", 'Table("@", metadata, Column("id", Integer), PrimaryKeyConstraint("id", name="pk_@"))', 'Table("@", metadata, Column("id", Integer), PrimaryKeyConstraint("id", name="pk_x@"))', "sqlite postgresql mariadb"),
    ("autoincrement=False of a primary key", 'Table("@", metadata, Column("id", Integer, primary_key=True, autoincrement=False))', 'Table("@", metadata, Column("id", Integer, primary_key=True))', "sqlite postgresql mariadb"),
    ("primary key of a String", 'Table("@", metadata, Column("id", String(40), primary_key=True))', 'Table("@", metadata, Column("id", String(50), primary_key=True))'),
    ("primary key of a Uuid", 'Table("@", metadata, Column("id", Uuid, primary_key=True))', 'Table("@", metadata, Column("id", String(50), primary_key=True))'),
    ("columns of a primary key", 'Table("@", metadata, Column("id", Integer, primary_key=True), Column("x", Integer, primary_key=True))', 'Table("@", metadata, Column("id", Integer, primary_key=True), Column("x", Integer))', "sqlite postgresql mariadb"),
    ("primary key with a foreign key", 'Table("@", metadata, Column("id", ForeignKey("target.id"), primary_key=True))', 'Table("@", metadata, Column("id", Integer, primary_key=True))'),
    ("table without a primary key", 'Table("@", metadata, Column("x", Integer))', 'Table("@", metadata, Column("x", Integer), Column("y", Integer))'),
    ("comment of a table", 'Table("@", metadata, Column("id", Integer, primary_key=True), comment="it\'s a \\"table\\" 100%")', 'Table("@", metadata, Column("id", Integer, primary_key=True), comment="other")', "no-sqlite"),
    ("comment of a table, added", 'Table("@", metadata, Column("id", Integer, primary_key=True))', 'Table("@", metadata, Column("id", Integer, primary_key=True), comment="other")', "no-sqlite"),
    ("comment of a table, dropped", 'Table("@", metadata, Column("id", Integer, primary_key=True), comment="one")', 'Table("@", metadata, Column("id", Integer, primary_key=True))', "no-sqlite"),
    ("table in upper case", 'Table("@Upper", metadata, Column("Id", Integer, primary_key=True))', 'Table("@Upper", metadata, Column("Id", Integer, primary_key=True), Column("X", Integer))'),
    ("table with a space", 'Table("@ order", metadata, Column("id", Integer, primary_key=True))', 'Table("@ order", metadata, Column("id", Integer, primary_key=True), Column("x", Integer))'),
    ("table with a long name", 'Table("@_a_table_whose_name_is_as_long_as_a_database_allows", metadata, Column("id", Integer, primary_key=True), Column("x", Integer, index=True))', 'Table("@_a_table_whose_name_is_as_long_as_a_database_allows", metadata, Column("id", Integer, primary_key=True), Column("x", Integer))'),
    ("order of the columns of a table", 'Table("@", metadata, Column("x", Integer), Column("y", Integer))', 'Table("@", metadata, Column("y", Integer), Column("x", Integer))', "sqlite postgresql mariadb"),
]

SQLITE: list[Line] = [
    ("CheckConstraint of a column", "Integer, CheckConstraint('@ > 0', name='ck_@')", "Integer"),
    ("SQLite DATE", "sqlite.DATE", "Integer"),
    ("SQLite DATETIME", "sqlite.DATETIME(truncate_microseconds=True)", "Integer"),
    ("SQLite TIME", "sqlite.TIME", "Integer"),
    ("SQLite JSON", "sqlite.JSON", "Integer"),
    ("BLOB", "BLOB", "Integer"),
    ("BINARY", "BINARY(10)", "Integer"),
    ("VARBINARY", "VARBINARY(10)", "Integer"),
    ("NVARCHAR", "NVARCHAR(10)", "NVARCHAR(20)"),
    ("NCHAR", "NCHAR(10)", "NCHAR(20)"),
    ("CLOB", "CLOB", "VARCHAR(5)"),
    ("UUID", "UUID", "String(40)"),
    ("DOUBLE", "DOUBLE", "Integer"),
    ("BIGINT", "BIGINT", "String(5)"),
    ("SMALLINT", "SMALLINT", "String(5)"),
    ("MatchType", "Integer", "Numeric(3, 1)"),
    ("collation of a column", "String(20, collation='NOCASE')", "String(20)", "sqlite"),
    ("collation of a column, added", "String(20)", "String(20, collation='NOCASE')", "sqlite"),
    ("default: random()", "Integer, server_default=text('(random())')", "Integer, server_default=text('(random() % 5)')"),
    ("default: func.random()", "Integer, server_default=func.random()", "Integer"),
    ("default: datetime('now')", "DateTime, server_default=text(\"(datetime('now'))\")", "DateTime, server_default=text(\"(datetime('now', 'localtime'))\")"),
    ("default: func.datetime", "DateTime, server_default=func.datetime('now', 'localtime')", "DateTime"),
    ("default: strftime with %", "String(30), server_default=text(\"(strftime('%Y-%m', 'now'))\")", "String(30), server_default=text(\"(strftime('%Y', 'now'))\")"),
    ("default: hex(randomblob)", "String(32), server_default=text('(lower(hex(randomblob(16))))')", "String(32), server_default=text('(lower(hex(randomblob(8))))')"),
    ("default: concatenation", "String(30), server_default=text(\"('a' || 'b')\")", "String(30), server_default=text(\"('a' || 'c')\")"),
    ("default: x'00'", "LargeBinary, server_default=text(\"x'00'\")", "LargeBinary, server_default=text(\"x'01'\")"),
    ("default: CURRENT_DATE", "Date, server_default=text('CURRENT_DATE')", "Date"),
    ("default: CURRENT_TIME", "Time, server_default=text('CURRENT_TIME')", "Time"),
    ("default: TRUE", "Boolean, server_default=text('TRUE')", "Boolean, server_default=text('FALSE')"),
    ("default: hexadecimal number", "Integer, server_default=text('0x10')", "Integer, server_default=text('0x11')"),
    ("default: signed number", "Integer, server_default=text('+5')", "Integer, server_default=text('-5')"),
    ("default: number with an exponent", "Float, server_default=text('1e3')", "Float, server_default=text('1e4')"),
    ("default: JSON", "JSON, server_default='{}'", "JSON, server_default='[]'"),
    ("default: JSON in SQL", "JSON, server_default=text(\"'{\\\"a\\\": 1}'\")", "JSON, server_default=text(\"'{\\\"a\\\": 2}'\")"),
    ("default: CASE", "Integer, server_default=text('(CASE WHEN 1 > 2 THEN 3 ELSE 4 END)')", "Integer, server_default=text('(CASE WHEN 1 > 2 THEN 3 ELSE 5 END)')"),
    ("default: CAST", "Integer, server_default=text(\"(CAST('5' AS INTEGER))\")", "Integer, server_default=text(\"(CAST('6' AS INTEGER))\")"),
    ("default: func.coalesce", "Integer, server_default=func.coalesce(None, 5)", "Integer, server_default=func.coalesce(None, 6)"),
    ("default: double parentheses", "Integer, server_default=text('((1))')", "Integer, server_default=text('((2))')"),
    ("default: julianday", "Float, server_default=text(\"(julianday('now'))\")", "Float"),
    ("ON CONFLICT of NOT NULL", 'Column("@", Integer, nullable=False, sqlite_on_conflict_not_null="IGNORE")', 'Column("@", Integer, nullable=True)'),
    ("ON CONFLICT", 'Column("@", Integer, unique=True, sqlite_on_conflict_unique="IGNORE")', 'Column("@", Integer, unique=True)', "sqlite"),
    ("ON CONFLICT of a UniqueConstraint", 'Column("@", Integer), UniqueConstraint("@", name="uq_@", sqlite_on_conflict="IGNORE")', 'Column("@", Integer)'),
    ("Computed, virtual", "Integer, Computed('n * 5', persisted=False)", "Integer, Computed('n * 6', persisted=False)"),
    ("Computed, virtual, that becomes persisted", "Integer, Computed('n * 5', persisted=False)", "Integer, Computed('n * 5', persisted=True)"),
    ("Computed with a text function", "String(20), Computed(\"'a' || n\")", "String(20), Computed(\"'b' || n\")"),
    ("Index on an expression", 'Column("@", String(20)), Index("ix_@", text("lower(@)"))', 'Column("@", String(20)), Index("ix_@", text("upper(@)"))'),
    ("Index on an expression, added", 'Column("@", String(20))', 'Column("@", String(20)), Index("ix_@", text("lower(@)"))'),
    ("Index on an expression, dropped", 'Column("@", String(20)), Index("ix_@", text("lower(@)"))', 'Column("@", String(20))'),
    ("Index on func.lower", 'Column("@", String(20)), Index("ix_@", func.lower(column("@")))', 'Column("@", String(20))'),
    ("Index on a column and an expression", 'Column("@", String(20)), Index("ix_@", "id", text("lower(@)"))', 'Column("@", String(20)), Index("ix_@", text("lower(@)"), "id")'),
    ("unique Index on an expression", 'Column("@", String(20)), Index("ix_@", text("lower(@)"), unique=True)', 'Column("@", String(20)), Index("ix_@", text("lower(@)"))'),
    ("Index with a collation", 'Column("@", String(20)), Index("ix_@", text("@ COLLATE NOCASE"))', 'Column("@", String(20)), Index("ix_@", "@")'),
    ("Index with desc()", 'Column("@", Integer), Index("ix_@", column("@").desc())', 'Column("@", Integer), Index("ix_@", "@")'),
    ("Index in two orders", 'Column("@", Integer), Index("ix_@", text("@ DESC"), "id")', 'Column("@", Integer), Index("ix_@", "@", text("id DESC"))'),
    ("partial unique Index", 'Column("@", Integer), Index("ix_@", "@", unique=True, sqlite_where=text("@ IS NOT NULL"))', 'Column("@", Integer), Index("ix_@", "@", unique=True)'),
    ("partial Index with a text", 'Column("@", String(9)), Index("ix_@", "@", sqlite_where=text("@ = \'it\'\'s\'"))', 'Column("@", String(9)), Index("ix_@", "@", sqlite_where=text("@ = \'is\'"))'),
    ("Index that becomes partial", 'Column("@", Integer), Index("ix_@", "@")', 'Column("@", Integer), Index("ix_@", "@", sqlite_where=text("@ > 0"))'),
    ("partial Index on an expression", 'Column("@", String(9)), Index("ix_@", text("lower(@)"), sqlite_where=text("@ > \'a\'"))', 'Column("@", String(9)), Index("ix_@", text("lower(@)"))'),
    ("ForeignKey DEFERRABLE", "ForeignKey('target.id', name='fk_@', deferrable=True, initially='DEFERRED')", "ForeignKey('target.id', name='fk_@')"),
    ("ForeignKey SET DEFAULT", "ForeignKey('target.id', name='fk_@', ondelete='SET DEFAULT')", "ForeignKey('target.id', name='fk_@')"),
    ("AUTOINCREMENT", 'Table("@", metadata, Column("id", Integer, primary_key=True), sqlite_autoincrement=True)', 'Table("@", metadata, Column("id", Integer, primary_key=True))', "sqlite"),
    ("AUTOINCREMENT, added", 'Table("@", metadata, Column("id", Integer, primary_key=True))', 'Table("@", metadata, Column("id", Integer, primary_key=True), sqlite_autoincrement=True)', "sqlite"),
    ("WITHOUT ROWID", 'Table("@", metadata, Column("id", Integer, primary_key=True), sqlite_with_rowid=False)', 'Table("@", metadata, Column("id", Integer, primary_key=True))', "sqlite"),
    ("STRICT", 'Table("@", metadata, Column("id", Integer, primary_key=True), sqlite_strict=True)', 'Table("@", metadata, Column("id", Integer, primary_key=True))', "sqlite"),
]

POSTGRESQL: list[Line] = [
    ("CheckConstraint of a column", "Integer, CheckConstraint('@ > 0', name='ck_@')", "Integer"),
    ("JSONB", "pg.JSONB", "Text"),
    ("ARRAY of Text", "pg.ARRAY(Text)", "Text"),
    ("ARRAY of Integer", "ARRAY(Integer)", "pg.ARRAY(BigInteger)"),
    ("ARRAY of String", "pg.ARRAY(String(10))", "pg.ARRAY(String(20))"),
    ("ARRAY of two dimensions", "pg.ARRAY(Integer, dimensions=2)", "pg.ARRAY(BigInteger, dimensions=2)"),
    ("ARRAY of Enum", "pg.ARRAY(Enum('a', 'b', name='@'))", "pg.ARRAY(Text)"),
    ("ARRAY of Uuid", "pg.ARRAY(Uuid)", "pg.ARRAY(Text)"),
    ("INTERVAL", "pg.INTERVAL", "Text"),
    ("INTERVAL with fields", "pg.INTERVAL(fields='DAY TO SECOND')", "pg.INTERVAL(fields='YEAR TO MONTH')"),
    ("INTERVAL with a precision", "pg.INTERVAL(precision=3)", "pg.INTERVAL(precision=4)"),
    ("TIMESTAMP with a precision", "pg.TIMESTAMP(precision=3)", "pg.TIMESTAMP(precision=0)"),
    ("TIMESTAMP whose time zone changes", "pg.TIMESTAMP", "pg.TIMESTAMP(timezone=True)"),
    ("DateTime whose time zone changes", "DateTime(timezone=True)", "DateTime"),
    ("TIME with a precision", "pg.TIME(precision=3)", "pg.TIME(precision=0)"),
    ("INET", "pg.INET", "Text"),
    ("CIDR", "pg.CIDR", "Text"),
    ("MACADDR", "pg.MACADDR", "Text"),
    ("MACADDR8", "pg.MACADDR8", "Text"),
    ("BIT", "pg.BIT(4)", "pg.BIT(5)"),
    ("BIT VARYING", "pg.BIT(4, varying=True)", "pg.BIT(5, varying=True)"),
    ("MONEY", "pg.MONEY", "Numeric(8, 2)"),
    ("OID", "pg.OID", "Integer"),
    ("REGCLASS", "pg.REGCLASS", "Text"),
    ("TSVECTOR", "pg.TSVECTOR", "Text"),
    ("TSQUERY", "pg.TSQUERY", "Text"),
    ("BYTEA", "pg.BYTEA", ""),
    ("INT4RANGE", "pg.INT4RANGE", "Text"),
    ("INT8RANGE", "pg.INT8RANGE", "Text"),
    ("NUMRANGE", "pg.NUMRANGE", "Text"),
    ("DATERANGE", "pg.DATERANGE", "Text"),
    ("TSRANGE", "pg.TSRANGE", "Text"),
    ("TSTZRANGE", "pg.TSTZRANGE", "Text"),
    ("INT4MULTIRANGE", "pg.INT4MULTIRANGE", "Text"),
    ("TSTZMULTIRANGE", "pg.TSTZMULTIRANGE", "Text"),
    ("ENUM", "pg.ENUM('a', 'b', name='@')", "Text"),
    ("DOMAIN", "pg.DOMAIN('@', Integer, check=text('VALUE > 0'))", "Integer"),
    ("DOMAIN of a text", "pg.DOMAIN('@', Text, default='x')", "Text"),
    ("String without a length", "String", "String(20)"),
    ("VARCHAR without a length", "VARCHAR", "Text"),
    ("collation of a column", "String(20, collation='C')", "String(20, collation='POSIX')"),
    ("collation of a column, added", "String(20)", "String(20, collation='C')"),
    ("collation of a column, dropped", "Text(collation='C')", "Text"),
    ("UUID", "pg.UUID", "Text"),
    ("default: gen_random_uuid()", "Uuid, server_default=text('gen_random_uuid()')", "Uuid"),
    ("default: func.gen_random_uuid()", "Uuid, server_default=func.gen_random_uuid()", "Uuid"),
    ("default: JSONB", "pg.JSONB, server_default=text(\"'{}'\")", "pg.JSONB, server_default=text(\"'[]'\")"),
    ("default: JSONB with a cast", "pg.JSONB, server_default=text(\"'{}'::jsonb\")", "pg.JSONB, server_default=text(\"'[]'::jsonb\")"),
    ("default: JSONB with other spaces", "pg.JSONB, server_default='{\"a\":1}'", "pg.JSONB, server_default='{\"a\":2}'"),
    ("default: JSON as text", "JSON, server_default='{\"a\": \"b c\"}'", "JSON, server_default='{\"a\": \"b  c\"}'"),
    ("default: ARRAY", "pg.ARRAY(Text), server_default='{}'", "pg.ARRAY(Text), server_default='{a}'"),
    ("default: ARRAY[]", "pg.ARRAY(Integer), server_default=text('ARRAY[1, 2]')", "pg.ARRAY(Integer), server_default=text('ARRAY[1, 3]')"),
    ("default: ARRAY[] with a cast", "pg.ARRAY(Text), server_default=text('ARRAY[]::text[]')", "pg.ARRAY(Text), server_default=text(\"ARRAY['a']::text[]\")"),
    ("default: INTERVAL", "pg.INTERVAL, server_default='1 day'", "pg.INTERVAL, server_default='2 days'"),
    ("default: INTERVAL in SQL", "pg.INTERVAL, server_default=text(\"interval '1 hour'\")", "pg.INTERVAL, server_default=text(\"interval '2 hours'\")"),
    ("default: varchar with a cast", "String(20), server_default=text(\"'a'::character varying\")", "String(20), server_default=text(\"'b'::character varying\")"),
    ("default: CAST", "String(20), server_default=text(\"CAST('a' AS varchar)\")", "String(20), server_default=text(\"CAST('b' AS varchar)\")"),
    ("default: cast()", "Integer, server_default=cast('5', Integer)", "Integer, server_default=cast('6', Integer)"),
    ("default: E'' string", "Text, server_default=text(\"E'a\\\\nb'\")", "Text, server_default=text(\"E'a\\\\nc'\")"),
    ("default: sequence", "Integer, server_default=text(\"nextval('target_id_seq')\")", "Integer"),
    ("default: CURRENT_USER", "Text, server_default=text('CURRENT_USER')", "Text, server_default=text('SESSION_USER')"),
    ("default: now() at a time zone", "DateTime, server_default=text(\"(now() AT TIME ZONE 'utc')\")", "DateTime, server_default=text(\"(now() AT TIME ZONE 'CET')\")"),
    ("default: func.timezone", "DateTime, server_default=func.timezone('UTC', func.now())", "DateTime"),
    ("default: now() plus an interval", "DateTime(timezone=True), server_default=text(\"now() + interval '1 day'\")", "DateTime(timezone=True), server_default=text(\"now() + interval '2 days'\")"),
    ("default: moment with a time zone", "DateTime(timezone=True), server_default='2020-01-01 00:00:00+00'", "DateTime(timezone=True), server_default='2020-01-01 01:00:00+00'"),
    ("default: clock_timestamp()", "DateTime(timezone=True), server_default=text('clock_timestamp()')", "DateTime(timezone=True), server_default=func.now()"),
    ("default: CURRENT_DATE", "Date, server_default=text('CURRENT_DATE')", "Date, server_default=text('CURRENT_DATE + 1')"),
    ("default: CASE", "Integer, server_default=text('CASE WHEN 1 > 2 THEN 3 ELSE 4 END')", "Integer, server_default=text('CASE WHEN 1 > 2 THEN 3 ELSE 5 END')"),
    ("default: md5(random()::text)", "Text, server_default=text('md5(random()::text)')", "Text, server_default=text('md5(random()::text || now()::text)')"),
    ("default: ENUM with a cast", "Enum('a', 'b', name='@'), server_default=text(\"'a'::@\")", "Enum('a', 'b', name='@'), server_default=text(\"'b'::@\")"),
    ("default: INET", "pg.INET, server_default='127.0.0.1'", "pg.INET, server_default='127.0.0.2'"),
    ("default: BIT", "pg.BIT(4), server_default=text(\"B'0101'\")", "pg.BIT(4), server_default=text(\"B'0111'\")"),
    ("default: MONEY", "pg.MONEY, server_default='1.50'", "pg.MONEY, server_default='1.60'"),
    ("default: range", "pg.INT4RANGE, server_default='[1,5)'", "pg.INT4RANGE, server_default='[1,6)'"),
    ("default: BYTEA", "LargeBinary, server_default=text(\"'\\\\x00'::bytea\")", "LargeBinary, server_default=text(\"'\\\\x01'::bytea\")"),
    ("default: Boolean as 'f'", "Boolean, server_default='f'", "Boolean, server_default='t'"),
    ("default: Boolean expression", "Boolean, server_default=text('1 > 2')", "Boolean, server_default=text('1 < 2')"),
    ("default: Numeric with more digits", "Numeric(10, 2), server_default='1.5'", "Numeric(10, 2), server_default='1.6'"),
    ("default: number with a cast", "BigInteger, server_default=text('5::bigint')", "BigInteger, server_default=text('6::bigint')"),
    ("Identity", 'Table("@", metadata, Column("id", Integer, Identity(), primary_key=True))', 'Table("@", metadata, Column("id", Integer, Identity(always=True), primary_key=True))'),
    ("Identity with options", 'Table("@", metadata, Column("id", BigInteger, Identity(always=True, start=10, increment=2, minvalue=5, maxvalue=1000, cycle=True, cache=3), primary_key=True))', 'Table("@", metadata, Column("id", BigInteger, Identity(always=True, start=10, increment=3, minvalue=5, maxvalue=1000, cycle=True, cache=3), primary_key=True))'),
    ("Identity of a column that is not the key", 'Table("@", metadata, Column("id", Integer, primary_key=True), Column("x", Integer, Identity()))', 'Table("@", metadata, Column("id", Integer, primary_key=True), Column("x", Integer, Identity(increment=2)))'),
    ("SERIAL that becomes Identity", 'Table("@", metadata, Column("id", Integer, primary_key=True))', 'Table("@", metadata, Column("id", Integer, Identity(), primary_key=True))'),
    ("BIGSERIAL", 'Table("@", metadata, Column("id", BigInteger, primary_key=True))', 'Table("@", metadata, Column("id", String(40), primary_key=True))'),
    ("SMALLSERIAL", 'Table("@", metadata, Column("id", SmallInteger, primary_key=True))', 'Table("@", metadata, Column("id", BigInteger, primary_key=True))'),
    ("primary key with a Sequence", 'Table("@", metadata, Column("id", Integer, Sequence("seq_@"), primary_key=True))', 'Table("@", metadata, Column("id", BigInteger, Sequence("seq_@"), primary_key=True))'),
    ("primary key with gen_random_uuid()", 'Table("@", metadata, Column("id", Uuid, server_default=text("gen_random_uuid()"), primary_key=True))', 'Table("@", metadata, Column("id", Uuid, primary_key=True))'),
    ("Computed with a cast", "Text, Computed(\"n::text || 'x'\", persisted=True)", "Text, Computed(\"n::text || 'y'\", persisted=True)"),
    ("Computed TSVECTOR", "pg.TSVECTOR, Computed(\"to_tsvector('english', 'a')\", persisted=True)", "pg.TSVECTOR, Computed(\"to_tsvector('german', 'a')\", persisted=True)"),
    ("Computed with coalesce", "Text, Computed(\"coalesce(n::text, '')\", persisted=True)", "Text, Computed(\"coalesce(n::text, '-')\", persisted=True)"),
    ("Index DESC NULLS LAST", 'Column("@", Integer), Index("ix_@", text("@ DESC NULLS LAST"))', 'Column("@", Integer), Index("ix_@", text("@ DESC"))'),
    ("Index with nulls_first()", 'Column("@", Integer), Index("ix_@", column("@").asc().nulls_first())', 'Column("@", Integer), Index("ix_@", "@")'),
    ("Index with desc()", 'Column("@", Integer), Index("ix_@", column("@").desc())', 'Column("@", Integer), Index("ix_@", "@")'),
    ("Index on lower()", 'Column("@", String(20)), Index("ix_@", text("lower(@)"))', 'Column("@", String(20)), Index("ix_@", text("upper(@)"))'),
    ("Index on func.lower()", 'Column("@", String(20)), Index("ix_@", func.lower(column("@")))', 'Column("@", String(20)), Index("ix_@", func.upper(column("@")))'),
    ("Index on an expression, added", 'Column("@", String(20))', 'Column("@", String(20)), Index("ix_@", text("lower(@)"))'),
    ("Index on an expression, dropped", 'Column("@", String(20)), Index("ix_@", text("lower(@)"))', 'Column("@", String(20))'),
    ("Index on a JSON path", 'Column("@", pg.JSONB), Index("ix_@", text("(@->>\'a\')"))', 'Column("@", pg.JSONB), Index("ix_@", text("(@->>\'b\')"))'),
    ("Index on a concatenation", 'Column("@", String(20)), Index("ix_@", text("(@ || \'x\' || n)"))', 'Column("@", String(20)), Index("ix_@", text("(@ || \'y\' || id)"))'),
    ("Index on coalesce()", 'Column("@", String(20)), Index("ix_@", text("coalesce(@, \'\')"))', 'Column("@", String(20)), Index("ix_@", text("coalesce(@, \'x\')"))'),
    ("Index on CAST", 'Column("@", String(20)), Index("ix_@", cast(column("@"), Integer))', 'Column("@", String(20)), Index("ix_@", cast(column("@"), BigInteger))'),
    ("Index on arithmetic", 'Column("@", Integer), Index("ix_@", text("(@ + 1) DESC"))', 'Column("@", Integer), Index("ix_@", text("(@ + 2) DESC"))'),
    ("Index with parentheses", 'Column("@", Integer), Index("ix_@", text("((@ + 1) * 2)"))', 'Column("@", Integer), Index("ix_@", text("(@ + 1 * 2)"))'),
    ("unique Index on lower()", 'Column("@", String(20)), Index("ix_@", text("lower(@)"), unique=True)', 'Column("@", String(20)), Index("ix_@", text("lower(@)"))'),
    ("partial Index on a Boolean", 'Column("@", Boolean), Index("ix_@", "id", postgresql_where=text("@"))', 'Column("@", Boolean), Index("ix_@", "id", postgresql_where=text("NOT @"))'),
    ("partial Index with a text", 'Column("@", String(9)), Index("ix_@", "@", postgresql_where=text("@ = \'a\'"))', 'Column("@", String(9)), Index("ix_@", "@", postgresql_where=text("@ = \'b\'"))'),
    ("partial Index with IN", 'Column("@", String(9)), Index("ix_@", "@", postgresql_where=text("@ IN (\'a\', \'b\')"))', 'Column("@", String(9)), Index("ix_@", "@", postgresql_where=text("@ IN (\'a\', \'c\')"))'),
    ("Index that becomes partial", 'Column("@", Integer), Index("ix_@", "@")', 'Column("@", Integer), Index("ix_@", "@", postgresql_where=text("@ > 0"))'),
    ("partial unique Index", 'Column("@", Integer), Index("ix_@", "@", unique=True, postgresql_where=text("@ IS NOT NULL"))', 'Column("@", Integer), Index("ix_@", "@", unique=True)'),
    ("Index INCLUDE", 'Column("@", Integer), Index("ix_@", "@", postgresql_include=["id"])', 'Column("@", Integer), Index("ix_@", "@")'),
    ("Index INCLUDE, added", 'Column("@", Integer), Index("ix_@", "@")', 'Column("@", Integer), Index("ix_@", "@", postgresql_include=["id"])'),
    ("Index USING hash", 'Column("@", Integer), Index("ix_@", "@", postgresql_using="hash")', 'Column("@", Integer), Index("ix_@", "@")'),
    ("Index USING gin", 'Column("@", pg.JSONB), Index("ix_@", "@", postgresql_using="gin")', 'Column("@", pg.JSONB)'),
    ("Index USING gist", 'Column("@", pg.TSTZRANGE), Index("ix_@", "@", postgresql_using="gist")', 'Column("@", pg.TSTZRANGE)'),
    ("Index USING brin", 'Column("@", Integer), Index("ix_@", "@", postgresql_using="brin")', 'Column("@", Integer), Index("ix_@", "@")'),
    ("Index with an operator class", 'Column("@", pg.JSONB), Index("ix_@", "@", postgresql_using="gin", postgresql_ops={"@": "jsonb_path_ops"})', 'Column("@", pg.JSONB), Index("ix_@", "@", postgresql_using="gin")'),
    ("Index with text_pattern_ops", 'Column("@", Text), Index("ix_@", "@", postgresql_ops={"@": "text_pattern_ops"})', 'Column("@", Text), Index("ix_@", "@")'),
    ("Index with options", 'Column("@", Integer), Index("ix_@", "@", postgresql_with={"fillfactor": 50})', 'Column("@", Integer), Index("ix_@", "@", postgresql_with={"fillfactor": 60})'),
    ("Index NULLS NOT DISTINCT", 'Column("@", Integer), Index("ix_@", "@", unique=True, postgresql_nulls_not_distinct=True)', 'Column("@", Integer), Index("ix_@", "@", unique=True)'),
    ("Index with a collation", 'Column("@", Text), Index("ix_@", text("@ COLLATE \\"C\\""))', 'Column("@", Text), Index("ix_@", "@")'),
    ("Index CONCURRENTLY", 'Column("@", Integer), Index("ix_@", "@")', 'Column("@", Integer)'),
    ("Index TSVECTOR", 'Column("@", Text), Index("ix_@", text("to_tsvector(\'english\', @)"), postgresql_using="gin")', 'Column("@", Text), Index("ix_@", text("to_tsvector(\'german\', @)"), postgresql_using="gin")'),
    ("UniqueConstraint NULLS NOT DISTINCT", 'Column("@", Integer), UniqueConstraint("@", name="uq_@", postgresql_nulls_not_distinct=True)', 'Column("@", Integer), UniqueConstraint("@", name="uq_@")'),
    ("DEFERRABLE of a UniqueConstraint", 'Column("@", Integer), UniqueConstraint("@", name="uq_@", deferrable=True, initially="DEFERRED")', 'Column("@", Integer), UniqueConstraint("@", name="uq_@")', "postgresql"),
    ("UniqueConstraint INCLUDE", 'Column("@", Integer), UniqueConstraint("@", name="uq_@", postgresql_include=["id"])', 'Column("@", Integer)'),
    ("ForeignKey DEFERRABLE", "ForeignKey('target.id', name='fk_@', deferrable=True, initially='DEFERRED')", "ForeignKey('target.id', name='fk_@')"),
    ("ForeignKey SET DEFAULT", "ForeignKey('target.id', name='fk_@', ondelete='SET DEFAULT')", "ForeignKey('target.id', name='fk_@')"),
    ("MATCH of a ForeignKey", "ForeignKey('target.id', name='fk_@', match='FULL')", "ForeignKey('target.id', name='fk_@')", "postgresql"),
    ("ExcludeConstraint", 'Column("@", pg.TSTZRANGE), pg.ExcludeConstraint(("@", "&&"), name="ex_@", using="gist")', 'Column("@", pg.TSTZRANGE)', "postgresql"),
    ("ExcludeConstraint, added", 'Column("@", pg.TSTZRANGE)', 'Column("@", pg.TSTZRANGE), pg.ExcludeConstraint(("@", "&&"), name="ex_@", using="gist")', "postgresql"),
    ("CheckConstraint NOT VALID", 'Column("@", Integer), CheckConstraint("@ > 0", name="ck_@", postgresql_not_valid=True)', 'Column("@", Integer)'),
    ("CheckConstraint with a cast", 'Column("@", Text), CheckConstraint("@::integer > 0", name="ck_@")', 'Column("@", Text), CheckConstraint("@::integer > 1", name="ck_@")'),
    ("CheckConstraint with ANY", 'Column("@", Text), CheckConstraint("@ = ANY (ARRAY[\'a\', \'b\'])", name="ck_@")', 'Column("@", Text), CheckConstraint("@ = ANY (ARRAY[\'a\', \'c\'])", name="ck_@")'),
    ("CheckConstraint with LIKE", 'Column("@", Text), CheckConstraint("@ LIKE \'a%\'", name="ck_@")', 'Column("@", Text), CheckConstraint("@ LIKE \'b%\'", name="ck_@")'),
    ("UNLOGGED", 'Table("@", metadata, Column("id", Integer, primary_key=True), prefixes=["UNLOGGED"])', 'Table("@", metadata, Column("id", Integer, primary_key=True))', "postgresql"),
    ("WITH of a table", 'Table("@", metadata, Column("id", Integer, primary_key=True), **WITH)', 'Table("@", metadata, Column("id", Integer, primary_key=True))', "postgresql"),
    ("partitioned table", 'Table("@", metadata, Column("id", Integer), Column("x", Integer), postgresql_partition_by="RANGE (id)")', 'Table("@", metadata, Column("id", Integer), postgresql_partition_by="RANGE (id)")'),
]

MARIADB: list[Line] = [
    ("TINYINT", "mysql.TINYINT", "Integer"),
    ("TINYINT(1)", "mysql.TINYINT(1)", "Integer"),
    ("TINYINT UNSIGNED", "mysql.TINYINT(unsigned=True)", "mysql.TINYINT"),
    ("SMALLINT UNSIGNED", "mysql.SMALLINT(unsigned=True)", "mysql.SMALLINT"),
    ("MEDIUMINT", "mysql.MEDIUMINT", "Integer"),
    ("INTEGER(11)", "mysql.INTEGER(11)", "BigInteger"),
    ("INTEGER with a display width", "mysql.INTEGER(display_width=5)", "BigInteger"),
    ("INTEGER UNSIGNED", "mysql.INTEGER(unsigned=True)", "mysql.INTEGER"),
    ("INTEGER UNSIGNED, added", "mysql.INTEGER", "mysql.INTEGER(unsigned=True)"),
    ("INTEGER ZEROFILL", "mysql.INTEGER(unsigned=True, zerofill=True)", "BigInteger"),
    ("BIGINT UNSIGNED", "mysql.BIGINT(unsigned=True)", "mysql.BIGINT"),
    ("DECIMAL UNSIGNED", "mysql.DECIMAL(10, 2, unsigned=True)", "mysql.DECIMAL(10, 2)"),
    ("DOUBLE UNSIGNED", "mysql.DOUBLE(unsigned=True)", "mysql.DOUBLE"),
    ("DOUBLE with a scale", "mysql.DOUBLE(10, 2, asdecimal=True)", "mysql.DOUBLE(12, 2, asdecimal=True)"),
    ("FLOAT with a scale", "mysql.FLOAT(10, 2)", "mysql.FLOAT(12, 2)"),
    ("FLOAT UNSIGNED", "mysql.FLOAT(unsigned=True)", "mysql.FLOAT"),
    ("mysql.REAL", "mysql.REAL", "Integer"),
    ("BIT", "mysql.BIT(4)", "mysql.BIT(5)"),
    ("BIT without a length", "mysql.BIT", "mysql.BIT(5)"),
    ("YEAR", "mysql.YEAR", "Integer"),
    ("YEAR(4)", "mysql.YEAR(4)", "Integer"),
    ("DATETIME(6)", "mysql.DATETIME(fsp=6)", "mysql.DATETIME(fsp=3)"),
    ("DATETIME(6) that becomes DATETIME", "mysql.DATETIME(fsp=6)", "DateTime"),
    ("DATETIME that becomes DATETIME(6)", "DateTime", "mysql.DATETIME(fsp=6)"),
    ("TIMESTAMP(6)", "mysql.TIMESTAMP(fsp=6)", "mysql.TIMESTAMP(fsp=3)"),
    ("TIME(3)", "mysql.TIME(fsp=3)", "mysql.TIME(fsp=6)"),
    ("TINYTEXT", "mysql.TINYTEXT", "Text"),
    ("MEDIUMTEXT", "mysql.MEDIUMTEXT", "Text"),
    ("LONGTEXT", "mysql.LONGTEXT", "Text"),
    ("TEXT with a length", "Text(1000)", "mysql.LONGTEXT"),
    ("TINYBLOB", "mysql.TINYBLOB", "mysql.BLOB"),
    ("MEDIUMBLOB", "mysql.MEDIUMBLOB", "mysql.BLOB"),
    ("LONGBLOB", "mysql.LONGBLOB", "mysql.BLOB"),
    ("BLOB", "mysql.BLOB", "mysql.LONGBLOB"),
    ("LargeBinary that becomes LONGBLOB", "LargeBinary", "mysql.LONGBLOB"),
    ("LargeBinary with 70,000 bytes", "LargeBinary(70000)", "LargeBinary(100)"),
    ("BINARY", "BINARY(10)", "BINARY(12)"),
    ("VARBINARY", "VARBINARY(10)", "VARBINARY(12)"),
    ("NVARCHAR", "mysql.NVARCHAR(10)", "mysql.NVARCHAR(12)"),
    ("NCHAR", "mysql.NCHAR(10)", "mysql.NCHAR(12)"),
    ("ENUM", "mysql.ENUM('a', 'b')", "mysql.ENUM('a', 'b', 'c')"),
    ("order of the values of an ENUM", "mysql.ENUM('a', 'b')", "mysql.ENUM('b', 'a')", "mariadb"),
    ("ENUM with a quote", 'mysql.ENUM("it\'s", "a,b")', "mysql.ENUM('a')"),
    ("ENUM with a charset", "mysql.ENUM('a', 'b', charset='latin1')", "mysql.ENUM('a', 'b', 'c', charset='latin1')"),
    ("SET", "mysql.SET('a', 'b')", "mysql.SET('a', 'b', 'c')"),
    ("SET with another value", "mysql.SET('x', 'y')", "mysql.SET('x', 'z')"),
    ("JSON of MySQL", "mysql.JSON", "Integer"),
    ("JSON that becomes LONGTEXT", "JSON", "mysql.LONGTEXT", "mariadb"),
    ("LONGTEXT that becomes JSON", "mysql.LONGTEXT", "JSON", "mariadb"),
    ("INET4", "mariadb.INET4", "String(20)"),
    ("INET6", "mariadb.INET6", "String(40)"),
    ("UUID", "UUID", "String(40)"),
    ("VARCHAR with a charset", "mysql.VARCHAR(20, charset='latin1')", "mysql.VARCHAR(20, charset='ascii')"),
    ("VARCHAR with a collation", "mysql.VARCHAR(20, collation='utf8mb4_bin')", "mysql.VARCHAR(20, collation='utf8mb4_unicode_ci')"),
    ("VARCHAR with a charset and a collation", "mysql.VARCHAR(20, charset='utf8mb4', collation='utf8mb4_bin')", "mysql.VARCHAR(20, charset='latin1', collation='latin1_bin')"),
    ("VARCHAR with a binary collation", "mysql.VARCHAR(20, binary=True)", "mysql.VARCHAR(21, binary=True)"),
    ("VARCHAR with ASCII", "mysql.VARCHAR(20, ascii=True)", "mysql.VARCHAR(21, ascii=True)"),
    ("String with a collation", "String(50, collation='utf8mb4_bin')", "String(50, collation='utf8mb4_unicode_ci')"),
    ("collation of a column, added", "String(50)", "String(50, collation='utf8mb4_bin')"),
    ("collation of a column, dropped", "String(50, collation='utf8mb4_bin')", "String(50)", "mariadb"),
    ("Text with a collation", "Text(collation='utf8mb4_bin')", "Text(collation='utf8mb4_unicode_ci')"),
    ("default: CURRENT_TIMESTAMP(6)", "mysql.DATETIME(fsp=6), server_default=text('CURRENT_TIMESTAMP(6)')", "mysql.DATETIME(fsp=6), server_default='2020-01-01 00:00:00.000001'"),
    ("default: NOW()", "DateTime, server_default=text('NOW()')", "DateTime, server_default='2020-01-01 00:00:00'"),
    ("default: func.now(6)", "mysql.DATETIME(fsp=6), server_default=func.now(6)", "mysql.DATETIME(fsp=6)"),
    ("default: LOCALTIMESTAMP", "DateTime, server_default=text('LOCALTIMESTAMP')", "DateTime"),
    ("default: ON UPDATE", "DateTime, server_default=text('CURRENT_TIMESTAMP ON UPDATE CURRENT_TIMESTAMP')", "DateTime, server_default=text('CURRENT_TIMESTAMP')"),
    ("default: ON UPDATE, added", "DateTime, server_default=func.now()", "DateTime, server_default=text('CURRENT_TIMESTAMP ON UPDATE CURRENT_TIMESTAMP')"),
    ("default: ON UPDATE with a precision", "mysql.DATETIME(fsp=6), server_default=text('CURRENT_TIMESTAMP(6) ON UPDATE CURRENT_TIMESTAMP(6)')", "mysql.DATETIME(fsp=6), server_default=text('CURRENT_TIMESTAMP(6)')"),
    ("default: ON UPDATE in a TIMESTAMP", "mysql.TIMESTAMP, server_default=text('CURRENT_TIMESTAMP ON UPDATE CURRENT_TIMESTAMP'), nullable=False", "mysql.TIMESTAMP, server_default=text('CURRENT_TIMESTAMP'), nullable=False"),
    ("default: NULL ON UPDATE", "mysql.TIMESTAMP, server_default=text('NULL ON UPDATE CURRENT_TIMESTAMP'), nullable=True", "mysql.TIMESTAMP, nullable=True", "mariadb"),
    ("default: now() ON UPDATE now()", "DateTime, server_default=text('now() ON UPDATE now()')", "DateTime"),
    ("TIMESTAMP NOT NULL without a default", "TIMESTAMP, nullable=False", "Integer"),
    ("default: uuid()", "String(36), server_default=text('(uuid())')", "String(36), server_default=text('(md5(uuid()))')"),
    ("default: func.uuid()", "Uuid, server_default=func.uuid()", "Uuid"),
    ("default: expression", "Integer, server_default=text('(1 + 2)')", "Integer, server_default=text('(1 + 3)')"),
    ("default: expression with texts", "String(30), server_default=text(\"(concat('a', 'b'))\")", "String(30), server_default=text(\"(concat('a', 'c'))\")"),
    ("default: curdate()", "Date, server_default=text('(curdate())')", "Date"),
    ("default: rand()", "Float, server_default=text('(rand())')", "Float"),
    ("default: interval", "DateTime, server_default=text('(now() + interval 1 day)')", "DateTime, server_default=text('(now() + interval 2 day)')"),
    ("default: TRUE", "Boolean, server_default=text('TRUE')", "Boolean, server_default=text('FALSE')"),
    ("default: BIT", "mysql.BIT(4), server_default=text(\"b'0101'\")", "mysql.BIT(4), server_default=text(\"b'0111'\")"),
    ("default: hexadecimal", "VARBINARY(4), server_default=text(\"x'4142'\")", "VARBINARY(4), server_default=text(\"x'4143'\")"),
    ("default: ENUM", "mysql.ENUM('a', 'b'), server_default='a'", "mysql.ENUM('a', 'b'), server_default='b'"),
    ("default: SET", "mysql.SET('a', 'b'), server_default='a,b'", "mysql.SET('a', 'b'), server_default='a'"),
    ("default: TEXT", "Text, server_default='a'", "Text, server_default='b'"),
    ("default: JSON", "JSON, server_default='{}'", "JSON, server_default='[]'"),
    ("default: JSON_OBJECT()", "JSON, server_default=text('(json_object())')", "JSON, server_default=text('(json_array())')"),
    ("default: DECIMAL with more digits", "Numeric(10, 2), server_default='1.5'", "Numeric(10, 2), server_default='1.6'"),
    ("default: UNSIGNED", "mysql.INTEGER(unsigned=True), server_default='5'", "mysql.INTEGER(unsigned=True), server_default='6'"),
    ("default: YEAR", "mysql.YEAR, server_default='2020'", "mysql.YEAR, server_default='2021'"),
    ("default: number in quotes", "Integer, server_default=text(\"'5'\")", "Integer, server_default=text(\"'6'\")"),
    ("default: text in double quotes", "String(20), server_default=text('\"red\"')", "String(20), server_default=text('\"blue\"')"),
    ("Computed, virtual", "Integer, Computed('n * 5', persisted=False)", "Integer, Computed('n * 6', persisted=False)"),
    ("Computed, virtual, that becomes persisted", "Integer, Computed('n * 5', persisted=False)", "Integer, Computed('n * 5', persisted=True)"),
    ("Computed with concat()", "String(30), Computed(\"concat('a', n)\", persisted=True)", "String(30), Computed(\"concat('b', n)\", persisted=True)"),
    ("Index FULLTEXT", 'Column("@", Text), Index("ix_@", "@", mysql_prefix="FULLTEXT", mariadb_prefix="FULLTEXT")', 'Column("@", Text)'),
    ("Index with a length", 'Column("@", Text), Index("ix_@", "@", mysql_length=20, mariadb_length=20)', 'Column("@", Text), Index("ix_@", "@", mysql_length=30, mariadb_length=30)'),
    ("Index with a length that is dropped", 'Column("@", String(50)), Index("ix_@", "@", mysql_length=20, mariadb_length=20)', 'Column("@", String(50)), Index("ix_@", "@")'),
    ("Index USING btree", 'Column("@", Integer), Index("ix_@", "@", mysql_using="btree", mariadb_using="btree")', 'Column("@", Integer)'),
    ("primary key of an INTEGER UNSIGNED", 'Table("@", metadata, Column("id", mysql.INTEGER(unsigned=True), primary_key=True))', 'Table("@", metadata, Column("id", mysql.BIGINT(unsigned=True), primary_key=True))'),
    ("table with a charset", 'Table("@", metadata, Column("id", Integer, primary_key=True), Column("s", String(9)), mysql_charset="latin1", mariadb_charset="latin1")', 'Table("@", metadata, Column("id", Integer, primary_key=True), Column("s", String(10)), mysql_charset="latin1", mariadb_charset="latin1")'),
    ("collation of a table", 'Table("@", metadata, Column("id", Integer, primary_key=True), Column("s", String(9)), mysql_collate="utf8mb4_bin", mariadb_collate="utf8mb4_bin")', 'Table("@", metadata, Column("id", Integer, primary_key=True), Column("s", String(9)))', "mariadb"),
    ("engine of a table", 'Table("@", metadata, Column("id", Integer, primary_key=True), mysql_engine="MyISAM", mariadb_engine="MyISAM")', 'Table("@", metadata, Column("id", Integer, primary_key=True), mysql_engine="InnoDB", mariadb_engine="InnoDB")', "mariadb"),
    ("table with a row format", 'Table("@", metadata, Column("id", Integer, primary_key=True), mysql_row_format="DYNAMIC", mariadb_row_format="DYNAMIC")', 'Table("@", metadata, Column("id", Integer, primary_key=True), Column("x", Integer))'),
]

# fmt: on

_COMMON = (TYPES, DEFAULTS, COLUMNS, INDEXES, CONSTRAINTS, TABLES)
DATABASES: dict[str, tuple[list[Line], ...]] = {
    "sqlite": (*_COMMON, SQLITE),
    "postgresql": (*_COMMON, POSTGRESQL),
    "mariadb": (*_COMMON, MARIADB),
}


@dataclass(frozen=True)
class Kind:
    """A kind of one database.

    :ivar id: the name that only this kind has.
    :ivar name: the name of the kind.
    :ivar before: the source.
    :ivar after: the source after the change.
    :ivar seen: whether autogenerate sees the change.
    :ivar exists: whether the database has such a thing.
    """

    id: str
    name: str
    before: str
    after: str
    seen: bool
    exists: bool

    @classmethod
    def of(cls, number: int, line: Line, database: str) -> Kind:
        name, before, after, *unseen = line
        id_ = f"k{number:03}"
        where = " ".join(unseen).split()
        exists = f"no-{database}" not in where
        return cls(id_, name, _items(before, id_), _items(after, id_), exists and database not in where, exists)


def kinds(database: str) -> list[Kind]:
    """Return all kinds of a database."""
    lines = [line for group in DATABASES[database] for line in group]
    return [Kind.of(number, line, database) for number, line in enumerate(lines)]


def _items(source: str, name: str) -> str:
    whole = source.startswith("Table(") or 'Column("' in source or not source
    return (source if whole else f'Column("@", {source})').replace("@", name)


def module(sources: Sequence[str]) -> str:
    """Return the source of a module with a table for each 20 kinds."""
    tables = [source for source in sources if source.startswith("Table(")]
    shared = [source for source in sources if not source.startswith("Table(")]
    for number in range(0, len(shared), 20):
        items = [
            'Column("id", Integer, primary_key=True), Column("n", Integer)',
            *filter(None, shared[number : number + 20]),
        ]
        tables.append(f'Table("zoo{number // 20:02}", metadata,\n    ' + ",\n    ".join(items) + ",\n)")
    assigned = [f"table{number} = {source}" for number, source in enumerate(tables)]
    return "\n\n".join([HEAD, CONVENTION, TARGET, *assigned]) + "\n"


def table() -> str:
    """Return the changes that are not seen, as a table of the documentation."""
    unseen = {
        database: {kind.name for kind in kinds(database) if kind.exists and not kind.seen} for database in DATABASES
    }
    names = dict.fromkeys(line[0] for groups in DATABASES.values() for group in groups for line in group)
    rows = [
        f"| {name} | " + " | ".join("not seen" if name in unseen[database] else "" for database in DATABASES) + " |"
        for name in names
        if any(name in found for found in unseen.values())
    ]
    return "\n".join(["| change | SQLite | PostgreSQL | MariaDB |", "| --- | --- | --- | --- |", *rows])
