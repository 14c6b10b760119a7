"""Reading revision files without running them, and running those that only Python can read."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from textwrap import dedent

import pytest
from alembic.script import ScriptDirectory
from alembic.util import to_tuple

from ampho.errors import RevisionFileError
from ampho.history.header import from_text
from ampho.history.package import MigrationPackage
from ampho.history.revision import Revision, load_module, read_revision, read_revisions

Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Write a revision file of the package ``app``; common indentation is removed."""

    def write(text: str | bytes, name: str = "file.py") -> Path:
        path = tmp_path / "app" / "migrations" / "versions" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text if isinstance(text, bytes) else dedent(text).encode())
        return path

    return write


@pytest.fixture
def package(tmp_path: Path) -> MigrationPackage:
    root = tmp_path / "app"
    (root / "migrations" / "versions").mkdir(parents=True, exist_ok=True)
    return MigrationPackage("app", root, root / "migrations")


def read(path: Path) -> Revision:
    return read_revision(str(path), "app")


def header(revision: Revision) -> tuple[str, tuple[str, ...], tuple[str, ...], tuple[str, ...]]:
    return revision.id, revision.down_revisions, revision.depends_on, revision.labels


def test_header_is_read_from_the_text(write: Write) -> None:
    path = write('''
        """Make a table.

        With a second paragraph.
        """
        revision = "app_2"
        down_revision = "app_1"
        branch_labels = ("app", "side")
        depends_on = ["core_1", "blog"]
    ''')
    revision = read(path)
    assert header(revision) == ("app_2", ("app_1",), ("core_1", "blog"), ("app", "side"))
    assert (revision.package, revision.path, revision.message) == ("app", path, "Make a table.")
    assert revision.doc == "Make a table.\n\nWith a second paragraph."
    assert str(revision) == "app_2"


def test_message_is_the_first_paragraph_in_one_line(write: Write) -> None:
    revision = read(write('"""\nMake\n  a table.\n\nMore.\n"""\nrevision = "a"\ndown_revision = None\n'))
    assert revision.message == "Make a table."
    assert read(write("revision = 'a'\ndown_revision = None\n")).message == ""


QUICK = {
    "as Alembic writes it": (
        '"""Make a table\n\nRevision ID: a\nRevises: b\n"""\n\nfrom typing import Sequence, Union\n\n'
        "from alembic import op\nimport sqlalchemy as sa\n\n\n# revision identifiers, used by Alembic.\n"
        "revision: str = 'a'\ndown_revision: Union[str, Sequence[str], None] = 'b'\n"
        "branch_labels: Union[str, Sequence[str], None] = None\ndepends_on = ('c', 'd')\n\n\n"
        "def upgrade() -> None:\n    pass\n"
    ),
    "several lines": 'revision = "a"\ndown_revision = (\n    "b",\n    \'c\',\n)\ndepends_on = ["d"]  # a table\n',
    "one in parentheses": 'revision = ("a")\ndown_revision = ("b",)\nbranch_labels = ("c")\n',
    "quotes in the text": '"""Say "no" to ""nothing""."""\nrevision = "a"\ndown_revision = None\n',
    "an indented text": '# first\n\n"""One.\n\n    Two.\n      Three.\n    """\nrevision = "a"\ndown_revision = None\n',
    "imports in parentheses": 'from x import (\n    y,\n    z,\n)\nrevision = "a"\ndown_revision = None\n',
    "a byte order mark": '\ufeff"""größer"""\nrevision = "a"\ndown_revision = None\n',
    "Windows": '"""One.\r\n\r\nTwo."""\r\nrevision = "a"\r\ndown_revision = "b"\r\n',
    "no end of line": 'revision = "a"\ndown_revision = "b"',
}


