"""The packages that own migrations: hostile names, where packages lie, and the setting that lists them."""

from __future__ import annotations

import ast
import os
import re
import sys
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from alembic.config import Config
from alembic.util.pyfiles import coerce_resource_to_filename
from project import Project

from ampho.errors import (
    AmphoError,
    ConfigurationError,
    MigrationsFolderError,
    PackageNameError,
    PackageNotFoundError,
)
from ampho.history.files import is_revision_file
from ampho.history.package import SETTING, MigrationPackage, configured_packages, find_package
from ampho.settings import PACKAGES


@pytest.fixture
def importable(project: Project, monkeypatch: pytest.MonkeyPatch) -> Iterator[Project]:
    """The throwaway project, importable, with no packages in the environment."""
    monkeypatch.delenv(SETTING, raising=False)
    with project.importing():
        yield project


HOSTILE_NAMES = {
    "a folder above": "../x",
    "an absolute folder": "/etc",
    "empty": "",
    "a blank": " ",
    "two words": "a b",
    "a blank before": " app",
    "a newline after": "app\n",
    "a NUL": "é\0",
    "a NUL at the end": "app\0",
    "a quote": "a'b",
    "a double quote": 'a"b',
    "an option": "--sql",
    "a dash": "acme-billing",
    "a home": "~/app",
    "a folder": "acme/billing",
    "a backslash": "acme\\billing",
    "two dots": "acme..billing",
    "a dot first": ".billing",
    "a dot last": "acme.",
    "a digit first": "2fast",
    "not ASCII": "größe",
    "digits that are not ASCII": "a²",
    "a percent sign": "%(here)s",
    "a brace": "${x}",
    "an at sign": "app@head",
    "a plus sign": "app+1",
    "an escape sequence": "\x1b[31m",
    "300 characters": "a" * 300,
    "300 characters with dots": ".".join(["abcd"] * 60),
    "a keyword": "class",
    "a keyword inside": "acme.import",
    "None": "None",
    "head": "head",
    "heads": "heads",
    "base": "base",
}


@pytest.mark.parametrize("name", HOSTILE_NAMES.values(), ids=HOSTILE_NAMES)
def test_name_that_no_package_can_have_is_refused_before_anything_is_looked_for(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "meta_path", [])
    with pytest.raises(PackageNameError) as caught:
        find_package(name)
    assert caught.value.package == name
    assert str(caught.value).isprintable()
    assert str(caught.value).isascii()
    assert len(str(caught.value)) < 300


HOSTILE_FOLDERS = ["json:../..", "app:..", "app:.", "app:", "app:/etc", "app:a/../..", "app:a//b", "app:a/", "app:~"]
HOSTILE_FOLDERS += ["app:a b", "app:a\0", "app:a\n", "app:a\\b", "app:.hidden", "app:a:b", "app:%s", "app:größe"]
HOSTILE_FOLDERS += ["app:" + "a" * 300, "app:-x", "app:a'b"]


@pytest.mark.parametrize("entry", HOSTILE_FOLDERS, ids=ascii)
def test_folder_that_leads_outside_or_is_no_plain_path_is_refused(entry: str, importable: Project) -> None:
    importable.package("app")
    with pytest.raises(PackageNameError) as caught:
        find_package(entry)
    assert caught.value.package == entry.partition(":")[0]
    assert str(caught.value).isprintable()


def test_reserved_words_are_fine_inside_a_dotted_name(importable: Project) -> None:
    importable.package("acme.base")
    assert find_package("acme.base").name == "acme.base"


def test_package_is_found_with_its_folders(importable: Project) -> None:
    root = importable.package("acme.billing")
    package = find_package("acme.billing")
    assert (package.name, package.root, package.folder) == ("acme.billing", root, root / "migrations")
    assert package.versions == root / "migrations" / "versions"
    assert package.env_py == root / "migrations" / "env.py"
    assert package.entry == "acme.billing"
    assert package.location(package.folder / "alembic.ini") == "acme.billing:migrations/versions"
    assert not package.named
    assert not package.exists
    assert not package.installed


