"""What ``db-init`` and ``db-rev`` write: it compiles, and means what was typed; what cannot be is not written."""

from __future__ import annotations

import ast
import importlib
import re
import stat
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from facade import FRAMEWORKS, URLS, facade
from project import Project
from sqlalchemy import make_url

from ampho.errors import (
    AmphoError,
    MigrationsFolderError,
    PackageNameError,
    PackageNotFoundError,
    RevisionFileError,
    RevisionInputError,
    SpecifierError,
)
from ampho.history.package import configured_packages
from ampho.history.revision import Revision, load_module, read_revision
from ampho.migrate.project import Project as Migrations
from ampho.revise import writer as revise

NOW = 1_595_770_095

Refusals = dict[str, tuple[str, type[AmphoError], str]]


@pytest.fixture
def here(project: Project, monkeypatch: pytest.MonkeyPatch) -> Iterator[Project]:
    """A project with the packages ``app`` and ``core``, importable, at a time that stands still."""
    monkeypatch.delenv("AMPHO_MIGRATION_PACKAGES", raising=False)
    monkeypatch.setattr(time, "time", lambda: NOW + 0.5)
    project.package("app")
    project.package("core")
    with project.importing():
        yield project


def migrations(*packages: str, template: str = "sync") -> Migrations:
    return Migrations(configured_packages(list(packages or ("app", "core"))).packages, make_url("sqlite://"), template)


def init(entry: str, *packages: str) -> revise.Initialized:
    return revise.init(migrations(*packages), entry)


def write(project: Migrations, package: str, message: str, **options: object) -> Revision:
    new = revise.prepare_revision(project, package, revise.Wish(message, **options))  # type: ignore[arg-type]
    return revise.write_revision(project, new)


def rev(package: str = "app", message: str = "a message", **options: object) -> Revision:
    return write(migrations(), package, message, **options)


def declared(path: Path) -> dict[str, object]:
    """What plain Python sees in the file."""
    module = load_module(path, "app")
    return {name: getattr(module, name) for name in ("revision", "down_revision", "branch_labels", "depends_on")}


def refused(here: Project, error: type[AmphoError], what: str, work: Callable[[], object]) -> AmphoError:
    """Check that the work is refused in one line, and that nothing was written."""
    before, folders = here.files(), {path for path in here.folder.rglob("*") if path.is_dir()}
    with pytest.raises(error, match=what) as caught:
        work()
    assert here.files() == before
    assert {path for path in here.folder.rglob("*") if path.is_dir()} == folders
    assert str(caught.value).isprintable()
    return caught.value


def packages(here: Project, *names: str) -> None:
    for name in names:
        here.package(name)
    importlib.invalidate_caches()


# ---- init


def test_init_writes_the_folder_whole(here: Project) -> None:
    done = init("app")
    folder = here.folder / "app" / "migrations"
    assert done.package.folder == folder
    assert [path.name for path in done.files] == ["README", "alembic.ini", "env.py", "script.py.mako", "versions"]
    assert done.hint is None
    assert [path.name for path in (here.folder / "app").iterdir()].count("migrations") == 1
    assert not [path for path in (here.folder / "app").iterdir() if path.name.startswith(".ampho-")]
    compile((folder / "env.py").read_text("utf-8"), "env.py", "exec")
    assert stat.S_IMODE(folder.stat().st_mode) & 0o700 == 0o700


def test_init_of_either_framework_writes_its_own_env_py(here: Project) -> None:
    revise.init(migrations(template="sync"), "app")
    revise.init(migrations(template="aio"), "core")
    assert "async" not in here.read("app/migrations/env.py")
    assert "async" in here.read("core/migrations/env.py")


def test_init_adds_the_package_to_the_lists_of_the_others_and_leaves_all_else(here: Project) -> None:
    packages(here, "own", "late")
    ini = {name: here.migrations(name) / "alembic.ini" for name in ("app", "core", "own")}
    for name in ini:
        init(name, "app", "core", "own")
    ini["app"].write_bytes(ini["app"].read_bytes().replace(b"\n", b"\r\n") + b"# mine")
    ini["own"].write_text(here.read("own/migrations/alembic.ini").replace("    own:", "    %(here)s/more\n    own:"))
    before = {name: path.read_bytes() for name, path in ini.items()}

    done = init("late", "app", "core", "own")

    assert done.updated == (ini["app"], ini["core"])
    line, versions = b"    late:migrations/versions", b"    own:migrations/versions"
    assert ini["app"].read_bytes() == before["app"].replace(versions, versions + b"\r\n" + line)
    assert ini["core"].read_bytes() == before["core"].replace(versions, versions + b"\n" + line)
    assert ini["own"].read_bytes() == before["own"]


