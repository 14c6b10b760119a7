"""What plain Alembic reads, Ampho reads: the same graph from the same files, however their heads are written."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from alembic.script import ScriptDirectory
from alembic.script.revision import RevisionError
from alembic.util import CommandError
from facade import facade
from project import Project
from servers import Database

from ampho.errors import HistoryError, MissingRevisionError
from ampho.history.graph import Graph
from ampho.history.package import MigrationPackage
from ampho.history.revision import read_revisions

NONE = ["None", "()", "[]", "set()", "{}", "tuple()", "b''", "(None,)", "None or ()", "[*()]", "dict()"]
# Alembic takes these for no dependency, and stumbles over them elsewhere.
NO_DEPENDENCY = [*NONE, "''", "False", "('',)", "str()", "((),)"]
ONE = ["{0!r}", "({0!r})", "({0!r},)", "[{0!r}]", "[[{0!r}]]", "{{{0!r}}}", "{{{0!r}: 1}}", "str({0!r})"]
ID = ["{0!r}", "({0!r})", "str({0!r})", "HELD[{0!r}]", "'' {0!r}", "{0!r}.strip()"]
ONE += ["{1!r} + {2!r}", "{1!r} {2!r}", "({1!r}\n    {2!r})", "f'{1}{{\"{2}\"}}'", "''.join([{1!r}, {2!r}])"]
ONE += ["HELD[{0!r}]", "[{0!r}][0]", "(lambda: {0!r})()", "[each for each in [{0!r}]]", "{0!r} if True else 1"]
SEVERAL = ["{0}", "{1}", "({0},)", "[{1}]", "tuple({1})", "list({0})", "set({0})", "dict.fromkeys({0})", "(*{1},)"]
SEVERAL += ["{0}[:1] + {0}[1:]", "{1} + []", "frozenset({0})", "sorted({0})", "{0} * 2"]
BINDINGS = ["{name} = {value}", "{name}: str = {value}", "{name}: 'str | None' = {value}  # typed", "{name}={value};"]
BINDINGS += ["{name} = other = {value}", "{name}, other = {value}, 1", "[{name}, *other] = [{value}]"]
BINDINGS += ["if True:\n    {name} = {value}", "globals()['{name}'] = {value}", "vars().update({name}={value})"]
BINDINGS += [
    "try:\n    {name} = {value}\nfinally:\n    pass",
    "for {name} in [{value}]:\n    pass",
    "({name} := {value})",
]
BINDINGS += ["def bind():\n    global {name}\n    {name} = {value}\nbind()", "{name} = 1\n{name} = {value}"]
BINDINGS += ["class Head:\n    value = {value}\n{name} = Head.value", "exec('{name} = 1')\n{name} = {value}"]
OPENINGS = [
    "",
    '"""Make a table."""\n',
    "'''Größe.\n\nMore.'''\n",
    "# A comment.\n",
    "import os\nfrom alembic import op\n",
]
OPENINGS += [
    '"""One."""\nfrom __future__ import annotations\n',
    "from os import (\n    path,\n)\n",
    "x = 1 + \\\n    2\n",
]
OPENINGS += ["from os.path import *\n", '"""It says revision = "nothing"."""\n', "def f():\n    revision = 1\n"]


@dataclass(frozen=True)
class Written:
    """A revision that was made up, before its file is written."""

    id: str
    down: tuple[str, ...] = ()
    needs: tuple[str, ...] = ()
    labels: tuple[str, ...] = ()


@dataclass
class Made:
    """Files that were made up, and what they mean."""

    files: dict[str, bytes] = field(default_factory=dict)
    revisions: list[Written] = field(default_factory=list)


def made_up(seed: int) -> Made:
    """Make up a history, and write each head of it in some way or other."""
    draw, made = random.Random(seed), Made()
    ids = ["a1", "b2.x", "c_3", "4 d", "5%e", "fé", "g7"][: draw.randint(1, 7)]
    for number, revision_id in enumerate(ids):
        down = some_of(draw, ids[:number])
        needs = some_of(draw, [*ids[:number], *(label for other in made.revisions for label in other.labels)])
        labels = (f"line{number}", f"more{number}")[: draw.randint(0, 2)]
        made.revisions.append(Written(revision_id, down, needs if down else (), labels))
        made.files[f"file{number}.py"] = head(draw, made.revisions[-1])
    return made


def some_of(draw: random.Random, names: Sequence[str]) -> tuple[str, ...]:
    return tuple(draw.sample(names, draw.randint(0, min(3, len(names)))))


def head(draw: random.Random, revision: Written) -> bytes:
    """Write the head of a file."""
    values = {
        "revision": draw.choice(ID).format(revision.id),
        "down_revision": spelled(draw, revision.down),
        "branch_labels": spelled(draw, revision.labels),
        "depends_on": spelled(draw, revision.needs, NO_DEPENDENCY if revision.down else NONE),
    }
    lines = [draw.choice(BINDINGS).format(name=name, value=value) for name, value in values.items()]
    names = {name: name for name in [revision.id, *revision.down, *revision.needs, *revision.labels]}
    opening, held = draw.choice(OPENINGS), f"HELD = {names!r}\n" * any("HELD" in line for line in lines)
    text = opening + held + "\n".join(draw.sample(lines, 4)) + "\n\n\ndef upgrade():\n    pass\n"
    match draw.choice(["utf-8", "utf-8-sig", "latin-1", "crlf"]):
        case "latin-1":
            return b"# -*- coding: latin-1 -*-\n" + text.encode("latin-1")
        case "crlf":
            return text.replace("\n", "\r\n").encode()
        case encoding:
            return text.encode(encoding)


def spelled(draw: random.Random, names: tuple[str, ...], empty: Sequence[str] = NONE) -> str:
    """Write names as some Python that means them."""
    if not names:
        return draw.choice(empty)
    if len(names) > 1:
        return draw.choice(SEVERAL).format(repr(names), repr([*names]))
    return draw.choice(ONE).format(names[0], names[0][:1], names[0][1:])


def read(files: dict[str, bytes], folder: Path) -> tuple[ScriptDirectory, Callable[[], Graph]]:
    """Write files, and return how Alembic and how Ampho read them."""
    root = folder / "app"
    package = MigrationPackage("app", root, root / "migrations")
    (root / "migrations" / "versions").mkdir(parents=True)
    for name, source in files.items():
        (root / "migrations" / "versions" / name).write_bytes(source)
    return ScriptDirectory(str(package.folder)), lambda: Graph(read_revisions(package), ["app"])


@pytest.mark.parametrize("tens", range(10))
def test_ampho_learns_what_is_meant_and_what_alembic_learns(tens: int, tmp_path: Path) -> None:
    loaded = 0
    for seed in range(10 * tens, 10 * tens + 10):
        made = made_up(seed)
        scripts, ours = read(made.files, tmp_path / str(seed))
        graph = ours()
        check_meant(graph, made)
        if can_load(scripts):
            loaded += 1
            check_same(scripts, graph)
    assert loaded > 4


def can_load(scripts: ScriptDirectory) -> bool:
    """Return whether Alembic makes a graph of them: it fails where labels repeat, or are beside a tuple in a tuple."""
    try:
        scripts.get_heads()
    except (KeyError, TypeError, CommandError, RevisionError):
        return False
    return True


def check_meant(graph: Graph, made: Made) -> None:
    labels = {label: revision.id for revision in made.revisions for label in revision.labels}
    assert dict(graph.labels) == labels
    assert set(graph.ids) == {revision.id for revision in made.revisions}
    for revision in made.revisions:
        needed = {labels.get(name, name) for name in revision.needs}
        assert set(graph[revision.id].down_revisions) == set(revision.down)
        assert set(graph.parents(revision.id)) == {*revision.down, *needed}


def check_same(scripts: ScriptDirectory, graph: Graph) -> None:
    """Check that a graph of one package is that of Alembic."""
    theirs = scripts.revision_map
    everything = {script.revision: script for script in scripts.walk_revisions()}
    assert set(graph.ids) == set(everything)
    assert set(graph.heads("app")) == set(theirs.heads)
    assert {rid for rid in graph.ids if not graph[rid].down_revisions} == set(theirs.bases)
    for revision_id, script in everything.items():
        assert set(graph[revision_id].down_revisions) == set(script._versioned_down_revisions)
        assert set(graph.parents(revision_id)) == set(script._all_down_revisions)
        assert graph[revision_id].message == " ".join(script.doc.split())
        for label in filter(None, map(graph.branch, graph[revision_id].labels)):
            line = theirs._get_descendant_nodes([script], include_dependencies=False)
            assert set(label.ids) == {each.revision for each in line}


BASE = "revision = 'b'\ndown_revision = None\n"
REFUSED = {
    "a parent that is not there": "revision = 'a'\ndown_revision = 'gone'\n",
    "a dependency that is not there": "revision = 'a'\ndown_revision = 'b'\ndepends_on = 'b gone'\n",
    "a part of an id": "revision = 'a'\ndown_revision = None\ndepends_on = ''\n" + "down_revision = 'bb'[1:] + 'x'\n",
    "a parent in two tuples": "revision = 'a'\ndown_revision = ((('b',),),)\n",
    "parents in tuples": "revision = 'a'\ndown_revision = (('b',), ('b',))\n",
    "None among the parents": "revision = 'a'\ndown_revision = ('b', None)\n",
    "a number as a parent": "revision = 'a'\ndown_revision = 5\n",
    "bytes as a parent": "revision = 'a'\ndown_revision = b'b'\n",
    "a number as a dependency": "revision = 'a'\ndown_revision = None\ndepends_on = 5\n",
    "no parent at all": "revision = 'a'\n",
    "no id": "down_revision = 'b'\n",
    "a number as an id": "revision = 5\ndown_revision = 'b'\n",
    "an id with a sign": "revision = 'a-1'\ndown_revision = 'b'\n",
    "itself as a parent": "revision = 'a'\ndown_revision = ('b', 'a')\n",
    "itself as a dependency": "revision = 'a'\ndown_revision = 'b'\ndepends_on = 'a'\n",
    "a circle": "revision = 'a'\ndown_revision = 'c'\n\x00revision = 'c'\ndown_revision = 'a'\n",
    "a circle of dependencies": (
        "revision = 'a'\ndown_revision = 'b'\ndepends_on = 'c'\n\x00"
        "revision = 'c'\ndown_revision = 'b'\ndepends_on = 'a'\n"
    ),
    "a label of two": (
        "revision = 'a'\ndown_revision = 'b'\nbranch_labels = 'x'\n\x00"
        "revision = 'c'\ndown_revision = 'b'\nbranch_labels = 'x'\n"
    ),
    "what cannot be imported": "import no_such_module\nrevision = str('a')\ndown_revision = 'b'\n",
    "what is no Python": "revision = 'a'\ndown_revision = \n",
}


@pytest.mark.parametrize("texts", REFUSED.values(), ids=REFUSED)
@pytest.mark.filterwarnings("ignore:Revision .* referenced from")
def test_what_alembic_refuses_is_refused_with_the_file(texts: str, tmp_path: Path) -> None:
    files = {f"file{number}.py": text.encode() for number, text in enumerate([BASE, *texts.split("\x00")])}
    scripts, ours = read(files, tmp_path)
    with pytest.raises(Exception, match=r"."):
        scripts.walk_revisions().__next__()
    with pytest.raises(HistoryError) as caught:
        ours().check_files(["gone", "b gone"])
    assert str(caught.value).isprintable()
    assert re.search(r"file[12]\.py", str(caught.value))


@pytest.mark.parametrize("written", ["''", "False", "0", "('',)", "((),)", "[()]"])
def test_whatever_is_empty_is_none_even_where_alembic_stumbles_over_it(written: str, tmp_path: Path) -> None:
    names = ("down_revision", "branch_labels", "depends_on")
    files = {
        f"{one}.py": f"revision = '{one}'\n{''.join(f'{name} = {written}{chr(10)}' for name in names)}".encode()
        for one in "ab"
    }
    _, ours = read(files, tmp_path)
    graph = ours()
    assert graph.ids == ("a", "b")
    assert graph.labels == {}
    assert graph.parents("b") == ()


def test_a_dependency_on_what_no_file_has_is_refused_when_it_would_run(tmp_path: Path) -> None:
    """Its package may be gone while what it made is still there, so that it is no error before."""
    files = {"a.py": b"revision = 'a'\ndown_revision = None\ndepends_on = 'gone'\n"}
    _, ours = read(files, tmp_path)
    with pytest.raises(MissingRevisionError, match=r"a\.py\) depends on gone"):
        ours().check_files(ours().ids)


def test_ids_with_spaces_and_signs_are_applied_and_written_as_sql(sync_database: Database, project: Project) -> None:
    """Alembic forbids only ``@``, ``-``, ``+`` and ``:``, and people have written such ids by hand."""
    project.package("app")
    project.revision("app", "1. first step", message="first")
    project.revision("app", "50%s (b)", "1. first step", message="second")
    with facade(project, "flask", ["app"], sync_database.url) as each:
        assert "'50%s (b)'" in each.run("db-up", "--sql").output
        assert [record.revision.id for record in each.call("upgrade", "1. first step").steps] == ["1. first step"]
        assert each.run("db-up", "50%").exit_code == 0
        assert sync_database.query("SELECT version_num FROM alembic_version") == [("50%s (b)",)]
        assert each.run("db-down", "1. first step").exit_code == 0
        assert sync_database.query("SELECT version_num FROM alembic_version") == [("1. first step",)]


@pytest.fixture
def in_folders(project: Project) -> Project:
    """A package whose revisions, but for the first, are in folders inside ``versions``, as Keystone's."""
    root = project.package("app")
    (root / "migrations" / "versions").mkdir(parents=True)
    project.revision("app", "first", labels=None)
    for name, down, label in (("2026/expand", "first", "expand"), ("2026/contract", "first", "contract")):
        revision = project.revision("app", f"{label}_1", down, labels=label)
        revision.rename(project.write(root / "migrations" / "versions" / name / f"{label}.py", ""))
    project.write(root / "migrations" / "versions" / "data" / "helpers.py", "revision = 1\n")
    project.write(root / "migrations" / "versions" / "2026" / "__pycache__" / "first.py", "")
    return project