def test_entry_may_name_another_folder(importable: Project) -> None:
    root = importable.package("acme")
    (root / "db" / "alembic" / "versions").mkdir(parents=True)
    package = find_package("acme:db/alembic")
    assert package.folder == root / "db" / "alembic"
    assert package.entry == "acme:db/alembic"
    assert package.location(package.folder / "alembic.ini") == "acme:db/alembic/versions"
    assert package.named
    assert package.exists


def test_folder_with_revision_files_directly_inside_is_a_versions_folder(importable: Project) -> None:
    importable.package("app")
    importable.write("app/alembic/app_1.py", "revision = 'app_1'\ndown_revision = None\n")
    package = find_package("app:alembic")
    assert package.versions == package.folder
    assert package.location(package.folder / "alembic.ini") == "app:alembic"


def test_entry_may_say_that_folders_inside_count(importable: Project) -> None:
    root = importable.package("app")
    package = find_package("app:alembic/**")
    assert (package.folder, package.is_recursive, package.entry) == (root / "alembic", True, "app:alembic/**")
    assert not find_package("app:alembic").is_recursive
    for entry in ("app:**", "app:/**", "app:alembic/*", "app:alembic/**/more"):
        with pytest.raises(PackageNameError, match="does not name a folder inside app"):
            find_package(entry)


LISTED = {
    "nothing": ("", ["versions"]),
    "itself, as db-init writes it": (
        "path_separator = newline\nversion_locations =\n    blog:migrations/versions\n    app:migrations/versions\n",
        ["versions"],
    ),
    "others only": ("version_locations = blog:migrations/versions\n", ["versions"]),
    "two folders": (
        "path_separator = space\nversion_locations = %(here)s/versions/late %(here)s/versions\n",
        ["versions", "versions/late"],
    ),
    "without versions": (
        "path_separator = newline\nversion_locations =\n    %(here)s/one\n    # no/two\n    app:migrations/three\n",
        ["one", "three"],
    ),
    "with colons": ("path_separator = os\nversion_locations: %(here)s/one:%(here)s/versions\n", ["versions", "one"]),
    "elsewhere": ("path_separator = os\nversion_locations = %(here)s/../other:%(here)s/one/../two\n", ["two"]),
    "in a comment": ("# version_locations = %(here)s/one\n", ["versions"]),
}


@pytest.mark.filterwarnings("ignore:No path_separator found")
@pytest.mark.parametrize(("text", "folders"), LISTED.values(), ids=LISTED)
def test_folders_of_revision_files_are_those_that_alembic_ini_lists(
    importable: Project, text: str, folders: list[str]
) -> None:
    importable.package("app")
    importable.package("blog")
    ini = importable.write("app/migrations/alembic.ini", f"[alembic]\nscript_location = %(here)s\n{text}")
    for number, folder in enumerate(["versions", "versions/late", "one", "two", "three"]):
        importable.write(f"app/migrations/{folder}/file.py", f"revision = 'r{number}'\ndown_revision = None\n")
    package = find_package("app")
    locations = [*map(Path, package.layout[0])]
    assert [path.relative_to(package.folder).as_posix() for path in locations] == folders
    assert package.versions == locations[0]
    theirs = Config(str(ini)).get_version_locations_list() or [str(package.versions)]
    own = {Path(os.path.abspath(coerce_resource_to_filename(path))) for path in theirs}  # noqa: PTH100 (as above)
    if text != LISTED["others only"][0]:
        assert {path for path in own if path.is_relative_to(package.folder)} == set(locations)


def test_folder_with_a_space_and_a_percent_sign_lists_its_own(importable: Project) -> None:
    root = importable.package("app")
    folder = root / "my 50% migrations"
    importable.write(folder / "alembic.ini", "[alembic]\nversion_locations = %(here)s/one, app:my/%%/two\n")
    package = replace(find_package("app"), folder=folder)
    assert package.layout == ((str(folder / "one"),), False)


def test_folder_with_env_py_alone_keeps_its_versions_folder(importable: Project) -> None:
    importable.package("app")
    importable.write("app/migrations/env.py", "")
    importable.write("app/migrations/__init__.py", "")
    assert find_package("app").versions == importable.folder / "app" / "migrations" / "versions"


def test_versions_folder_wins_over_files_beside_it(importable: Project) -> None:
    importable.package("app")
    importable.write("app/migrations/helper.py", "")
    (importable.folder / "app/migrations/versions").mkdir()
    assert find_package("app").versions.name == "versions"