@pytest.mark.parametrize("after", ["    more\n", "\n    more\n", "\tmore\n"])
def test_init_leaves_a_list_that_goes_on_in_another_form(here: Project, after: str) -> None:
    init("core", "core")
    ini = here.migrations("core") / "alembic.ini"
    ini.write_text(here.read("core/migrations/alembic.ini").replace("/versions\n", f"/versions\n{after}"))
    assert init("app", "core").updated == ()


def test_init_writes_a_configured_folder_of_another_name_and_those_beside_it(here: Project) -> None:
    listed = ("app", "core:alembic")
    with pytest.raises(MigrationsFolderError, match="Create it with 'ampho db-init core:alembic'"):
        len(migrations(*listed).graph)
    init("app", *listed)
    assert init("core", *listed).package.folder == here.folder / "core" / "alembic"
    assert write(migrations(*listed), "core", "first").path.parent == here.folder / "core/alembic/versions"


def test_ini_file_lists_every_package_for_plain_alembic(here: Project) -> None:
    packages(here, "acme.billing")
    revise.init(migrations("app", "acme.billing"), "app")
    lines = [line.strip() for line in here.read("app/migrations/alembic.ini").splitlines()]
    start = lines.index("version_locations =")
    assert lines[start + 1 : start + 3] == ["app:migrations/versions", "acme.billing:migrations/versions"]


def test_init_of_a_package_that_is_not_listed_says_which_setting_to_add(here: Project) -> None:
    packages(here, "acme.billing")
    done = init("acme.billing")
    assert done.hint == (
        'Set app.config["AMPHO_MIGRATION_PACKAGES"] to ["app", "core", "acme.billing"], or set'
        " AMPHO_MIGRATION_PACKAGES=app,core,acme.billing in the environment."
    )
    assert "    acme.billing:migrations/versions" in here.read("acme/billing/migrations/alembic.ini")


def test_init_of_another_folder_says_the_entry_to_list(here: Project) -> None:
    packages(here, "blog")
    done = init("blog:db/alembic")
    assert done.package.folder == here.folder / "blog" / "db" / "alembic"
    assert done.hint is not None
    assert done.hint.endswith("=app,core,blog:db/alembic in the environment.")


def test_init_of_another_folder_than_the_configured_one_is_refused(here: Project) -> None:
    refused(here, MigrationsFolderError, "is configured with the folder .*migrations", lambda: init("app:db/alembic"))


def test_init_of_an_empty_folder_fills_it(here: Project) -> None:
    (here.folder / "app" / "migrations").mkdir()
    init("app")
    assert (here.folder / "app" / "migrations" / "env.py").is_file()


@pytest.mark.parametrize("entry", ["../x", "/etc", "", "a b", "é\0", "a'b", "--sql", "app:../..", "app:/etc", "head"])
def test_init_of_a_hostile_name_writes_nothing(entry: str, here: Project) -> None:
    what = "is not the name|does not name a folder|has a special meaning"
    refused(here, PackageNameError, what, lambda: init(entry))


def test_init_of_a_package_that_is_not_there_writes_nothing(here: Project) -> None:
    refused(here, PackageNotFoundError, "There is no package nope", lambda: init("nope"))
    refused(here, PackageNotFoundError, "single module", lambda: init("colorsys"))


def test_init_twice_is_refused_and_keeps_what_is_there(here: Project) -> None:
    init("app")
    refused(here, MigrationsFolderError, "already exists", lambda: init("app"))


def test_init_where_a_file_is_in_the_way_is_refused(here: Project) -> None:
    here.write("app/migrations", "a file")
    refused(here, MigrationsFolderError, "already exists", lambda: init("app"))
    here.write("blog/__init__.py", "")
    here.write("blog/db", "a file")
    refused(here, MigrationsFolderError, "cannot be written", lambda: init("blog:db/alembic"))


def test_init_of_an_installed_package_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    site = Project(tmp_path / "site-packages")
    site.package("plugin")
    monkeypatch.syspath_prepend(site.folder)
    refused(site, MigrationsFolderError, "is installed in", lambda: init("plugin", "plugin"))


