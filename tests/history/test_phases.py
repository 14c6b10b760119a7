"""In which phase a revision is, by what its ``upgrade()`` does, by its header, and by the setting."""

from __future__ import annotations

import re
from pathlib import Path
from textwrap import indent

import pytest

from ampho.errors import RevisionFileError
from ampho.history.phases import Phases, Placement
from ampho.history.revision import Phase, read_revision

HEAD = "import sqlalchemy as sa\nfrom alembic import op\n\nrevision = 'app_1'\ndown_revision = None\n"

PRE = (
    "op.create_table('tags', sa.Column('id', sa.Integer(), primary_key=True), sa.Column('name', nullable=False))",
    "op.add_column('posts', sa.Column('body', sa.Text()))",
    "op.add_column('posts', sa.Column('stars', sa.Integer(), nullable=False, server_default='0'))",
    "op.create_index('by_title', 'posts', ['title'])",
    "op.create_unique_constraint('uq', 'posts', ['slug'])",
    "op.drop_index('by_title', 'posts')",
    "op.drop_constraint('uq', 'posts')",
    "op.alter_column('posts', 'title', nullable=True, existing_type=sa.String(20))",
    "op.alter_column('posts', 'title', existing_type=sa.String(20), type_=sa.String(40), existing_nullable=False)",
    "op.alter_column('posts', 'title', server_default='x', existing_nullable=False, nullable=False)",
    "op.execute(\"UPDATE posts SET title = 'drop it' WHERE title IS NULL\")",
    "op.execute('ALTER TABLE posts RENAME CONSTRAINT a TO b')",
    """op.add_column('posts', sa.Column('author_id', sa.Integer()))
       op.create_foreign_key('fk', 'posts', 'authors', ['author_id'], ['id'])""",
    """op.create_table('tags', sa.Column('id', sa.Integer()))
       op.alter_column('tags', 'id', nullable=False)
       op.create_check_constraint('positive', 'tags', 'id > 0')""",
    """with op.batch_alter_table('posts') as batch:
           batch.add_column(sa.Column('stars', sa.Integer()))
           batch.create_check_constraint('few', 'stars < 6')""",
    """op.drop_constraint('fk', 'posts', type_='foreignkey')
       op.create_foreign_key('fk', 'posts', 'authors', ['author_id'], ['id'], ondelete='CASCADE')""",
    """op.drop_constraint('fk', 'posts')
       op.create_foreign_key('fk', 'posts', 'authors', ['author_id'], ['id'], ondelete='CASCADE')""",
    """op.drop_constraint('posts_author', 'posts', 'foreignkey')
       op.create_foreign_key(None, 'posts', 'authors', ['author_id'], ['id'], ondelete='CASCADE')""",
    "op.alter_column('posts', 'stars', server_default=None, existing_nullable=True)",
    """op.add_column('posts', sa.Column('stars', sa.Integer(), server_default='0'))
       op.alter_column('posts', 'stars', server_default=None)""",
    "op.alter_column('posts', 'stars', existing_type=sa.Integer(), type_=sa.BigInteger())",
    "op.alter_column('posts', 'stars', existing_type=mysql.TINYINT(1), type_=sa.Boolean())",
    "op.alter_column('posts', 'kind', existing_type=sa.Enum('a'), type_=sa.Enum('a', 'b'))",
    "op.execute('ALTER TABLE posts ADD COLUMN stars INT NOT NULL DEFAULT 0')",
    "op.execute('ALTER TABLE posts MODIFY title TEXT')",
    """op.execute('CREATE TABLE new (id int)')
       op.execute('INSERT INTO new SELECT id FROM old')""",
    "op.execute('ALTER TABLE posts ALTER COLUMN title TYPE varchar(20)')",
    "op.execute('ALTER TABLE posts CHANGE title title TEXT, ADD INDEX by_title (title), ADD UNIQUE (slug)')",
    "op.execute('ALTER TABLE posts RENAME INDEX a TO b')",
    "op.execute('ALTER TABLE posts ADD (a INT, b INT), ALTER c SET DEFAULT 1')",
    "op.execute('DELETE FROM posts WHERE id = 1')",
    "op.execute(posts.delete().where(posts.c.id == 1))",
    "session.execute(sa.delete(Post).where(Post.id == 1).execution_options(synchronize_session=False))",
    "session.query(Post).filter_by(id=1).delete(synchronize_session=False)",
    "session.delete(post)",
    "old = sa.delete(Post)\nsession.execute(old.where(Post.id == 1))",
    "sa.Enum('a', name='kinds').create(op.get_bind())",
    "sa.Index('by_title', posts.c.title).drop(op.get_bind())",
    "print('Now we', 'drop', 1)",
    # What is replaced
    "op.execute('DROP VIEW IF EXISTS latest; CREATE VIEW latest AS SELECT 1')",
    """op.execute('DROP TRIGGER newest ON posts')
       op.execute('CREATE OR REPLACE FUNCTION newest() RETURNS TRIGGER AS $$ DROP TABLE a; $$')
       op.execute('CREATE TRIGGER newest BEFORE INSERT ON posts FOR EACH ROW EXECUTE PROCEDURE newest()')""",
    "op.execute('CREATE OR REPLACE DEFINER=`root`@`%` VIEW latest AS SELECT 1')",
    """new = postgresql.ENUM('a', 'b', name='kinds')
       postgresql.ENUM('a', name='kinds').drop(op.get_bind())
       new.create(op.get_bind())""",
    """op.execute("ALTER TYPE kinds RENAME TO old_kinds; CREATE TYPE kinds AS ENUM ('a', 'b')")
       op.execute('ALTER TABLE posts ALTER kind DROP DEFAULT, ALTER kind TYPE kinds USING kind::text::kinds')
       op.execute("ALTER TABLE posts ALTER kind SET DEFAULT 'a'; DROP TYPE old_kinds")""",
    """op.execute('ALTER TABLE "blog"."posts" DROP CONSTRAINT "fk"')
       op.execute('ALTER TABLE blog.posts ADD CONSTRAINT fk FOREIGN KEY (a, b) REFERENCES c ON DELETE CASCADE')""",
    "op.execute('ALTER TABLE posts DROP FOREIGN KEY fk, ADD FOREIGN KEY (a) REFERENCES c (a)')",
    """op.drop_constraint(op.f('fk_posts_author_id'), 'posts')
       op.create_foreign_key(None, 'posts', 'authors', ['author_id'], ['id'])""",
    """op.execute('CREATE TABLE new_posts (id int)')
       op.execute('DROP TABLE posts')
       op.execute('ALTER TABLE new_posts RENAME TO posts')""",
    """op.create_table('tags', sa.Column('id', sa.Integer()))
       op.execute('ALTER TABLE tags ADD CONSTRAINT positive CHECK (id > 0)')""",
    """op.create_table('tags', sa.Column('id', sa.Integer()))
       restrict()

def restrict():
    op.execute('ALTER TABLE tags ADD CONSTRAINT positive CHECK (id > 0)')""",
    "op.execute('ALTER TABLE posts ADD stars INT; ALTER TABLE posts ADD CHECK (stars IN (1, (2)))')",
    "op.execute('ALTER TABLE posts ADD stars INT CHECK (stars IS NOT NULL OR id = 0)')",
    '''op.execute("""DO $$ BEGIN
           CREATE TYPE kinds AS ENUM ('a'); EXCEPTION WHEN duplicate_object THEN NULL; -- not: DROP TYPE kinds
       END $$""")''',
    "op.execute('DO $$ BEGIN RAISE NOTICE $x$ DROP TABLE posts $x$; END $$')",
    "print('Revoke nothing', 'Drop user data')",
)
POST = {
    "op.drop_table('posts')": "drops the table posts",
    "op.drop_column('posts', 'title')": "drops the column title",
    "op.execute('DROP TABLE posts')": "drops the table posts",
    "op.execute('ALTER TABLE posts DROP COLUMN title')": "drops the column title",
    "op.execute('DELETE FROM posts')": "empties the table posts",
    "op.execute('DROP VIEW latest')": "drops the view latest",
    "op.execute('DROP MATERIALIZED VIEW latest')": "drops the materialized view latest",
    "op.execute('ALTER TABLE posts ALTER COLUMN title SET NOT NULL')": "makes the column title NOT NULL",
    "op.alter_column('posts', 'title', nullable=False)": "makes the column title NOT NULL",
    "op.alter_column('posts', column, nullable=False)": "makes a column NOT NULL",
    "op.alter_column('posts', 'title', existing_type=sa.String(40), type_=sa.String(20))": "limits the column title to"
    " 20 characters, so that longer values are cut off or rejected",
    "op.create_check_constraint('positive', 'posts', 'stars > 0')": "adds the constraint positive",
    "op.create_foreign_key('fk', 'posts', 'authors', ['author_id'], ['id'])": "adds the constraint fk",
    "op.execute(f'DROP TABLE {name}')": "drops the table {name}",
    "op.execute(f'ALTER TABLE {table.name} DROP COLUMN title')": "drops the column title",
    "op.execute('DROP TABLE ' + name + ' CASCADE')": "drops the table {name}",
    "op.alter_column('posts', 'stars', server_default=None)": "drops the default of the column stars",
    "op.alter_column('posts', 'stars', existing_type=sa.BigInteger(), type_=sa.Integer())": "limits the column stars to"
    " smaller numbers",
    "op.alter_column('posts', 'p', existing_type=sa.Numeric(9, 2), type_=sa.Numeric(7, 2))": "limits the column p to"
    " smaller numbers",
    "op.alter_column('posts', 'kind', existing_type=sa.Enum('a', 'b'), type_=sa.Enum('a'))": "changes the labels of the"
    " column kind",
    "op.create_exclude_constraint('no', 'posts', ('room', '='))": "adds the constraint no",
    "op.drop_constraint('fk', 'posts')\nop.drop_column('posts', 'title')": "drops the column title",
    "with op.batch_alter_table('posts') as batch:\n    batch.drop_column('title')": "drops the column title",
    "with op.batch_alter_table('posts') as batch:\n    batch.alter_column('title', nullable=False)": "makes the column"
    " title NOT NULL",
    "clean()\n\ndef clean():\n    op.drop_table('posts')": "drops the table posts",
    "op.execute('ALTER TABLE posts ADD CONSTRAINT fk FOREIGN KEY (a) REFERENCES b (a)')": "adds the constraint fk",
    'op.execute(text(\'alter table only "my blog"."posts" add check (stars in (1, 2))\'))': "adds a constraint",
    "op.execute('ALTER TABLE posts ADD CONSTRAINT \"no\" EXCLUDE USING gist (room WITH =)')": "adds the constraint no",
    "op.execute('ALTER TABLE IF EXISTS posts ADD INDEX a (b), ALTER title DROP DEFAULT')": "drops the default of the"
    " column title",
    "op.execute('''\n    -- Why\n    SELECT 1; /* and */\n    TRUNCATE posts''')": "empties the table posts",
    "op.execute('DROP TYPE IF EXISTS blog.kinds')": "drops the type kinds",
    "op.execute('DROP TRIGGER newest ON posts')": "drops the trigger newest",
    "op.execute(sa.delete(sa.table('posts')))": "empties the table posts",
    "posts = sa.table('posts')\nop.get_bind().execute(posts.delete())": "empties the table posts",
    "session.query(Post).delete()": "empties a table",
    "delete(SQL)": "empties a table",
    "sa.Enum(name='kinds').drop(op.get_bind())": "drops the type kinds",
    "op.execute(sa.schema.DropTable(sa.table('posts')))": "drops the table posts",
    "op.execute('WITH old AS (SELECT 1) DELETE FROM posts')": "empties the table posts",
    "op.execute('ALTER IGNORE TABLE posts DROP COLUMN title')": "drops the column title",
    "op.execute('DROP EXTENSION IF EXISTS hstore CASCADE')": "drops the extension hstore",
    "op.execute('DROP AGGREGATE middle(int)')": "drops the aggregate middle",
    "op.execute('DROP EVENT nightly')": "drops the event nightly",
    "op.execute('DROP RULE one ON posts')": "drops the rule one",
    "op.execute('ALTER TABLE posts DETACH PARTITION posts_1')": "drops the partition posts_1",
    "op.execute('ALTER DOMAIN score ADD CONSTRAINT few CHECK (VALUE < 6)')": "adds the constraint few",
    "op.execute('ALTER DOMAIN score SET NOT NULL')": "adds a constraint",
    "op.execute('ALTER TABLE posts ALTER id DROP IDENTITY')": "drops the default of the column id",
    "op.execute('ALTER TABLE posts ENABLE ROW LEVEL SECURITY')": "restricts access to the table posts",
    "op.execute('REVOKE SELECT ON posts FROM app')": "restricts access to the table posts",
    "op.execute('DO $$ BEGIN IF true THEN ALTER TABLE posts DROP COLUMN title; END IF; END $$')": "drops the column"
    " title",
    "op.execute('DO LANGUAGE plpgsql $x$ BEGIN ALTER TABLE posts ALTER a SET NOT NULL; END $x$')": "makes the column a"
    " NOT NULL",
    '''op.execute("""DO $$BEGIN FOR t IN SELECT 1 LOOP EXECUTE format('DROP TABLE %I', t); END LOOP; END$$""")''': (
        "drops the table %I"
    ),
    "op.execute(\"DO 'BEGIN EXECUTE ''DROP TABLE posts''; END'\")": "drops the table posts",
    "kinds = sa.Enum(Kinds)\nkinds.drop(op.get_bind(), checkfirst=True)": "drops the type kinds",
    "sa.Table('posts', sa.MetaData()).drop(op.get_bind())": "drops the table posts",
    "Post.__table__.drop(op.get_bind())": "drops a table",
    "Base.metadata.drop_all(op.get_bind())": "drops a table",
    "op.execute(SQL)\n\nSQL = 'DROP TABLE posts'": "drops the table posts",
    "for each in SQL:\n    op.execute(each)\n\nTABLE = 'posts'\nSQL = [f'DROP TABLE {TABLE}']": "drops the table posts",
    "op.drop_column(TABLE, COLUMN)\n\nTABLE = COLUMN = 'a'\nCOLUMN: str = 'title'": "drops a column",
    "op.execute('DROP VIEW latest')\nop.drop_column('posts', 'a')\nop.execute('CREATE VIEW latest AS SELECT 1')": (
        "drops the column a"
    ),
    "op.execute('CREATE TEMPORARY TABLE ids (id int)')\nop.drop_column('posts', 'a')": "drops the column a",
    "op.create_table('ids')\nop.drop_column('posts', 'a')\nop.drop_table('ids')": "drops the column a",
    "op.drop_constraint('fk', 'posts')\nop.alter_column('posts', 'a', nullable=False)\n"
    "op.create_foreign_key('fk', 'posts', 'authors', ['a'], ['id'])": "makes the column a NOT NULL",
}
CONFLICTS = {
    "op.rename_table('posts', 'articles')": "renames the table posts",
    "op.alter_column('posts', 'title', new_column_name='name')": "renames the column title",
    "op.execute('ALTER TABLE posts RENAME COLUMN title TO name')": "renames the column title",
    "op.execute('ALTER TABLE posts CHANGE title name TEXT')": "renames the column title",
    "op.execute('ALTER TABLE posts RENAME TO articles')": "renames the table posts",
    "op.execute('RENAME TABLE posts TO articles')": "renames the table posts",
    "op.execute('ALTER VIEW latest RENAME TO newest')": "renames the view latest",
    "op.execute(\"ALTER TYPE kinds RENAME VALUE 'a' TO 'b'\")": "renames the type kinds",
    "op.execute('CREATE EXTENSION hstore')\nop.drop_column('posts', 'a')": "creates the extension hstore",
    "op.execute('ALTER TABLE posts ALTER a TYPE is, ALTER b TYPE varchar(010), DROP c')": "changes the type of the"
    " column a",
    "op.execute('CREATE LANGUAGE c')\nop.drop_column('posts', 'a')": "adds something in SQL",
    "op.execute('ALTER TABLE posts SET SCHEMA blog')": "renames the table posts",
    "op.execute('ALTER SCHEMA blog RENAME TO news')": "renames the schema blog",
    "op.execute('ALTER TYPE kinds SET SCHEMA blog')": "renames the type kinds",
    "op.execute('CREATE UNIQUE INDEX i ON posts (b)')\nop.drop_column('posts', 'a')": "adds the unique index i",
    "op.execute('CREATE OR REPLACE VIEW latest AS SELECT 1')\nop.drop_column('posts', 'a')\n\n"
    "def downgrade():\n    op.execute('DROP VIEW latest')": "creates the view latest",
    "op.execute('WITH b AS (SELECT 1) UPDATE posts SET c = 1')\nop.drop_column('posts', 'a')": "changes rows",
    "op.drop_constraint('fk', 'posts')\nop.alter_column('posts', 'a', nullable=False)\n"
    "op.create_foreign_key('fk', 'posts', 'b', ['a'], ['id'], ondelete='CASCADE')": "changes the constraint fk",
    "op.add_column('posts', sa.Column('stars', sa.Integer(), nullable=False))": "adds the column stars that must not be"
    " NULL and has no default",
    "op.drop_column('posts', 'a')\nop.add_column('posts', sa.Column('b', sa.Text()))": "adds the column b",
    "op.drop_table('posts')\nop.create_table('articles', sa.Column('id'))": "creates the table articles",
    "op.execute('UPDATE posts SET b = a')\nop.drop_column('posts', 'a')": "changes rows",
    "op.bulk_insert(table, rows)\nop.drop_column('posts', 'a')": "changes rows",
    "op.get_bind().execute(posts.update().values(b=posts.c.a))\nop.drop_column('posts', 'a')": "changes rows",
    "session.commit()\nop.drop_column('posts', 'a')": "changes rows",
    "op.drop_column('posts', 'a')\nop.create_unique_constraint('uq', 'posts', ['b'])": "adds the constraint uq",
    "op.drop_column('posts', 'a')\nop.create_index('i', 'posts', ['b'], unique=True)": "adds the unique index i",
    "op.drop_column('posts', 'a')\nop.alter_column('posts', 'b', nullable=True)": "makes the column b nullable",
    "op.drop_column('posts', 'a')\nop.alter_column('posts', 'b', server_default='x')": "sets the default of the column"
    " b",
    "op.drop_constraint('c', 'posts')\nop.create_check_constraint('c', 'posts', 'b > 1')": "drops a constraint",
    "op.alter_column('posts', 'a', existing_type=sa.Integer(), type_=sa.String())": "changes the type of the column a",
    "op.alter_column('posts', 'a', existing_type=sa.String(), type_=sa.Enum('x'))": "changes the type of the column a",
    "op.alter_column('posts', 'a', existing_type=sa.Text(), type_=sa.JSON())": "changes the type of the column a",
    "op.alter_column('posts', 'a', existing_type=sa.Integer(), type_=sa.Boolean())": "changes the type of the column a",
    "op.add_column('posts', sa.Column('b', sa.Integer(), nullable=False, server_default='0'))\n"
    "op.alter_column('posts', 'b', server_default=None)": "adds the column b",
    "op.execute('ALTER TABLE posts MODIFY b VARCHAR(9) NOT NULL')": "changes the type of the column b",
    "op.execute('ALTER TABLE posts ADD b INT NOT NULL')": "adds the column b that must not be NULL and has no default",
    "op.execute('CREATE VIEW latest AS SELECT 1')\nop.drop_column('posts', 'a')": "creates the view latest",
    "op.alter_column('posts', 'a', existing_type=sa.String(20), type_=sa.Text())\nop.drop_column('posts', 'b')": (
        "changes the type of the column a"
    ),
}