@pytest.mark.parametrize("name", ["a.py", "x-y.py", "1.py", ".a.py", "env2.py"])
def test_revision_files_are_what_alembic_would_load(name: str) -> None:
    assert is_revision_file(name)


@pytest.mark.parametrize("name", ["env.py", "__init__.py", ".#a.py", "a.pyc", "README", "a.py.orig", "py"])
def test_other_files_are_no_revision_files(name: str) -> None:
    assert not is_revision_file(name)


def test_package_that_is_not_there_is_an_error(importable: Project) -> None:
    importable.package("acme")
    for name in ("no_such_package", "acme.no_such", "no_such.acme", "json.no_such"):
        with pytest.raises(PackageNotFoundError, match=f"There is no package {name}") as caught:
            find_package(name)
        assert caught.value.package == name


def test_a_module_has_its_folder_beside_it(importable: Project) -> None:
    importable.package("acme")
    importable.write("acme/models.py", "raise RuntimeError\n")
    importable.write("alone.py", "raise RuntimeError\n")
    importable.write("space/deep.py", "raise RuntimeError\n")
    for name, folder in {"alone": ".", "acme.models": "acme", "space.deep": "space"}.items():
        package = find_package(name)
        assert (package.root, package.folder) == (importable.folder / folder, importable.folder / folder / "migrations")
        assert (package.is_module, package.entry, package.installed) == (True, name, False)
        assert package.file == importable.folder / folder / f"{name.rpartition('.')[2]}.py"
    assert find_package("alone:db/alembic").folder == importable.folder / "db" / "alembic"
    with pytest.raises(PackageNotFoundError, match=r"There is no package alone\.inside"):
        find_package("alone.inside")


def test_a_module_lists_its_folder_for_plain_alembic_by_the_path(importable: Project) -> None:
    importable.write("100%/alone.py", "")
    package = MigrationPackage("alone", importable.folder / "100%", importable.folder / "100%" / "m", is_module=True)
    assert package.location(package.folder / "alembic.ini") == "%(here)s/versions"
    assert package.location(importable.folder / "blog/migrations/alembic.ini") == "%(here)s/../../100%%/m/versions"


def test_an_installed_module_names_a_folder_of_its_own() -> None:
    with pytest.raises(PackageNotFoundError, match=r"Name a folder, as in colorsys:colorsys_migrations\."):
        find_package("colorsys")
    package = find_package("colorsys:colorsys_migrations")
    assert package.installed
    with pytest.raises(MigrationsFolderError, match="is installed in"):
        package.check_writable()


def test_two_modules_in_one_folder_name_a_folder(importable: Project) -> None:
    for name in ("blog", "shop"):
        importable.write(f"{name}.py", "")
    with pytest.raises(ConfigurationError, match=r"share the folder .*name another folder, as in shop:shop_migrations"):
        configured_packages(["blog", "shop"])
    found = configured_packages(["blog", "shop:shop_migrations"]).packages
    assert [package.folder.name for package in found] == ["migrations", "shop_migrations"]


def test_the_app_has_the_history_of_its_package_or_of_its_module(importable: Project) -> None:
    importable.package("acme")
    importable.write("acme/web.py", "")
    importable.write("alone.py", "")
    own = lambda name: [each.name for each in configured_packages(None, import_name=name).packages]  # noqa: E731
    assert (own("acme.web"), own("alone"), own("__main__")) == ([], [], [])
    for folder in ("migrations", "acme/migrations"):
        (importable.folder / folder).mkdir()
    assert (own("acme.web"), own("alone"), own("__main__")) == (["acme"], ["alone"], [])


@pytest.mark.parametrize("name", ["sys", "__main__"])
def test_a_module_without_a_file_is_an_error(name: str) -> None:
    with pytest.raises(PackageNotFoundError, match=f"{name} has no __init__.py, or is in an archive|There is no"):
        find_package(name)


def test_namespace_package_is_an_error_but_a_package_inside_of_it_is_none(importable: Project) -> None:
    importable.package("space.billing", namespace=True)
    with pytest.raises(PackageNotFoundError, match="space has no __init__"):
        find_package("space")
    assert find_package("space.billing").root == importable.folder / "space" / "billing"