def test_init_through_a_link_out_of_the_package_is_refused(here: Project, tmp_path: Path) -> None:
    packages(here, "blog")
    (tmp_path / "outside").mkdir()
    (here.folder / "blog" / "migrations").symlink_to(tmp_path / "outside")
    refused(here, MigrationsFolderError, "leads outside the package", lambda: init("blog"))
    assert not list((tmp_path / "outside").iterdir())


# ---- revision: what it stands on, and what it is called


@pytest.fixture
def ready(here: Project) -> Project:
    """Both packages with a migrations folder."""
    init("app")
    init("core")
    return here


def test_first_revision_is_a_labelled_base_and_later_ones_stand_on_the_head(ready: Project) -> None:
    first = rev(message="Make users")
    assert first.path == ready.migrations("app") / "versions" / f"app_{NOW}_make_users.py"
    assert declared(first.path) == {
        "revision": f"app_{NOW}",
        "down_revision": None,
        "branch_labels": ("app",),
        "depends_on": None,
    }
    second = rev(message="Make more")
    assert declared(second.path) == {
        "revision": f"app_{NOW + 1}",
        "down_revision": f"app_{NOW}",
        "branch_labels": None,
        "depends_on": None,
    }
    assert migrations().graph.of_package("app") == (first.id, second.id)
    assert migrations().graph[second.id] == second


def test_ids_are_never_reused_not_even_within_a_second_nor_in_another_case(ready: Project) -> None:
    ready.revision("core", f"APP_{NOW}")
    ids = [rev(message=f"number {number}").id for number in range(3)]
    assert ids == [f"app_{NOW + 1}", f"app_{NOW + 2}", f"app_{NOW + 3}"]


def test_dots_of_a_package_become_underscores_and_cannot_collide_with_them(here: Project) -> None:
    names = ["acme.billing", "acme_billing"]
    packages(here, *names)
    for name in names:
        init(name, *names)
    ids = [write(migrations(*names), name, "first").id for name in names]
    assert ids == [f"acme_billing_{NOW}", f"acme_billing_{NOW + 1}"]


def test_long_package_names_are_shortened_to_ids_of_32_characters_that_differ(here: Project) -> None:
    stem = "a_rather_long_company_name.a_rather_long_package_name"
    names = [f"{stem}_one", f"{stem}_two", "x" * 21, "y" * 22]
    packages(here, *names)
    for name in names:
        init(name, *names)
    ids = [write(migrations(*names), name, "first").id for name in names]
    assert all(len(one) <= 32 for one in ids)
    assert len({one.rpartition("_")[0] for one in ids}) == 4
    assert ids[0].startswith("a_rather_long_")
    assert ids[2] == f"{'x' * 21}_{NOW + 2}"


def test_ids_of_one_second_tell_which_revision_is_older(here: Project) -> None:
    names = ["zoo", "app"]
    packages(here, *names)
    for name in names:
        init(name, *names)
    ids = [write(migrations(*names), name, "first").id for name in ("app", "zoo")]
    assert ids == [f"app_{NOW}", f"zoo_{NOW + 1}"]
    assert migrations(*names).graph.ids == tuple(ids)


def test_two_heads_are_refused_until_one_is_named(ready: Project) -> None:
    ready.revision("app", "app_1")
    ready.revision("app", "app_2", "app_1")
    ready.revision("app", "app_3", "app_1")
    error = refused(ready, RevisionInputError, "app has 2 heads: app_2, app_3.* --head app_2", rev)
    assert isinstance(error, RevisionInputError)
    assert error.package == "app"
    assert rev(head="app_3").down_revisions == ("app_3",)


@pytest.mark.parametrize(
    ("head", "parents"),
    [
        ("app_2", ("app_2",)),
        ("app_20", ("app_20",)),
        ("app@app_20", ("app_20",)),
        ("side_", ("side_3",)),
        ("side", ("side_3",)),
        ("side@head", ("side_3",)),
        ("base", ()),
    ],
)
def test_head_is_an_id_a_prefix_a_branch_or_base(head: str, parents: tuple[str, ...], ready: Project) -> None:
    ready.revision("app", "app_1")
    ready.revision("app", "app_2", "app_1")
    ready.revision("app", "app_20", "app_1")
    ready.revision("app", "side_3", "app_1", labels="side")
    new = rev(head=head)
    assert new.down_revisions == parents
    assert new.labels == ()
    assert migrations().graph[new.id].down_revisions == parents