def write(folder: Path, body: str, head: str = HEAD, name: str = "app_1_file.py") -> str:
    statements, _, rest = re.sub(r"\n {7}", "\n", body).partition("\n\n")
    path = folder / name
    path.write_text(f'"""One."""\n{head}\n\ndef upgrade():\n{indent(statements, "    ")}\n\n\n{rest}\n', "utf-8")
    return str(path)


def placed(folder: Path, body: str, head: str = HEAD, **overrides: Phase) -> Placement:
    return Phases(overrides).of(read_revision(write(folder, body, head), "app"))


@pytest.mark.parametrize("body", PRE)
def test_what_the_old_release_does_not_notice_is_pre(tmp_path: Path, body: str) -> None:
    assert placed(tmp_path, body) == Placement(Phase.PRE)


@pytest.mark.parametrize("body", POST)
def test_what_the_old_release_may_not_survive_is_post(tmp_path: Path, body: str) -> None:
    assert placed(tmp_path, body) == Placement(Phase.POST, POST[body])


@pytest.mark.parametrize("body", CONFLICTS)
def test_what_no_phase_is_right_for_is_told(tmp_path: Path, body: str) -> None:
    found = placed(tmp_path, body)
    assert (found.phase, found.conflict) == (Phase.POST, CONFLICTS[body])


