"""Which ``env.py`` configures every run, wherever the packages lie, and which ones a warning names."""

from __future__ import annotations

import importlib
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
import zigzag
from project import Project
from servers import Database

import ampho
from ampho._text import shown_path
from ampho.errors import VersionTableError
from ampho.history.host import Hosts
from ampho.history.package import find_package

TEMPLATE = Path(ampho.__file__).with_name("templates") / "sync" / "env.py"
PRISTINE = TEMPLATE.read_text("utf-8")
OPTIONS = "**environment.options(),"
EDITED = PRISTINE.replace(OPTIONS, f'version_table="changes", {OPTIONS}')
OLD = "from alembic import context\n"


class Disk:
    """Packages with an ``env.py``, in the project's folder or installed; each distribution has a record of its own."""

    def __init__(self, project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
        self.project = project
        self.site = project.folder / "venv" / "lib" / "site-packages"
        monkeypatch.syspath_prepend(project.folder)
        monkeypatch.syspath_prepend(self.site)

    def here(self, *packages: str, env_py: str = EDITED) -> None:
        self._write(self.project.folder, packages, env_py)

    def copied(self, *packages: str, env_py: str = EDITED) -> None:
        self._write(self.site, packages, env_py)

    def installed(self, *packages: str, env_py: str = EDITED, folder: Path | None = None, more: str = "") -> None:
        """Install packages as one distribution.

        :param more: a module that comes with them.
        """
        site = folder or self.site
        files = self._write(site, packages, env_py)
        if more:
            files.append(self.project.write(site / more, ""))
        record = "".join(f"{file.relative_to(site).as_posix()},sha256=,0\n" for file in files)
        self.project.write(site / f"{packages[0]}-1.0.dist-info" / "RECORD", record)

    def _write(self, folder: Path, packages: Sequence[str], env_py: str) -> list[Path]:
        files = []
        for package in packages:
            root = folder.joinpath(*package.split("."))
            files.append(self.project.write(root / "__init__.py", ""))
            if env_py:
                files.append(self.project.write(root / "migrations" / "env.py", env_py))
        return files


@pytest.fixture
def disk(project: Project, monkeypatch: pytest.MonkeyPatch) -> Iterator[Disk]:
    with project.importing():
        yield Disk(project, monkeypatch)


def host_of(import_name: str, *packages: str, name: str | None = None) -> str | None:
    hosts = Hosts([find_package(package) for package in packages], name, import_name)
    return hosts.host.name if hosts.host else None


def warning_of(import_name: str, *packages: str, name: str | None = None) -> str | None:
    return Hosts([find_package(package) for package in packages], name, import_name).warning(TEMPLATE)


# Where it is the app's own


@pytest.mark.parametrize("import_name", ["shop", "shop.web", "shop.web.views"])
def test_the_app_s_own_package_is_the_host_where_it_is_copied_into_an_image(disk: Disk, import_name: str) -> None:
    disk.installed("plugin")
    disk.copied("shop", "shop.web")
    disk.project.write(disk.site / "shop" / "web" / "views.py", "")

    assert host_of(import_name, "plugin", "shop") == "shop"
    assert warning_of(import_name, "plugin", "shop") is None


def test_the_packages_beside_the_app_are_its_own_where_one_distribution_has_them(disk: Disk) -> None:
    disk.installed("plugin")
    disk.installed("blog", "accounts", more="wsgi.py")

    assert host_of("wsgi", "plugin", "blog", "accounts") == "blog"
    assert host_of("wsgi", "plugin", "accounts", "blog") == "accounts"


def test_a_package_that_another_distribution_puts_into_the_app_s_is_foreign(disk: Disk) -> None:
    disk.installed("shop", "shop.accounts", more="shop/web.py")
    disk.installed("shop.plugin")
    (disk.site / "shop.plugin-1.0.dist-info" / "RECORD").write_text("shop/plugin/__init__.py,,\n", "utf-8")

    assert host_of("shop.web", "shop.plugin", "shop.accounts") == "shop.accounts"
    assert host_of("shop.web", "shop.plugin") is None


def test_packages_of_a_namespace_are_as_foreign_as_any(disk: Disk) -> None:
    disk.installed("acme.billing")
    disk.installed("acme.web")

    assert host_of("acme.web", "acme.billing", "acme.web") == "acme.web"
    assert host_of("acme.web", "acme.billing") is None


def test_what_is_installed_into_a_folder_of_any_name_is_foreign(disk: Disk, monkeypatch: pytest.MonkeyPatch) -> None:
    """As with the option ``--target`` of pip."""
    libraries = disk.project.folder / "libraries"
    monkeypatch.syspath_prepend(libraries)
    disk.installed("plugin", folder=libraries)
    disk.here("blog")

    assert host_of("wsgi", "plugin", "blog") == "blog"
    assert host_of("wsgi", "plugin") is None


def test_it_is_the_same_one_in_a_checkout_and_in_an_image(disk: Disk) -> None:
    disk.here("blog", "shop", "shop.accounts")
    in_checkout = [
        host_of(app, "blog", "shop.accounts", "shop") for app in ("shop", "shop.web", "wsgi", "not a module")
    ]
    for name in ("blog", "shop"):
        shutil.rmtree(disk.project.folder / name)
    disk.installed("blog", "shop", "shop.accounts", more="wsgi.py")
    importlib.invalidate_caches()
    in_image = [host_of(app, "blog", "shop.accounts", "shop") for app in ("shop", "shop.web", "wsgi")]

    assert in_checkout == ["shop.accounts", "shop.accounts", "blog", "blog"]
    assert in_image == in_checkout[:3]


def test_a_setting_may_name_any(disk: Disk) -> None:
    disk.installed("plugin", env_py=OLD)
    disk.here("blog")

    assert host_of("wsgi", "blog", "plugin", name="plugin") == "plugin"
    assert host_of("wsgi", "blog", "plugin", name="") == "blog"


# The warning of the others


def test_one_that_may_be_the_app_s_own_is_named_where_nothing_says_so(disk: Disk) -> None:
    """A module beside a package in an image, into which both were copied."""
    disk.copied("blog")
    disk.project.write(disk.site / "wsgi.py", "")

    assert host_of("wsgi", "blog") is None
    warning = warning_of("wsgi", "blog")
    assert warning == (
        f"{disk.site}/blog/migrations/env.py is not used, because it is installed, and blog is not known to belong to"
        " the app's own distribution. Set AMPHO_ENV_PACKAGE=blog if it should configure every run, or"
        f" AMPHO_ENV_PACKAGE= if no env.py should, or replace it with a copy of {shown_path(TEMPLATE)}."
    )


def test_one_sentence_names_them_all_until_a_setting_says_that_it_is_known(disk: Disk) -> None:
    disk.here("a", "b", "c", env_py=OLD)
    disk.installed("plugin")

    warning = warning_of("wsgi", "a", "b", "c", "plugin")
    assert warning is not None
    assert "/a/migrations/env.py (and 3 more) is not used, because it does not import ampho.environment. " in warning
    assert warning_of("wsgi", "a", "b", "c", "plugin", name="") is None
    disk.here("d")
    assert warning_of("wsgi", "a", "b", "d") is None  # which is the host


AS_AN_EARLIER_RELEASE = PRISTINE.replace("# ", "# Once: ").replace("\n", "\r\n")


@pytest.mark.parametrize(
    "env_py",
    [PRISTINE, AS_AN_EARLIER_RELEASE, OLD, ""],
    ids=["as db-init writes it", "with other comments", "of another kind", "none"],
)
def test_nothing_is_said_of_a_plug_in_that_loses_nothing(disk: Disk, env_py: str) -> None:
    disk.installed("plugin", env_py=env_py)
    disk.here("blog", env_py="")

    assert host_of("wsgi", "blog", "plugin") is None
    assert warning_of("wsgi", "blog", "plugin") is None


# A version table that is not found any more


DRIVERS = ("sqlite+pysqlite", "sqlite+aiosqlite", "postgresql+psycopg", "postgresql+asyncpg", "mariadb+pymysql")
MAKE = "op.create_table('things', sa.Column('id', sa.Integer, primary_key=True))"


@pytest.mark.drivers(*DRIVERS, "postgresql+psycopg_async", "mariadb+asyncmy")
def test_where_another_table_has_the_rows_nothing_runs_again(project: Project, database: Database) -> None:
    """As after the loss of the ``env.py`` that names it, whichever command is about to run."""
    project.package("core")
    project.revision("core", "core_1", upgrade=MAKE, downgrade="op.drop_table('things')")
    project.revision("core", "core_2", "core_1")
    env_py = project.write("core/migrations/env.py", EDITED)
    database.run("CREATE TABLE documents (version_num INTEGER)")
    database.run("INSERT INTO documents VALUES (1)")
    project.app(zigzag.framework_of(database), ["core"], database.url, path="wsgi.py", import_name="wsgi")
    with zigzag.app_in(project) as app:
        shop = zigzag.Shop(project, database, app)
        shop.run("db-up", "core_1")
        env_py.write_text(OLD, "utf-8")
        before = database.tables()

        for command in (["db-up"], ["db-up", "--plan"], ["db-up", "-s"], ["db-down"], ["db-up", "core_1"]):
            said = shop.run(*command, exit_code=1).stderr.splitlines()
            assert said[-1].startswith(
                "Error: The version table alembic_version has no rows, but the table changes contains revisions of"
                " this history: core_1."
            )
            assert 'version_table="changes"' in said[-1]
            assert "all revisions would run again" in said[-1]
        assert database.tables() == before
        assert database.rows("changes") == ["core_1"]
        env_py.write_text(EDITED, "utf-8")
        assert "Applied 1 revision" in shop.run("db-up").stdout


@pytest.mark.drivers("sqlite+pysqlite", "postgresql+asyncpg")
def test_a_version_table_that_gets_a_name_is_renamed_first(project: Project, database: Database) -> None:
    project.package("core")
    project.revision("core", "core_1", upgrade=MAKE)
    project.app(zigzag.framework_of(database), ["core"], database.url, path="wsgi.py", import_name="wsgi")
    with zigzag.app_in(project) as app:
        shop = zigzag.Shop(project, database, app)
        shop.run("db-up")
        project.write("core/migrations/env.py", EDITED)
        error = shop.run("db-up", exit_code=1).stderr
        assert (
            "version table changes has no rows, but the table alembic_version contains revisions of this history:"
            " core_1" in error
        )
        assert "changes" not in database.tables()

        database.run("ALTER TABLE alembic_version RENAME TO changes")
        assert "everything is applied" in shop.run("db-up").stdout


@pytest.mark.drivers("sqlite+pysqlite")
def test_a_copy_of_what_was_taken_back_may_be_kept(project: Project, database: Database) -> None:
    project.package("core")
    project.revision("core", "core_1", upgrade=MAKE, downgrade="op.drop_table('things')")
    project.app("flask", ["core"], database.url, path="wsgi.py", import_name="wsgi")
    with zigzag.app_in(project) as app:
        shop = zigzag.Shop(project, database, app)
        shop.run("db-up")
        database.run("CREATE TABLE kept AS SELECT * FROM alembic_version")
        shop.run("db-down", "base")
        assert "1 revision" in shop.run("db-up", "--plan").stdout
        assert "CREATE TABLE things" in shop.run("db-up", "--sql").stdout
        assert "Applied 1 revision" in shop.run("db-up").stdout


@pytest.mark.drivers("postgresql+psycopg")
def test_a_column_of_another_kind_has_no_version_rows(project: Project, database: Database) -> None:
    project.package("core")
    project.revision("core", "core_1", upgrade=MAKE)
    project.app("flask", ["core"], database.url, path="wsgi.py", import_name="wsgi")
    database.run("CREATE TABLE document (version_num TEXT[])", "INSERT INTO document VALUES ('{1}')")
    with zigzag.app_in(project) as app:
        assert "Applied 1 revision" in zigzag.Shop(project, database, app).run("db-up").stdout


@pytest.mark.drivers("sqlite+pysqlite")
def test_a_view_that_lost_its_table_does_not_matter(project: Project, database: Database) -> None:
    """SQLite can tell nothing of its columns."""
    project.package("shop")
    project.revision("shop", "shop_1", upgrade=MAKE)
    project.app("flask", ["shop"], database.url, path="wsgi.py", import_name="wsgi")
    database.run("CREATE TABLE old (version_num TEXT)", "CREATE VIEW kept AS SELECT * FROM old", "DROP TABLE old")
    with zigzag.app_in(project) as app:
        shop = zigzag.Shop(project, database, app)
        assert "1 revision" in shop.run("db-up", "--plan").stdout
        assert "Applied 1 revision" in shop.run("db-up").stdout


@pytest.mark.drivers("sqlite+pysqlite")
def test_version_tables_of_several_names_may_stand_side_by_side(project: Project, database: Database) -> None:
    """Those of tenants, for example, which have their tables by prefixes."""
    project.package("core")
    name = "context.get_x_argument(as_dictionary=True)['tenant']"
    project.revision(
        "core", "core_1", upgrade=f"from alembic import context; {MAKE.replace(chr(39) + 'things' + chr(39), name)}"
    )
    project.write("core/migrations/env.py", EDITED.replace('"changes"', f'"of_" + {name}'))
    project.app("flask", ["core"], database.url, path="wsgi.py", import_name="wsgi")
    with zigzag.app_in(project) as app:
        shop = zigzag.Shop(project, database, app)
        for tenant in ("ann", "bob"):
            assert "Applied 1 revision" in shop.run("db-up", "-x", f"tenant={tenant}").stdout
        assert database.rows("of_ann") == database.rows("of_bob") == ["core_1"]
        database.run("ALTER TABLE of_ann RENAME TO alembic_version")
        with app.app_context(), pytest.raises(VersionTableError) as caught:
            app.extensions["ampho"].upgrade(x=["tenant=carl"])
        assert caught.value.rows == ("core_1",)


# The whole


@pytest.mark.usefixtures("unmeasured")
@pytest.mark.drivers("sqlite+pysqlite", "sqlite+aiosqlite")
def test_an_app_that_is_installed_finds_what_it_applied_as_in_its_checkout(
    project: Project, database: Database
) -> None:
    project.package("shop")
    project.revision("shop", "shop_1", upgrade=MAKE)
    project.write("shop/migrations/env.py", EDITED)
    project.app(zigzag.framework_of(database), ["shop"], database.url, path="shop/web.py", import_name="shop.web")
    assert "Applied 1 revision" in project.run("ampho", "--app", "shop.web", "db-up").stdout
    site = project.folder / "venv" / "lib" / "site-packages"
    site.mkdir(parents=True)
    (project.folder / "shop").rename(site / "shop")
    (project.folder / "srv").mkdir()

    for command in ("db-current", "db-up"):
        env = {"PYTHONPATH": str(site), "AMPHO_APP": "shop.web:create_app"}
        result = project.run("ampho", command, env=env, cwd="srv")
        assert result.stderr == ""
        assert result.stdout in ("shop  shop_1 (head)\n", "Nothing to do: everything is applied.\n")