def test_head_of_the_package_itself_is_its_one_head(ready: Project) -> None:
    ready.revision("app", "app_1")
    assert rev(head="app@head").down_revisions == ("app_1",)
    assert rev(head="app").down_revisions == (f"app_{NOW}",)


HEADS_REFUSED: Refusals = {
    "another package's": ("core_1", RevisionInputError, "belongs to core. To depend on it, pass --depends-on core_1"),
    "another package": ("core", RevisionInputError, "belongs to core"),
    "not a head": ("app_1", RevisionInputError, "already has a successor. Add --splice"),
    "unknown": ("nope", SpecifierError, "nope is neither"),
    "unknown package": ("nope@head", SpecifierError, "nope is neither a package"),
    "ambiguous": ("app_", SpecifierError, "2 ids start with"),
    "head": ("head", RevisionInputError, "--head head does not name a revision"),
    "heads": ("heads", RevisionInputError, "--head heads does not name a revision"),
    "a step": ("+1", RevisionInputError, r"--head \+1 does not name a revision"),
    "a step of a package": ("app@-1", RevisionInputError, "--head app@-1 does not name a revision"),
    "base of a package": ("app@base", RevisionInputError, "--head app@base does not name a revision"),
    "empty": ("", SpecifierError, "is not a specifier"),
    "a range": ("app_1:app_2", SpecifierError, "is a range"),
    "control characters": ("app_1\n", SpecifierError, "is not a specifier"),
}


@pytest.mark.parametrize(("head", "error", "what"), HEADS_REFUSED.values(), ids=HEADS_REFUSED)
def test_head_that_cannot_be_is_refused(head: str, error: type[AmphoError], what: str, ready: Project) -> None:
    ready.revision("app", "app_1")
    ready.revision("app", "app_2", "app_1")
    ready.revision("core", "core_1")
    refused(ready, error, what, lambda: rev(head=head))


def test_splice_branches_off_from_a_revision_that_has_a_successor(ready: Project) -> None:
    ready.revision("app", "app_1")
    ready.revision("app", "app_2", "app_1")
    new = rev(head="app_1", splice=True)
    assert new.down_revisions == ("app_1",)
    assert set(migrations().graph.heads("app")) == {"app_2", new.id}


@pytest.mark.parametrize(
    ("depends_on", "written"),
    [
        (["core_1"], ("core_1",)),
        (["core_2"], ("core_2",)),
        (["core"], ("core_2",)),
        (["core@head"], ("core_2",)),
        (["core@heads"], ("core_2",)),
        (["core@core_1"], ("core_1",)),
        (["only"], ("only_one",)),
        (["core_1", "only_one", "core_1"], ("core_1", "only_one")),
        ([], ()),
    ],
)
def test_dependencies_are_written_as_full_ids(depends_on: list[str], written: tuple[str, ...], ready: Project) -> None:
    ready.revision("core", "core_1")
    ready.revision("core", "core_2", "core_1")
    ready.revision("app", "only_one")
    new = rev(depends_on=depends_on)
    assert new.depends_on == written
    assert declared(new.path)["depends_on"] == (written or None)


DEPENDENCIES_REFUSED: Refusals = {
    "unknown": ("nope", SpecifierError, "nope is neither"),
    "ambiguous": ("core_", SpecifierError, "3 ids start with"),
    "two heads": ("core", RevisionInputError, "--depends-on core: core has 2 heads: core_2, core_3"),
    "two heads, asked for": ("core@head", RevisionInputError, "core has 2 heads"),
    "no revision yet": ("bare", RevisionInputError, "bare has no revisions yet"),
    "base": ("base", RevisionInputError, "--depends-on base does not name a revision"),
    "heads": ("heads", RevisionInputError, "--depends-on heads does not name a revision"),
    "a step": ("core@+1", RevisionInputError, "does not name a revision"),
    "empty": ("", SpecifierError, "is not a specifier"),
}


@pytest.mark.parametrize(("name", "error", "what"), DEPENDENCIES_REFUSED.values(), ids=DEPENDENCIES_REFUSED)
def test_dependency_that_cannot_be_is_refused(name: str, error: type[AmphoError], what: str, ready: Project) -> None:
    packages(ready, "bare")
    for revision, down in (("core_1", None), ("core_2", "core_1"), ("core_3", "core_1")):
        ready.revision("core", revision, down)
    refused(
        ready,
        error,
        what,
        lambda: write(migrations("app", "core", "bare"), "app", "m", depends_on=["core_1", name]),
    )