@pytest.mark.parametrize("line", ["phase = 'post'", 'phase: str = "post"', "phase = ('post')", "phase = 'po' 'st'"])
def test_the_header_names_the_phase(tmp_path: Path, line: str) -> None:
    assert placed(tmp_path, "pass", f"{HEAD}branch_labels = None\ndepends_on = None\n{line}\n").phase is Phase.POST
    assert placed(tmp_path, "pass", f"{HEAD}{line}\n") == Placement(Phase.POST, "set in its file", is_inferred=False)


def test_the_header_wins_over_what_the_revision_does(tmp_path: Path) -> None:
    found = placed(tmp_path, "op.drop_table('posts')", f'{HEAD}phase = "pre"\n')
    assert found == Placement(Phase.PRE, "set in its file", is_inferred=False)
    assert placed(tmp_path, "op.drop_table('posts')", f"{HEAD}phase = None\n").phase is Phase.POST


def test_the_setting_wins_over_the_header(tmp_path: Path) -> None:
    head = f'{HEAD}phase = "post"\n'
    by_setting = Placement(Phase.PRE, "set by AMPHO_PHASES", is_inferred=False)
    assert placed(tmp_path, "pass", head, app=Phase.PRE) == by_setting
    assert placed(tmp_path, "pass", head, app=Phase.POST, app_1=Phase.PRE) == by_setting
    assert placed(tmp_path, "pass", head, other=Phase.PRE).phase is Phase.POST