@pytest.mark.parametrize("text", QUICK.values(), ids=QUICK)
def test_the_quick_way_reads_what_the_syntax_tree_says(
    write: Write, text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(text.encode())
    with monkeypatch.context() as patched:
        patched.setattr("ampho.history.header.from_syntax_tree", None)
        quick = read(path)
    monkeypatch.setattr("ampho.history.header.from_text", lambda source: None)
    assert quick == read(path)
    assert quick.id == "a"


DOUBTFUL = {
    "a value that is computed": 'revision = "a"\ndown_revision = "b" if True else "c"\n',
    "an escape": 'revision = "a"\ndown_revision = "\\x62"\n',
    "code before the header": 'def f():\n    x = """\n\nrevision = "c"\n"""\nrevision = "a"\ndown_revision = "b"\n',
    "text that looks like a header": 'text = """\nrevision = "c"\n"""\nrevision = "a"\ndown_revision = "b"\n',
    "a line that goes on": 'x = 1 + \\\n2\nrevision = "a"\ndown_revision = "b"\n',
    "two on one line": 'revision = "a"; down_revision = "b"\n',
    "below a function": 'revision = "a"\ndef upgrade():\n    pass\ndown_revision = "b"\n',
    "another encoding": '# coding: utf-8\nrevision = "a"\ndown_revision = "b"\n',
    "a star": 'from os.path import *\nrevision = "a"\ndown_revision = "b"\n',
    "a star further down": 'revision = "a"\ndown_revision = "b"\nfrom os.path import *\n',
    "an import of a name before": 'from os import name as depends_on\nrevision = "a"\ndown_revision = "b"\n'
    "del depends_on\n",
    "imports in parentheses": 'from os import (\n    name as depends_on,\n)\nrevision = "a"\ndown_revision = "b"\n'
    "depends_on = None\n",
    "a name that normalises": 'revision = "a"\ndown_revision = "c"\n\uff44own_revision = "b"\n',
    "another kind of space": 'revision = "a"\ndown_revision = (\x0c"b",)\n',
    "an annotation and more": 'revision = "a"\ndown_revision: str; x = "c"\ndown_revision = "b"\n',
    "an import of a name": 'revision = "a"\ndown_revision = "b"\nimport os as depends_on\ndel depends_on\n',
    "old Macintoshes": 'revision = "a"\rdown_revision = "b"\r',
}


@pytest.mark.parametrize("text", DOUBTFUL.values(), ids=DOUBTFUL)
def test_the_quick_way_leaves_what_is_doubtful_to_python(write: Write, text: str) -> None:
    assert from_text(text.encode()) is None
    revision = read(write(text.encode()))
    assert (revision.id, revision.down_revisions) == ("a", ("b",))


NOT_EXECUTED = {
    "a raise after the header": 'revision = "a"\ndown_revision = None\nraise RuntimeError',
    "a raise before the header": 'raise RuntimeError\nrevision = "a"\ndown_revision = None',
    "an import that fails": 'import no_such_module\nrevision = "a"\ndown_revision = None',
    "annotations": 'import typing as t\nrevision: str = "a"\ndown_revision: t.Any = None\nraise SystemExit',
    "two on one line": 'revision = "a"; down_revision = None; raise SystemExit',
    "comments": '# revision = "b"\nrevision = "a"  # revision = "c"\n#\ndown_revision = (  # none\n    None\n)\n1 / 0',
    "an annotation without a value": 'revision: str\nrevision = "a"\ndown_revision = None\nraise SystemExit',
    "names of a function's own": 'revision = "a"\ndown_revision = None\ndef upgrade():\n    revision = 1\n1 / 0',
    "strings that are put together": 'revision = "" "a"\ndown_revision = None\n1 / 0',
    "Windows line ends": 'revision = "a"\r\ndown_revision = None\r\n1 / 0\r\n',
    "a header further down than 4 KB": f'"""{"x" * 10_000}"""\nrevision = "a"\ndown_revision = None\n1 / 0',
    "the second of two assignments": 'revision = "b"\nrevision = "a"\ndown_revision = None\n1 / 0',
    "an attribute called like the header": 'revision = "a"\ndown_revision = None\nx.revision = 1\n1 / 0',
}


@pytest.mark.parametrize("text", NOT_EXECUTED.values(), ids=NOT_EXECUTED)
def test_literal_header_is_read_without_execution(write: Write, text: str) -> None:
    assert header(read(write(text.encode()))) == ("a", (), (), ())


EXECUTED = {
    "a computed id": 'revision = "a".lower()\ndown_revision = None',
    "a format string": 'n = "a"\nrevision = f"{n}"\ndown_revision = None',
    "a tuple assignment": 'revision, down_revision = "a", None',
    "a chained assignment": 'revision = name = "a"\ndown_revision = None',
    "a list assignment": '[revision, down_revision] = ["a", None]',
    "inside if": 'if True:\n    revision = "a"\nelse:\n    revision = "b"\ndown_revision = None',
    "inside try": 'try:\n    revision = "a"\nfinally:\n    down_revision = None',
    "inside with": 'import contextlib\nwith contextlib.nullcontext():\n    revision = "a"\ndown_revision = None',
    "inside for": 'for revision in ["b", "a"]:\n    down_revision = None',
    "bound by :=": '(revision := "a")\ndown_revision = None',
    "bound by with": (
        'import contextlib\nwith contextlib.nullcontext("a") as revision:\n    pass\ndown_revision = None'
    ),
    "changed afterwards": 'revision = ""\nrevision += "a"\ndown_revision = None',
    "deleted": 'revision = "a"\ndown_revision = None\ndepends_on = "x"\ndel depends_on',
    "imported": 'from sys import platform as depends_on\ndepends_on = None\nrevision = "a"\ndown_revision = None',
    "bound by except": (
        'try:\n    revision = "a"\n    1 / 0\nexcept ZeroDivisionError as depends_on:\n    pass\ndown_revision = None'
    ),
    "set by a function": (
        'revision = "b"\ndown_revision = None\ndef name():\n    global revision\n    revision = "a"\nname()'
    ),
    "set in the module's dictionary": 'globals().update(revision="a", down_revision=None)',
    "a member of an enum": (
        'from enum import Enum\nclass Id(str, Enum):\n    FIRST = "a"\nrevision = Id.FIRST\ndown_revision = None'
    ),
    "the name of the module, as Alembic calls it": 'revision = __name__.replace("file_py", "a")\ndown_revision = None',
    "match": 'match "a":\n    case revision:\n        down_revision = None',
}


@pytest.mark.parametrize("text", EXECUTED.values(), ids=EXECUTED)
def test_header_that_only_python_can_tell_is_executed(write: Write, text: str) -> None:
    assert header(read(write(text))) == ("a", (), (), ())


@pytest.mark.parametrize(
    ("written", "read_as"),
    [
        ("None", ()),
        ("()", ()),
        ("[]", ()),
        ("'b'", ("b",)),
        ("('c', 'b')", ("c", "b")),
        ("['c', 'b', 'c']", ("c", "b")),
        ("{'c', 'b'}", ("b", "c")),
        ("set()", ()),
        ("''", ()),
        ('""', ()),
        ("False", ()),
        ("0", ()),
        ("{}", ()),
        ("b''", ()),
        ("('',)", ()),
        ("[None]", ()),
        ("((),)", ()),
        ("(('c', 'b'),)", ("c", "b")),
        ("[['b']]", ("b",)),
        ("{'c': 1, 'b': 2}", ("c", "b")),
        ("('c', *[str('b')])", ("c", "b")),
        ("'c' 'b'", ("cb",)),
        ("'c' + 'b'", ("cb",)),
        ("tuple('cb')", ("c", "b")),
        ("frozenset({'c', 'b'})", ("b", "c")),
    ],
)
def test_parents_dependencies_and_labels_are_strings_or_collections_of_them(
    write: Write, written: str, read_as: tuple[str, ...]
) -> None:
    names = ("down_revision", "depends_on", "branch_labels")
    revision = read(write('revision = "a"\n' + "\n".join(f"{name} = {written}" for name in names)))
    assert header(revision) == ("a", read_as, read_as, read_as)


def test_optional_lines_may_be_missing(write: Write) -> None:
    assert header(read(write('revision = "a"\ndown_revision = "b"'))) == ("a", ("b",), (), ())


TEXT = '"""größer"""\nrevision = "a"\ndown_revision = None\n'


@pytest.mark.parametrize(
    "source",
    [
        TEXT.encode("utf-8"),
        TEXT.encode("utf-8-sig"),
        b"# -*- coding: latin-1 -*-\n" + TEXT.encode("latin-1"),
        b"# coding: cp1252\n" + TEXT.encode("cp1252"),
    ],
    ids=["UTF-8", "with a BOM", "Latin-1 with a cookie", "CP1252 with a cookie"],
)
def test_encoding_is_what_the_file_declares(write: Write, source: bytes) -> None:
    revision = read(write(source))
    assert (revision.id, revision.message) == ("a", "größer")


WRONG = {
    "brackets that do not match": (b"revision = 'a'\ndown_revision = ('b']\n", "cannot be parsed: line 2"),
    "Latin-1 without a cookie": (TEXT.encode("latin-1"), "cannot be parsed"),
    "an unknown encoding": (b"# coding: klingon\nrevision = 'a'\n", "cannot be parsed"),
    "a NUL byte": (b"revision = 'a'\0\ndown_revision = None\n", "cannot be parsed"),
    "no Python": (b"def f(:\nrevision = 'a'\ndown_revision = None\n", r"cannot be parsed: line 1: "),
    "a merge conflict further down": (
        b"revision = 'a'\ndown_revision = None\ndef upgrade():\n<<<<<<< HEAD\n    pass\n",
        r"cannot be parsed: line 4: ",
    ),
    "a merge conflict": (b"<<<<<<< HEAD\nrevision = 'a'\n", r"cannot be parsed: line 1: "),
    "nothing": (b"", "has no revision id"),
    "no revision": (b"down_revision = None\n", "has no revision id"),
    "no down_revision": (b"revision = 'a'\n", "has no down_revision"),
    "an empty id": (b"revision = ''\ndown_revision = None\n", "has the invalid id ''"),
    "a number as id": (b"revision = 1\ndown_revision = None\n", "has the invalid id 1"),
    "None as id": (b"revision = None\ndown_revision = None\n", "has the invalid id None"),
    "a list as id": (b"revision = ['a']\ndown_revision = None\n", "has the invalid id"),
    "@ in the id": (b"revision = 'a@b'\ndown_revision = None\n", "has the invalid id 'a@b'"),
    "- in the id": (b"revision = 'a-b'\ndown_revision = None\n", "has the invalid id 'a-b'"),
    "+ in the id": (b"revision = 'a+b'\ndown_revision = None\n", r"has the invalid id 'a\+b'"),
    ": in the id": (b"revision = 'a:b'\ndown_revision = None\n", "has the invalid id 'a:b'"),
    "a quote in the id": (b'revision = "a\'b"\ndown_revision = None\n', "has the invalid id"),
    "a space before the id": (b"revision = ' a'\ndown_revision = None\n", "has the invalid id ' a'"),
    "a newline in the id": (b"revision = 'a\\nb'\ndown_revision = None\n", r"has the invalid id 'a\\nb'"),
    "a NUL character in the id": (b"revision = 'a\\0b'\ndown_revision = None\n", "has the invalid id"),
    "an escape sequence in the id": (b"revision = 'a\\x1b[31m'\ndown_revision = None\n", "has the invalid id"),
    "head as id": (b"revision = 'head'\ndown_revision = None\n", "has the invalid id"),
    "heads as id": (b"revision = 'heads'\ndown_revision = None\n", "has the invalid id"),
    "base as id": (b"revision = 'base'\ndown_revision = None\n", "has the invalid id"),
    "a number as parent": (b"revision = 'a'\ndown_revision = 1\n", "has a down_revision that is neither"),
    "a number among the parents": (
        b"revision = 'a'\ndown_revision = ('b', 1)\n",
        "has a down_revision that is neither",
    ),
    "an empty parent among others": (
        b"revision = 'a'\ndown_revision = ('b', '')\n",
        "has a down_revision that is neither",
    ),
    "a tuple among the dependencies": (
        b"revision = 'a'\ndown_revision = None\ndepends_on = ('b', ('c',))\n",
        "has a depends_on that is neither",
    ),
    "a tuple in a tuple in a tuple": (
        b"revision = 'a'\ndown_revision = ((('b',),),)\n",
        "has a down_revision that is neither",
    ),
    "dependencies that fail": (
        b"revision = 'a'\ndown_revision = None\ndepends_on = (1 / each for each in [0])\n",
        "has a depends_on that cannot be read: ZeroDivisionError",
    ),
    "bytes as label": (b"revision = 'a'\ndown_revision = None\nbranch_labels = b'x'\n", "has a branch_labels that is"),
    "sys.exit": (
        b"import sys\nrevision = str('a')\nsys.exit()\n",
        r"cannot be imported: sys.exit\(\) was called \(at \S+file.py:3\)",
    ),
    "sys.exit(0)": (b"import sys\nrevision = str('a')\nsys.exit(0)\n", r"cannot be imported: sys.exit\(0\) was called"),
    "a failing import": (b"import no_such_module\nrevision = str('a')\n", "cannot be imported: .*no_such_module"),
    "a failing line": (b"revision = str('a')\n1 / 0\n", r"cannot be imported: ZeroDivisionError.*file.py:2\)"),
}


@pytest.mark.parametrize(("source", "what"), WRONG.values(), ids=WRONG)
def test_file_that_says_nothing_usable_is_named_in_one_line(write: Write, source: bytes, what: str) -> None:
    path = write(source)
    with pytest.raises(RevisionFileError, match=what) as caught:
        read(path)
    assert (caught.value.package, caught.value.path) == ("app", path)
    assert f"The revision file {path} of app " in str(caught.value)
    assert str(caught.value).isprintable()


def test_deeply_nested_file_is_an_error_and_no_crash(write: Write) -> None:
    path = write("x = " + "(" * 5000 + ")" * 5000 + "\nrevision = 'a'\ndown_revision = None\n")
    with pytest.raises(RevisionFileError, match="cannot be parsed"):
        read(path)


@pytest.mark.parametrize("body", ["def upgrade(:\n", "x = " + "(" * 5000 + ")" * 5000 + "\n"])
def test_what_is_broken_below_the_header_is_found_when_the_file_is_loaded(write: Write, body: str) -> None:
    path = write(f"revision = 'a'\ndown_revision = None\n{body}")
    assert read(path).id == "a"
    with pytest.raises(RevisionFileError, match=r"cannot be (parsed: line 3|imported)"):
        load_module(path, "app")


def test_executed_file_is_not_left_in_sys_modules(write: Write) -> None:
    import sys

    before = set(sys.modules)
    assert read(write("revision = str('a')\ndown_revision = None\n", "oddly_named_revision.py")).id == "a"
    assert set(sys.modules) == before


def test_module_is_executed_each_time_it_is_loaded(write: Write) -> None:
    path = write("revision = 'a'\ndown_revision = None\ndef upgrade(): return 1\n")
    assert load_module(path, "app").upgrade() == 1
    assert load_module(path, "app") is not load_module(path, "app")


SMALL = "revision = {!r}\ndown_revision = None\n"


def test_files_are_read_in_the_order_of_their_names(write: Write, package: MigrationPackage) -> None:
    for name in ("b", "a", "c"):
        write(SMALL.format(f"id_{name}"), f"{name}.py")
    assert [revision.id for revision in read_revisions(package)] == ["id_a", "id_b", "id_c"]


def test_what_is_no_revision_file_is_skipped(write: Write, package: MigrationPackage) -> None:
    write(SMALL.format("a"), "a.py")
    for name in (".#a.py", "__init__.py", "env.py", "README", "a.py.orig", "a.pyc", "a.txt", "a.py~", ".a.py.swp"):
        write("this is no revision", name)
    write("this is no revision", "__pycache__/a.py")
    (package.versions / "folder.py").mkdir()
    write(SMALL.format("inside"), "folder.py/inside.py")
    assert [revision.id for revision in read_revisions(package)] == ["a"]


def test_package_without_a_migrations_folder_has_no_revisions(tmp_path: Path) -> None:
    nowhere = MigrationPackage("app", tmp_path / "app", tmp_path / "app" / "migrations")
    assert list(read_revisions(nowhere)) == []


def test_file_that_cannot_be_read_is_named(write: Write, package: MigrationPackage) -> None:
    write(SMALL.format("a"), "a.py")
    loop = package.versions / "b.py"
    loop.symlink_to(loop)
    with pytest.raises(RevisionFileError, match="cannot be read"):
        list(read_revisions(package))


def test_folder_that_cannot_be_read_is_named() -> None:
    is_root = os.geteuid() == 0
    with TemporaryDirectory() as folder:  # pytest's own folders can be entered by their owner only
        package = MigrationPackage("app", Path(folder), Path(folder, "migrations"))
        (package.folder / "versions").mkdir(parents=True)
        Path(folder).chmod(0o755)
        package.versions.chmod(0)
        try:
            if is_root:  # who may read everything
                os.seteuid(65534)
            with pytest.raises(RevisionFileError, match=r"The folder \S+ of app cannot be read"):
                list(read_revisions(package))
        finally:
            if is_root:
                os.seteuid(0)
            package.versions.chmod(0o755)


@pytest.mark.parametrize("name", ["b.py", "link.py"])
def test_what_is_no_file_is_named_and_not_waited_for(package: MigrationPackage, name: str) -> None:
    os.mkfifo(package.versions / "b.py")
    if name == "link.py":
        (package.versions / "b.py").rename(package.root / "pipe")
        (package.versions / name).symlink_to(package.root / "pipe")
    with pytest.raises(RevisionFileError, match=rf"{name} of app cannot be read: OSError: it is not a regular file"):
        list(read_revisions(package))


def test_link_to_a_file_beside_it_is_read_once(write: Write, package: MigrationPackage) -> None:
    write(SMALL.format("a"), "a.py")
    (package.versions / "latest.py").symlink_to("a.py")
    assert [revision.id for revision in read_revisions(package)] == ["a"]


def test_id_of_a_file_without_one_is_its_name_as_alembic_has_it(write: Write) -> None:
    assert read(write("down_revision = 'b'\n", "1a2b3c.py")).id == "1a2b3c"


def test_link_to_nothing_is_named(package: MigrationPackage) -> None:
    (package.versions / "b.py").symlink_to(package.versions / "gone.txt")
    with pytest.raises(RevisionFileError, match="cannot be read"):
        list(read_revisions(package))


HISTORY = {
    "a1.py": '"""First.\n\nRevision ID: a1\n"""\nrevision = "a1"\ndown_revision = None\nbranch_labels = ("app",)\n',
    "a2.py": '"""Second."""\nrevision: str = "a2"\ndown_revision: str | None = "a1"\ndepends_on = ["b1"]\n',
    "a3.py": '"""Beside."""\nrevision, down_revision = "a3", "a1"\nbranch_labels = "side"\n',
    "a4.py": '"""Merge\nof two."""\nrevision = "a4"\ndown_revision = ("a2", "a3")\ndepends_on = ("b1", "b2")\n',
    "b1.py": 'revision = "b" + "1"\ndown_revision = None\nbranch_labels = ["blog"]\n',
    "b2.py": "'''    Indented\n    text.'''\nrevision = 'b2'\ndown_revision = 'b1'\ndepends_on = {'a1'}\n",
    "c1.py": '"""By label."""\nrevision = "c1"\ndown_revision = None\ndepends_on = ("blog", "side")\n',
    "c2.py": '# coding: latin-1\n"""größer"""\nrevision = "c2"; down_revision = "c1"\n',
}


ODD = {
    "annotated.py": (
        'from typing import Sequence, Union\n\nrevision: str = "d1"\n'
        'down_revision: Union[str, Sequence[str], None] = "c2"\n'
        "branch_labels: Union[str, Sequence[str], None] = None\ndepends_on: Union[str, Sequence[str], None] = ('a4',)\n"
    ),
    "computed.py": 'number = 2\nrevision = f"d{number}"\ndown_revision = revision.replace("2", "1")\n',
    "one_line.py": 'revision = "d3"; down_revision = "nothing"; down_revision = "d2"\n',
    "bytes_order_mark.py": '\ufeff"""Größe."""\nrevision = "d4"\ndown_revision = "d3"\n',
    "greek.py": '# -*- coding: iso-8859-7 -*-\n"""Ελληνικά."""\nrevision = "d5"\ndown_revision = "d4"\n',
    "large.py": f'"""Large."""\nrevision = "d6"\ndown_revision = "d5"\n\nROWS = """{"x" * 10_000_000}"""\n',
    "late.py": '"""Late."""\nROWS = [\n' + "    1,\n" * 100_000 + ']\nrevision = "d7"\ndown_revision = "d6"\n',
    "__init__.py": 'revision = "nothing"\ndown_revision = None\n',
    "__init__more.py": 'revision = "nothing"\ndown_revision = None\n',
    "2026/first.py": 'revision = "e1"\ndown_revision = None\n',
    "2026/11/second.py": 'revision = "e2"\ndown_revision = "e1"\n',
    "2026/__pycache__/second.py": 'revision = "nothing"\ndown_revision = None\n',
    "2026/__init__.py": "",
}
ENCODINGS = {"c2.py": "latin-1", "greek.py": "iso-8859-7"}


@pytest.mark.usefixtures("unmeasured")
@pytest.mark.parametrize("is_recursive", [False, True], ids=["one folder", "recursive_version_locations"])
def test_alembic_learns_the_same_from_the_same_files(
    write: Write, package: MigrationPackage, tmp_path: Path, is_recursive: bool
) -> None:
    for name, text in (HISTORY | ODD).items():
        write(text.encode(ENCODINGS.get(name, "utf-8")), name)
    if is_recursive:
        (package.folder / "alembic.ini").write_text("[alembic]\nrecursive_version_locations = true\n", "utf-8")
    scripts = ScriptDirectory(
        str(tmp_path), version_locations=[str(package.versions)], recursive_version_locations=is_recursive
    )
    theirs = {
        script.revision: (
            set(script._all_down_revisions) - set(script._resolved_dependencies),
            set(to_tuple(script.dependencies, ())),
            set(script._orig_branch_labels),
            script.doc.split(),
            script.longdoc.split(),
        )
        for script in scripts.walk_revisions()
    }
    ours = {
        revision.id: (
            set(revision.down_revisions),
            set(revision.depends_on),
            set(revision.labels),
            revision.message.split(),
            revision.doc.split(),
        )
        for revision in read_revisions(package)
    }
    assert ours == theirs
    assert len(ours) == len(HISTORY) + (9 if is_recursive else 7)