@pytest.mark.parametrize("rev_id", ["x", "2026.01_b", "a" * 32, "0001", "_a", "app_1.2"])
def test_id_may_be_chosen(rev_id: str, ready: Project) -> None:
    new = rev(rev_id=rev_id)
    assert (new.id, new.path.name) == (rev_id, f"{rev_id}_a_message.py")
    assert rev_id in migrations().graph


IDS_REFUSED = ["", " ", "a b", "a@b", "a-b", "a+b", "a:b", "a/b", "../x", "a\\b", "a'b", 'a"b', "a\n", "a\0", "größe"]
IDS_REFUSED += ["a" * 33, "%(rev)s", "${x}", "{x}", ".a", "head", "heads", "base", "app", "core", "side", "a%b", "-1"]


@pytest.mark.parametrize("rev_id", IDS_REFUSED, ids=ascii)
def test_id_that_cannot_be_is_refused(rev_id: str, ready: Project) -> None:
    ready.revision("core", "core_1", labels=("core", "side"))
    refused(ready, RevisionInputError, "--rev-id .* is not a valid id", lambda: rev(rev_id=rev_id))


@pytest.mark.parametrize("rev_id", ["core_1", "CORE_1", "Core_1"])
def test_id_that_is_taken_in_whatever_case_is_refused(rev_id: str, ready: Project) -> None:
    ready.revision("core", "core_1")
    refused(ready, RevisionInputError, r"is already used by \S+core_1_by_hand.py", lambda: rev(rev_id=rev_id))


# ---- revision: the message

MESSAGES = {
    "triple quotes": 'a """ b',
    "triple quotes and code": '"""\nimport os; os.system("false")\n"""',
    "triple single quotes": "a ''' b",
    "a quote last": 'say "yes"',
    "quotes only": '"""""""',
    "backslashes": "C:\\users\\new\\table",
    "a backslash last": "end\\",
    "backslash and quotes": '\\"""',
    "unicode escapes": "\\N{DIGIT ONE} \\u0041 \\x41 \\101",
    "newlines": "first\nsecond\n\n    third",
    "a newline first": "\nfirst",
    "a tab": "a\tb",
    "percent signs": "100 % of %(rev)s %s %%",
    "braces": "{} {0} {x!r} }{",
    "mako expressions": "${x} ${1/0} ${__import__('os')}",
    "mako blocks": "<% raise RuntimeError %> <%! import os %> </%def>",
    "a mako control line": "% if x:\n% endif",
    "a mako comment": "## gone\nstays",
    "a mako block comment": "<%doc> gone </%doc>",
    "a comment": "# -*- coding: latin-1 -*-",
    "a header": "x\nrevision = 'evil'\ndown_revision = 'evil'",
    "umlauts": "Größe ändern, naïve café",
    "other scripts": "создать таблицу 表を作る",
    "emoji": "party 🎉",
    "no letters": "!!! ??? ...",
    "a path": "../../etc/passwd",
    "an absolute path": "/etc/passwd",
    "a dash first": "-x --sql",
    "1,000 characters": "word " * 199 + "end.!",
}


@pytest.mark.parametrize("message", MESSAGES.values(), ids=MESSAGES)
def test_message_is_the_docstring_that_was_typed_and_nothing_more(message: str, ready: Project) -> None:
    new = rev(message=message)
    assert new.path.parent == ready.migrations("app") / "versions"
    tree = ast.parse(new.path.read_bytes())
    docstring = tree.body[0]
    assert isinstance(docstring, ast.Expr)
    assert isinstance(docstring.value, ast.Constant)
    assert str(docstring.value.value).startswith(f"{message}\n\nRevision ID: app_{NOW}\nRevises: -\n")
    kinds = [type(node).__name__ for node in tree.body]
    assert kinds == ["Expr", "Import", "ImportFrom", *["Assign"] * 4, "FunctionDef", "FunctionDef"]
    assert declared(new.path)["revision"] == f"app_{NOW}"
    assert migrations().graph.ids == (f"app_{NOW}",)


MESSAGES_REFUSED = {
    "empty": ("", "The message is empty"),
    "blank": (" \n\t ", "The message is empty"),
    "2,000 characters": ("x" * 2000, "has 2000 characters"),
    "a NUL": ("a\0b", "cannot be printed"),
    "an escape sequence": ("\x1b[31mred", "cannot be printed"),
    "a carriage return": ("a\rb", "cannot be printed"),
    "a form feed": ("a\fb", "cannot be printed"),
    "a text direction": ("a\u202eb", "cannot be printed"),
    "a surrogate": ("a\udc80b", "cannot be printed"),
    "a line separator": ("a\u2028b", "cannot be printed"),
}