NOT_READ = (
    "app has revision files that are not read, in folders inside app/migrations: versions/2026/contract, versions"
)


@pytest.mark.parametrize(
    "command", ["db-status", "db-up", "db-current", "db-check --deploy", "db-heads", "db-show", "db-log"]
)
def test_folders_inside_versions_are_named_unless_they_are_read(in_folders: Project, command: str) -> None:
    with facade(in_folders, "flask", ["app"], "sqlite:///app.db") as each:
        found = each.run(*command.split())
        assert " ".join(found.stderr.split()).count(NOT_READ) == 1
        assert "write app:migrations/** in AMPHO_MIGRATION_PACKAGES, or recursive_version_locations" in found.stderr


def test_folders_inside_versions_are_read_where_the_entry_or_alembic_ini_says_so(in_folders: Project) -> None:
    (in_folders.migrations("app") / "versions" / "data" / "helpers.py").unlink()
    with facade(in_folders, "flask", ["app:migrations/**"], "sqlite:///app.db") as each:
        assert {record.revision.id for record in each.call("upgrade").steps} == {"first", "expand_1", "contract_1"}
        assert NOT_READ not in each.run("db-status").stderr
    in_folders.write("app/migrations/alembic.ini", "[alembic]\nrecursive_version_locations = true\n")
    with facade(in_folders, "flask", ["app"], "sqlite:///app.db") as each:
        assert len(each.call("show")) == 3
        assert NOT_READ not in each.run("db-status").stderr