@pytest.mark.parametrize("value", ["'pots'", "1", "('post',)", "'POST'"])
def test_another_value_is_refused(tmp_path: Path, value: str) -> None:
    with pytest.raises(RevisionFileError, match=r'has the phase .* Write phase = "pre" or phase = "post"'):
        read_revision(write(tmp_path, "pass", f"{HEAD}phase = {value}\n"), "app")


def test_the_name_of_a_column_is_not_a_phase(tmp_path: Path) -> None:
    body = "op.add_column('moons', sa.Column('phase', sa.Text()))\nphase = 'new'"
    assert placed(tmp_path, body) == Placement(Phase.PRE)


def test_a_file_that_cannot_be_parsed_is_pre(tmp_path: Path) -> None:
    revision = read_revision(write(tmp_path, "op.drop_table('posts')"), "app")
    Path(revision.file).write_text("def upgrade(:\n    op.drop_table()")
    assert Phases({}).of(revision).phase is Phase.PRE
    Path(revision.file).unlink()
    assert Phases({}).of(read_revision(write(tmp_path, "op.drop_table(1)", name="b.py"), "app")).phase is Phase.POST


@pytest.mark.parametrize(
    "body",
    [
        "pass",
        '"""Merge the heads (again)."""',
        "'''Drop (nothing).'''\n# Only (a merge)\nreturn",
        "'One (1).'\n...\n\ndef downgrade():\n    op.drop_table('posts')",
    ],
)
def test_an_upgrade_that_does_nothing_may_run_in_either_phase(tmp_path: Path, body: str) -> None:
    assert placed(tmp_path, body) == Placement(Phase.PRE, is_neutral=True)