@pytest.mark.parametrize(("message", "what"), MESSAGES_REFUSED.values(), ids=MESSAGES_REFUSED)
def test_message_that_cannot_be_is_refused(message: str, what: str, ready: Project) -> None:
    refused(ready, RevisionInputError, what, lambda: rev(message=message))


# ---- revision: where it is written


def test_revision_of_a_package_that_is_not_listed_says_the_setting(ready: Project) -> None:
    packages(ready, "blog")
    refused(ready, PackageNotFoundError, "blog is not a configured package.*=app,core,blog", lambda: rev("blog"))
    refused(ready, PackageNotFoundError, "There is no package nope", lambda: rev("nope"))
    refused(ready, PackageNameError, "is not the name", lambda: rev("../x"))


def test_revision_without_a_migrations_folder_says_db_init(here: Project) -> None:
    refused(here, MigrationsFolderError, "ampho db-init app", rev)


def test_revision_for_an_installed_package_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    site = Project(tmp_path / "site-packages")
    site.package("plugin")
    site.revision("plugin", "plugin_1")
    monkeypatch.syspath_prepend(site.folder)
    work = migrations("plugin")
    refused(site, MigrationsFolderError, "is installed in", lambda: write(work, "plugin", "m"))


def test_revision_makes_the_versions_folder_that_git_did_not_keep(ready: Project) -> None:
    (ready.migrations("app") / "versions").rmdir()
    assert rev().path.is_file()


def test_revision_goes_beside_the_others_where_there_is_no_versions_folder(here: Project) -> None:
    here.write("app/migrations/a_1.py", "revision = 'a_1'\ndown_revision = None\n")
    assert rev().path == here.migrations("app") / f"app_{NOW}_a_message.py"
    assert rev(message="one more").down_revisions == (f"app_{NOW}",)


def test_file_where_the_folder_should_be_is_named(ready: Project) -> None:
    (ready.migrations("app") / "versions").rmdir()
    ready.write("app/migrations/versions", "a file is in the way")
    refused(ready, RevisionFileError, r"\S+versions of app cannot be read", rev)