def test_folders_inside_versions_are_left_out_in_silence_where_alembic_ini_says_so(in_folders: Project) -> None:
    with facade(in_folders, "flask", ["app"], "sqlite:///app.db") as each:
        assert "write recursive_version_locations = false." in each.run("db-up").stderr
        in_folders.write("app/migrations/alembic.ini", "[alembic]\n# recursive_version_locations = false\n")
        assert NOT_READ in " ".join(each.run("db-up").stderr.split())
        in_folders.write("app/migrations/alembic.ini", "[alembic]\nrecursive_version_locations = false\n")
        assert each.run("db-up").stderr == ""
        assert [record.id for record in each.call("show")] == ["first"]


def test_package_with_nothing_but_folders_is_told_how_to_name_one(in_folders: Project) -> None:
    (in_folders.migrations("app") / "versions" / "first_by_hand.py").unlink()
    with facade(in_folders, "flask", ["app"], "sqlite:///app.db") as each:
        assert "; to read only one of them, write app:migrations/versions/2026/contract." in each.run("db-up").stderr


@pytest.mark.filterwarnings("error")
def test_plain_commands_see_what_is_in_folders_too(in_folders: Project) -> None:
    (in_folders.migrations("app") / "versions" / "data" / "helpers.py").unlink()
    in_folders.package("blog")
    in_folders.revision("blog", "blog_1")
    for entry, ini in (("app:migrations/**", ""), ("app", "recursive_version_locations = true\n")):
        in_folders.write("app/migrations/alembic.ini", f"[alembic]\n{ini}")
        with facade(in_folders, "flask", [entry, "blog"], "sqlite:///app.db") as each:
            with each.app.app_context():  # what `flask db heads` prints, which Alembic prints past any test's capture
                scripts = ScriptDirectory.from_config(each.app.extensions["migrate"].migrate.get_config())
            assert set(scripts.get_heads()) == {"contract_1", "expand_1", "blog_1"}