def test_namespace_package_in_two_places_is_searched_in_both(
    importable: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    importable.package("space.one", namespace=True)
    other = Project(tmp_path / "other")
    other.package("space.two", namespace=True)
    monkeypatch.syspath_prepend(other.folder)
    assert find_package("space.one").root == importable.folder / "space" / "one"
    assert find_package("space.two").root == other.folder / "space" / "two"


def test_namespace_below_packages_that_are_not_imported_is_searched_without_importing_them(importable: Project) -> None:
    importable.package("corp.space.deep.billing", namespace=True)
    importable.package("firm.inner.space.billing", namespace=True)
    importable.write("firm/__init__.py", "raise RuntimeError('imported')\n")
    assert find_package("corp.space.deep.billing").root == importable.folder / "corp/space/deep/billing"
    assert find_package("firm.inner.space.billing").root == importable.folder / "firm/inner/space/billing"
    for name in ("corp.space", "corp.space.deep", "firm.inner"):
        with pytest.raises(PackageNotFoundError, match=f"{name} has no __init__"):
            find_package(name)
    with pytest.raises(PackageNotFoundError, match=r"There is no package firm\.inner\.no_such"):
        find_package("firm.inner.no_such")
    assert not {"corp", "firm"} & set(sys.modules)


@pytest.mark.parametrize("path", ["'a text'", "None", "3", "[1, None, 'nowhere']"])
def test_package_with_an_odd_path_has_nothing_in_it(importable: Project, path: str) -> None:
    root = importable.package("odd")
    importable.package("odd.inside")
    __import__("odd").__path__ = ast.literal_eval(path)
    try:
        assert find_package("odd").root == root
        with pytest.raises(PackageNotFoundError, match=r"There is no package odd\.inside"):
            find_package("odd.inside")
    finally:
        del sys.modules["odd"]


def test_finder_that_fails_is_named(importable: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    class Finder:
        @staticmethod
        def find_spec(*args: object) -> None:
            raise LookupError("no mapping")

    monkeypatch.setattr(sys, "meta_path", [*sys.meta_path, Finder])
    importable.package("there")
    assert find_package("there").name == "there"
    with pytest.raises(PackageNotFoundError, match=r"look for the package gone: LookupError: no mapping\. Fix"):
        find_package("gone")


@pytest.fixture
def strict(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[bool], Project]:
    """A project whose package ``app`` is installed editable in strict mode, with links of either kind."""

    def install(is_symbolic: bool) -> Project:
        source = Project(tmp_path / "source")
        source.package("app")
        source.revision("app", "app_1")
        tree = source.folder / "build" / "__editable__.app-1.0-py3-none-any" / "app"
        tree.mkdir(parents=True)
        if is_symbolic:
            (tree / "__init__.py").symlink_to(source.folder / "app" / "__init__.py")
        else:
            (tree / "__init__.py").hardlink_to(source.folder / "app" / "__init__.py")
        monkeypatch.syspath_prepend(tree.parent)
        return source

    return install


def test_strict_editable_package_is_that_of_its_source(strict: Callable[[bool], Project]) -> None:
    source = strict(True)
    package = find_package("app")
    package.check_writable()
    assert package.root == source.folder / "app"


def test_strict_editable_package_of_copies_is_not_written_to(strict: Callable[[bool], Project]) -> None:
    strict(False)
    package = find_package("app")
    with pytest.raises(
        MigrationsFolderError, match=r"strict editable mode, as copies in \S+, .* without editable_mode=strict\."
    ):
        package.check_writable()


def test_package_in_a_zip_file_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archive = tmp_path / "plugins.zip"
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("zipped/__init__.py", "")
        file.writestr("zipped/inner/__init__.py", "")
    monkeypatch.syspath_prepend(archive)
    for name in ("zipped", "zipped.inner"):
        with pytest.raises(PackageNotFoundError, match=f"{name} has no __init__.py, or is in an archive"):
            find_package(name)


def test_locating_a_package_runs_none_of_its_code_nor_of_the_packages_above_it(importable: Project) -> None:
    importable.package("acme.billing.invoices")
    importable.write("acme/__init__.py", "raise RuntimeError('imported')\n")
    importable.write("acme/billing/__init__.py", "raise RuntimeError('imported')\n")
    importable.write("acme/billing/invoices/__init__.py", "raise RuntimeError('imported')\n")
    assert find_package("acme.billing.invoices").root == importable.folder / "acme" / "billing" / "invoices"
    assert not [name for name in sys.modules if name.partition(".")[0] == "acme"]


def test_package_that_is_loaded_is_found_where_it_was_loaded_from(importable: Project) -> None:
    root = importable.package("loaded_one")
    __import__("loaded_one")
    sys.path.remove(str(importable.folder))
    try:
        assert find_package("loaded_one").root == root
    finally:
        sys.path.insert(0, str(importable.folder))


def test_package_that_extends_its_path_is_searched_there_once_it_is_loaded(importable: Project, tmp_path: Path) -> None:
    importable.package("wide", init=f"__path__.append({str(tmp_path / 'more')!r})\n")
    Project(tmp_path / "more").package("part")
    __import__("wide")
    assert find_package("wide.part").root == tmp_path / "more" / "part"


def test_package_in_site_packages_is_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for place in ("lib/python3.11/site-packages", "lib/python3/dist-packages"):
        site = Project(tmp_path / place)
        site.package(f"from_{site.folder.name.partition('-')[0]}")
        monkeypatch.syspath_prepend(site.folder)
    assert find_package("from_site").installed
    assert find_package("from_dist").installed
    assert find_package("flask").installed
    with pytest.raises(MigrationsFolderError, match="where Ampho does not write"):
        find_package("from_site").check_writable()


def test_folder_that_a_link_leads_out_of_the_package_is_refused(importable: Project, tmp_path: Path) -> None:
    root = importable.package("app")
    (tmp_path / "outside").mkdir()
    (root / "migrations").symlink_to(tmp_path / "outside")
    package = find_package("app")
    for check in (package.check_folder, package.check_writable, lambda: configured_packages(["app"])):
        with pytest.raises(MigrationsFolderError, match="leads outside the package") as caught:
            check()
        assert caught.value.path == root / "migrations"


def test_folder_that_a_link_leads_elsewhere_inside_the_package_is_fine(importable: Project) -> None:
    root = importable.package("app")
    (root / "real").mkdir()
    (root / "migrations").symlink_to("real")
    (package,) = configured_packages(["app"]).packages
    assert package.exists


def test_package_whose_own_folder_is_a_link_is_fine(importable: Project, tmp_path: Path) -> None:
    """As an editable install may have it."""
    Project(tmp_path / "elsewhere").package("linked")
    (importable.folder / "linked").symlink_to(tmp_path / "elsewhere" / "linked")
    package = find_package("linked")
    package.check_folder()
    package.check_writable()
    assert package.root == importable.folder / "linked"


def test_named_folder_that_is_missing_is_an_error_and_an_unnamed_one_is_not(importable: Project) -> None:
    importable.package("app")
    assert not configured_packages(["app"]).packages[0].exists
    (package,) = configured_packages(["app:alembic"]).packages
    with pytest.raises(MigrationsFolderError, match=r"names the folder \S+alembic for app, but that folder does"):
        package.check_present()


def read_setting(value: object) -> tuple[str, ...] | None:
    return PACKAGES.read({SETTING: value}, os.environ)


def names(value: object, *arguments: object) -> list[str]:
    return [package.entry for package in configured_packages(read_setting(value), *arguments).packages]  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("value", "entries"),
    [
        (["app", "acme.billing"], ("app", "acme.billing")),
        (("app",), ("app",)),
        ([], ()),
        ("app", ("app",)),
        ("app,acme.billing", ("app", "acme.billing")),
        (" app , acme.billing ", ("app", "acme.billing")),
        ("app,\n  acme.billing,\n", ("app", "acme.billing")),
        ("app,,blog", ("app", "", "blog")),
        ("acme:alembic,app", ("acme:alembic", "app")),
        (None, None),
        ("", None),
    ],
)
def test_setting_is_a_list_or_a_string_with_commas(value: object, entries: tuple[str, ...] | None) -> None:
    assert read_setting(value) == entries


@pytest.mark.parametrize("value", [1, True, b"app", {"app": 1}, {"app"}, ["app", 1], [None], range(2)], ids=repr)
def test_setting_of_another_type_is_an_error_that_shows_it(value: object) -> None:
    with pytest.raises(ConfigurationError, match=f"{SETTING} is {re.escape(ascii(value))}. Set it to a list") as caught:
        read_setting(value)
    assert caught.value.setting == SETTING


@pytest.mark.parametrize("value", [",", "app,,blog", ["app", ""], "app;blog"])
def test_empty_or_malformed_entry_is_an_error(value: object, importable: Project) -> None:
    importable.package("app")
    with pytest.raises(PackageNameError, match="is not the name of a package"):
        configured_packages(read_setting(value))


def test_configuration_comes_before_the_environment(importable: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    importable.package("app")
    importable.package("blog")
    monkeypatch.setenv(SETTING, "blog,app")
    assert names(None) == ["blog", "app"]
    assert names("") == ["blog", "app"]
    assert names(["app"]) == ["app"]
    assert names([]) == []


def test_environment_with_a_bad_name_says_so(importable: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(SETTING, "../x")
    with pytest.raises(PackageNameError, match=r"'\.\./x' is not the name"):
        configured_packages(read_setting(None))


def test_argument_and_added_packages_join_those_of_the_setting(importable: Project) -> None:
    for name in ("app", "blog", "acme.billing"):
        importable.package(name)
    assert names(["app"], ["blog", "app"], {"acme.billing": "", "blog": ""}) == ["app", "blog", "acme.billing"]
    assert names(None, ["blog"], {"app": ""}, "app") == ["blog", "app"]


def test_without_setting_the_apps_own_package_serves_if_it_has_migrations(importable: Project) -> None:
    importable.package("shop")
    importable.package("plugin")
    assert names(None, None, (), "shop") == []
    (importable.folder / "shop/migrations").mkdir()
    assert names(None, None, (), "shop") == ["shop"]
    assert names(None, None, (), "shop.web.app") == ["shop"], "the nearest package around the app's module"
    assert names(None, None, {"plugin": ""}, "shop") == ["shop", "plugin"]
    assert names([], None, (), "shop") == [], "an empty list says that there is none"


@pytest.mark.parametrize("import_name", ["__main__", "app", "no_such.module", "", "a b"])
def test_import_name_that_is_no_package_brings_none(import_name: str, importable: Project) -> None:
    importable.write("app.py", "raise RuntimeError\n")
    assert names(None, None, (), import_name) == []


def test_same_entry_twice_counts_once(importable: Project) -> None:
    importable.package("app")
    (importable.folder / "app/alembic").mkdir()
    assert names(["app", "app"], ["app"], {"app": ""}) == ["app"]
    assert names("app:alembic,app:alembic") == ["app:alembic"]


def test_one_package_with_two_folders_is_an_error(importable: Project) -> None:
    importable.package("app")
    (importable.folder / "app/alembic").mkdir()
    with pytest.raises(ConfigurationError, match="lists app twice, as app and app:alembic"):
        configured_packages(["app", "app:alembic"])


def test_two_packages_that_differ_in_case_only_are_an_error(importable: Project) -> None:
    importable.package("billing")
    importable.package("Billing")
    with pytest.raises(ConfigurationError, match="billing and Billing, which only differ in case"):
        configured_packages(["billing", "Billing"])


def test_two_packages_with_one_folder_are_an_error(importable: Project) -> None:
    importable.package("app")
    (importable.folder / "app/migrations").mkdir()
    (importable.folder / "same").symlink_to("app")
    with pytest.raises(ConfigurationError, match=r"app and same, which .* share a folder"):
        configured_packages(["app", "same"])


def test_no_hostile_entry_touches_the_disk_or_imports_anything(importable: Project) -> None:
    importable.package("app", init="raise RuntimeError\n")
    before, modules = importable.files(), set(sys.modules)
    for entry in [*HOSTILE_NAMES.values(), *HOSTILE_FOLDERS]:
        with pytest.raises(AmphoError):
            configured_packages(["app", entry])
    assert set(configured_packages(["app", "no_such"]).not_installed) == {"no_such"}
    assert importable.files() == before
    assert not {name for name in set(sys.modules) - modules if name.partition(".")[0] == "app"}