def test_an_upgrade_that_does_something_belongs_to_a_phase(tmp_path: Path) -> None:
    for body in ('"""One."""\nfill()', "return fill", "import ampho"):
        assert not placed(tmp_path, body).is_neutral


BEFORE = {
    ("op.execute('ALTER TABLE posts ALTER title TYPE {}')", "character varying(20)", "varchar(40)"): "limits the column"
    " title to 20 characters, so that longer values are cut off or rejected",
    ("op.execute('ALTER TABLE posts ALTER title TYPE {}')", "varchar(40)", "varchar(20)"): "",
    ("op.execute('ALTER TABLE posts ALTER price SET DATA TYPE {}')", "numeric(9, 2)", "numeric(11, 2)"): "limits the"
    " column price to smaller numbers",
    ("op.execute('ALTER TABLE posts MODIFY stars {} NOT NULL')", "int", "bigint"): "limits the column stars to smaller"
    " numbers",
    ("op.execute('ALTER TABLE posts MODIFY stars {} NOT NULL')", "bigint", "int"): "",
    ("op.alter_column('posts', 'title', nullable=False, type_={})", "sa.String(40)", "sa.String(20)"): "",
    ("op.alter_column('posts', 'title', {})", "nullable=False", "nullable=True"): "makes the column title NOT NULL",
    ("op.alter_column('posts', 'stars', type_={})", "sa.Integer()", "sa.String()"): "converts the text in the column"
    " stars to INTEGER, where text that is not a number becomes 0",
    (
        "op.drop_constraint('c', 'posts')\nop.create_check_constraint('c', 'posts', \"kind IN ({})\")",
        "'a', 'b'",
        "'a'",
    ): "",
    (
        "op.drop_constraint('c', 'posts')\nop.create_check_constraint('c', 'posts', \"kind IN ({})\")",
        "'a'",
        "'a', 'b'",
    ): ("adds the constraint c"),
    ("op.drop_constraint('ck_posts_c', 'posts')\nop.create_check_constraint('c', 'posts', 'stars {}')", "< 6", "< 5"): (
        "adds the constraint c"
    ),
    (
        "op.execute('ALTER TABLE posts DROP CONSTRAINT c, ADD CONSTRAINT c CHECK (kind = ANY (ARRAY[{}]))')",
        "1, 2, 3",
        "1, 2",
    ): "",
    (
        "op.execute('ALTER TABLE posts DROP CONSTRAINT c, ADD CONSTRAINT c CHECK (kind NOT IN ({}))')",
        "1, 2, 3",
        "1, 2",
    ): "adds the constraint c",
}


@pytest.mark.parametrize("change", BEFORE)
def test_the_downgrade_tells_what_was_there_before(tmp_path: Path, change: tuple[str, str, str]) -> None:
    code, new, old = change
    found = placed(tmp_path, f"{code.format(new)}\n\ndef downgrade():\n{indent(code.format(old), '    ')}")
    assert found.reason == BEFORE[change]


def test_a_column_that_must_not_be_null_is_needed_until_it_is_let_be_null(tmp_path: Path) -> None:
    body = (
        "op.drop_column('posts', 'fax')\n\ndef downgrade():\n    op.add_column('posts', sa.Column('fax', sa.Text(){}))"
    )
    assert placed(tmp_path, body.format("")).conflict == ""
    assert placed(tmp_path, body.format(", nullable=False, server_default='1'")).conflict == ""
    assert placed(tmp_path, body.format(", nullable=False")).conflict == "first has to let the column fax be NULL"