def test_versions_folder_that_a_link_leads_out_of_the_package_is_refused(ready: Project, tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    (ready.migrations("app") / "versions").rmdir()
    (ready.migrations("app") / "versions").symlink_to(tmp_path / "outside")
    refused(ready, RevisionInputError, "inside the package", rev)
    assert not list((tmp_path / "outside").iterdir())


def test_file_that_is_there_already_is_not_overwritten(ready: Project) -> None:
    ready.write(f"app/migrations/versions/app_{NOW}_a_message.py", "revision = 'x'\ndown_revision = None\n")
    refused(ready, RevisionInputError, "already exists", rev)


def test_broken_history_is_said_before_anything_is_written(ready: Project) -> None:
    ready.write("core/migrations/versions/broken.py", "revision = (\n")
    refused(ready, RevisionFileError, "broken.py of core cannot be parsed", rev)


# ---- revision: the package's own template and ini file

OWN_TEMPLATE = '''\
# Copyright of ${message}
"""${message}"""
revision = ${repr(up_revision)}
down_revision = ${repr(down_revision)}
branch_labels = ${repr(branch_labels)}
depends_on = ${repr(depends_on)}


def upgrade() -> None:
    ${upgrades if upgrades else "pass"}
'''


def template(project: Project, text: str) -> None:
    project.write("app/migrations/script.py.mako", text)


def test_own_template_is_used(ready: Project) -> None:
    template(ready, OWN_TEMPLATE)
    new = rev(message='it\'s """\n% 100 \\')
    assert new.path.read_text("utf-8").startswith("# Copyright of it's ")
    assert new.message == 'it\'s """ % 100 \\'
    assert declared(new.path)["revision"] == new.id


def test_template_of_plain_alembic_is_used(ready: Project) -> None:
    import alembic

    source = Path(alembic.__file__).parent / "templates" / "generic" / "script.py.mako"
    template(ready, source.read_text("utf-8"))
    ready.revision("core", "core_1")
    first = rev(depends_on=["core_1"])
    second = rev()
    assert (first.labels, first.depends_on) == (("app",), ("core_1",))
    assert "Revises: \n" in first.path.read_text("utf-8")
    assert f"Revises: {first.id}\n" in second.path.read_text("utf-8")


REMARK = "# Newest revisions of other packages when this was written: "


@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_a_comment_says_what_the_newest_of_the_other_packages_were(ready: Project, newline: str) -> None:
    """Below the header, with any template: the package's own may be older than this comment."""
    for number, package in enumerate(("one", "two", "three", "core"), 1):
        ready.package(package)
        ready.revision(package, f"{package}_160000000{number}")
    ready.revision("app", "app_1600000009")
    path = ready.migrations("app") / "script.py.mako"
    path.write_bytes(OWN_TEMPLATE.replace("\n", newline).encode())

    new = write(migrations("one", "app", "two", "three", "core"), "app", "by hand")

    lines = new.path.read_bytes().decode().split(newline)
    (place,) = (number for number, line in enumerate(lines) if line.startswith(REMARK))
    assert lines[place] == f"{REMARK}core_1600000004, three_1600000003, two_1600000002 and 1 more"
    assert lines[place - 1].startswith("depends_on")
    assert read_revision(new.file, "app") == new


def test_a_comment_says_nothing_where_no_other_package_has_a_revision(ready: Project) -> None:
    first = rev()
    assert REMARK not in first.path.read_text("utf-8")
    assert f"{REMARK}{first.id}\n" in rev("core").path.read_text("utf-8")


def test_folder_without_a_template_takes_the_one_that_ampho_brings(here: Project) -> None:
    here.revision("app", "app_1")
    assert rev().down_revisions == ("app_1",)


TEMPLATES = {
    "lost id": (OWN_TEMPLATE.replace("${repr(up_revision)}", "'always_this'"), "does not write the id"),
    "lost down_revision": (OWN_TEMPLATE.replace("${repr(down_revision)}", "None"), "does not write the down_revisions"),
    "no line for depends_on": (re.sub("depends_on.*\n", "", OWN_TEMPLATE), "does not write the depends_on"),
    "no header": ("# nothing\n", "does not produce a revision"),
    "empty": ("", "does not produce a revision"),
    "no Python": ("this is no Python\n", "does not produce a revision: .*cannot be parsed"),
    "no mako": ("% if x:\n", "the template .* cannot be rendered"),
    "unknown name": ("${no_such_name}\n", "the template .* cannot be rendered"),
    "a failing expression": ("${1 / 0}\n", "the template .* cannot be rendered: ZeroDivisionError"),
    "sys.exit": ("<% import sys; sys.exit(0) %>\n", "the template .* cannot be rendered"),
    "not UTF-8": ("größe".encode("latin-1"), "the template .* cannot be rendered"),
}


@pytest.mark.parametrize(("text", "what"), TEMPLATES.values(), ids=TEMPLATES)
def test_template_that_loses_what_was_meant_is_refused(text: str | bytes, what: str, ready: Project) -> None:
    ready.revision("app", "app_1")
    ready.revision("core", "core_1")
    path = ready.migrations("app") / "script.py.mako"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    error = refused(ready, RevisionInputError, what, lambda: rev(depends_on=["core_1"]))
    assert "script.py.mako" in str(error)


def ini(project: Project, text: str) -> None:
    project.write("app/migrations/alembic.ini", "[alembic]\n" + text)


def test_file_template_and_the_length_of_names_are_those_of_the_ini_file(ready: Project) -> None:
    ini(ready, "file_template = %%(year)d_%%(slug)s_%%(rev)s\ntruncate_slug_length = 10\n")
    assert re.fullmatch(
        rf"\d{{4}}_a_longer_message_app_{NOW}\.py|\d{{4}}_a_longer__app_{NOW}\.py",
        rev(message="a longer message than that").path.name,
    )


def test_file_template_may_lead_into_sub_folders_that_are_read(ready: Project) -> None:
    ini(ready, "file_template = %%(year)d/%%(rev)s\nrecursive_version_locations = true\n")
    first = rev()
    assert first.path.parent.parent == ready.folder / "app/migrations/versions"
    assert rev(message="Second").down_revisions == (first.id,)


def test_timezone_is_that_of_the_ini_file(ready: Project) -> None:
    ini(ready, "timezone = UTC\n")
    assert re.search(r"Create Date: \d{4}-\d\d-\d\d \d\d:\d\d:\d\d(\.\d+)?\+00:00\n", rev().path.read_text("utf-8"))


INI_FILES = {
    "unknown timezone": ("timezone = Nowhere/Land\n", "Can't locate timezone"),
    "a length that is no number": ("truncate_slug_length = many\n", "cannot be used"),
    "a template with an unknown name": ("file_template = %%(nope)s\n", "cannot be used|file_template"),
    "a template that leads out": ("file_template = ../%%(rev)s\n", "Correct file_template"),
    "a template with a folder": ("file_template = %%(year)d/%%(rev)s\n", "Correct file_template"),
    "a bare percent sign": ("file_template = %(rev)s\n", "cannot be used"),
    "no ini file at all": ("nonsense\n", "cannot be used"),
}


@pytest.mark.parametrize(("text", "what"), INI_FILES.values(), ids=INI_FILES)
def test_ini_file_that_cannot_be_used_is_named(text: str, what: str, ready: Project) -> None:
    ini(ready, text)
    error = refused(ready, RevisionInputError, what, rev)
    assert "alembic.ini" in str(error)


def test_name_that_is_too_long_for_the_disk_is_refused(ready: Project) -> None:
    ini(ready, "truncate_slug_length = 900\n")
    refused(ready, RevisionInputError, "cannot be written", lambda: rev(message="word " * 150))


def hook(project: Project, code: str) -> None:
    script = project.write("hook.py", code)
    ini(
        project,
        "[post_write_hooks]\nhooks = one\none.type = exec\n"
        f"one.executable = {sys.executable}\none.options = {script} REVISION_SCRIPT_FILENAME\n",
    )


def test_post_write_hooks_run_on_the_new_file(ready: Project, capfd: pytest.CaptureFixture[str]) -> None:
    hook(
        ready,
        "import sys, pathlib\npath = pathlib.Path(sys.argv[1])\npath.write_text('# hooked\\n' + path.read_text())\n",
    )
    new = rev()
    assert new.path.read_text("utf-8").startswith("# hooked\n")
    assert capfd.readouterr().out == ""
    assert migrations().graph.ids == (new.id,)


BAD_HOOKS = {
    "no such program": "hooks = one\none.type = exec\none.executable = /no/such/program\none.options = X\n",
    "no type": "hooks = one\n",
    "an unknown type": "hooks = one\none.type = nope\n",
    "no such module": "hooks = one\none.type = module\none.module = no_such_module\n",
}


@pytest.mark.parametrize("text", BAD_HOOKS.values(), ids=BAD_HOOKS)
def test_post_write_hook_that_cannot_run_says_that_the_file_is_there(text: str, ready: Project) -> None:
    ini(ready, f"[post_write_hooks]\n{text}")
    with pytest.raises(RevisionInputError, match="was written, but a post_write_hook failed") as caught:
        rev()
    assert caught.value.package == "app"
    assert migrations().graph.ids == (f"app_{NOW}",)


def test_plain_alembic_sees_what_was_written(ready: Project) -> None:
    from alembic.script import ScriptDirectory

    ready.revision("core", "core_1")
    first = rev(depends_on=["core"])
    second = rev(message='quotes """ and \\ backslashes')
    scripts = ScriptDirectory(
        str(ready.migrations("app")),
        version_locations=[str(ready.migrations(name) / "versions") for name in ("app", "core")],
    )
    found = scripts.get_revision("app@head")
    assert (found.revision, found.down_revision) == (second.id, first.id)
    assert found.doc == 'quotes """ and \\ backslashes'
    assert scripts.get_revision(first.id).dependencies == "core_1"
    assert "app" in scripts.get_revision(first.id).branch_labels


CONVENTION = {"fk": "fk_%(table_name)s_%(column_0_N_name)s"}


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_init_says_once_how_to_name_constraints(project: Project, framework: str) -> None:
    for name in ("blog", "shop"):
        project.package(name)
    with facade(project, framework, ["blog", "shop"], URLS[framework]) as each:
        first = each.call("init", "blog")
        project.revision("blog", "blog_1")
        second = each.run("db-init", "shop")

    assert "a naming_convention before the first revision" in first.naming_hint
    assert "naming_convention" not in second.output


def test_init_does_not_say_how_to_name_constraints_that_the_metadata_names(project: Project) -> None:
    project.package("blog")
    with facade(project, "flask", ["blog"], URLS["flask"]) as each:
        each.ampho.db.metadata.naming_convention = CONVENTION

        assert each.call("init", "blog").naming_hint is None
