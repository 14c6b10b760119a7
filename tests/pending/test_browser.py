"""The page in a real browser, in front of real servers."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from pending.serving import HOME, SERVERS, serving
from playwright.sync_api import Browser, Page, expect, sync_playwright
from project import Project
from servers import Database

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
PICTURES = os.environ.get("AMPHO_DRAW")
"""The folder into which the pictures of the documentation are written, if they are to be."""

SLOW = (
    "op.execute('WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 12000000)"
    " SELECT count(*) FROM n')"
)


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    if CHROMIUM is None:
        missing = pytest.fail if os.environ.get("AMPHO_REQUIRE_SERVERS") == "1" else pytest.skip
        missing("no Chromium is on the PATH")
    with sync_playwright() as playwright:
        arguments = ["--no-sandbox"] if os.geteuid() == 0 else []
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=arguments)
        yield browser
        browser.close()


@pytest.fixture
def page(chromium: Browser) -> Iterator[Page]:
    with closing(chromium.new_context()) as context:
        found = context.new_page()
        errors: list[object] = []

        def keep(error: object) -> None:
            errors.append(error)

        found.on("pageerror", keep)
        yield found
        assert not errors


@pytest.fixture(params=SERVERS)
def server(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def shop(project: Project, server: str, url: object = None, packages: tuple[str, ...] = ("core", "shop")) -> Project:
    """Write an app with two packages, of which one depends on the other."""
    framework = "flask" if server == "flask" else "quart"
    for package in ("core", "shop"):
        project.package(package)
    table = "op.create_table('{}', sa.Column('id', sa.Integer, primary_key=True), sa.Column('name', sa.String(50)))"
    project.revision("core", "core_1700000001", message="Create users", upgrade=table.format("users"))
    project.revision(
        "shop",
        "shop_1700000002",
        message="Create orders",
        depends_on="core_1700000001",
        upgrade=table.format("orders"),
    )
    project.revision(
        "shop",
        "shop_1700000003",
        "shop_1700000002",
        message="Drop the names of orders",
        upgrade="with op.batch_alter_table('orders') as batch:\n        batch.drop_column('name')",
    )
    address = url or {"flask": "sqlite:///app.db", "quart": "sqlite+aiosqlite:///app.db"}[framework]
    project.app(framework, packages, address, body=HOME.format("async " if framework == "quart" else ""))
    return project


def check_accessible(page: Page) -> None:
    found = Axe().run(page).response["violations"]
    assert [(each["id"], each["impact"]) for each in found if each["impact"] in ("serious", "critical")] == []


def test_the_button_applies_what_is_pending_and_the_app_comes_after(server: str, project: Project, page: Page) -> None:
    with serving(shop(project, server), server) as url:
        assert page.goto(url).status == 503  # type: ignore[union-attr]  # None only for about:blank
        expect(page).to_have_title("3 revisions are pending")
        expect(page.get_by_role("heading", level=1)).to_have_text("3 revisions are pending")
        steps = page.locator("ol.steps > li")
        expect(steps).to_have_count(3)
        expect(steps.nth(0)).to_contain_text("Create users")
        expect(steps.nth(2)).to_contain_text("may lose data: drops the column name")
        expect(page.get_by_text("May lose data: 1 revision")).to_be_visible()
        picture = page.get_by_role("img", name="The migration history")
        for name in ("core_1700000001", "shop_1700000002", "shop_1700000003"):
            expect(picture.locator("text", has_text=name)).to_be_visible()
        check_accessible(page)
        page.get_by_role("button", name="Apply 3 revisions").click()
        expect(page.get_by_role("heading", level=1)).to_have_text("Welcome to the shop")
        assert page.url == url


def test_a_keyboard_is_enough(project: Project, page: Page) -> None:
    with serving(shop(project, "flask"), "flask") as url:
        page.goto(url)
        for _ in range(10):
            page.keyboard.press("Tab")
            if page.evaluate("document.activeElement.textContent").startswith("Apply"):
                break
        outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
        assert outline == "solid"
        page.keyboard.press("Enter")
        expect(page.get_by_role("heading", level=1)).to_have_text("Welcome to the shop")


@pytest.mark.parametrize("server", ["flask", "hypercorn"])
def test_it_works_without_javascript(server: str, project: Project, chromium: Browser) -> None:
    shop(project, server)
    project.revision("shop", "shop_1700000004", "shop_1700000003", upgrade="op.execute('no sql')")
    with serving(project, server) as url, closing(chromium.new_context(java_script_enabled=False)) as context:
        page = context.new_page()
        page.goto(url)
        page.get_by_role("button", name="Apply 4 revisions").click()
        expect(page.get_by_role("alert")).to_contain_text("Revision shop_1700000004 of shop failed")
        next(project.folder.glob("shop/migrations/versions/shop_1700000004*")).unlink()
        expect(page.get_by_role("button", name="Apply 1 revision")).to_be_visible()
        page.goto(url)
        expect(page.get_by_role("heading", level=1)).to_have_text("Welcome to the shop")


@pytest.mark.parametrize("server", ["flask", "quart"])
def test_a_long_statement_and_a_failure_are_shown_while_it_runs(server: str, project: Project, page: Page) -> None:
    shop(project, server)
    project.revision("shop", "shop_1700000004", "shop_1700000003", message="Count", upgrade=SLOW)
    project.revision("shop", "shop_1700000005", "shop_1700000004", upgrade="op.execute('SELECT * FROM nowhere')")
    with serving(project, server) as url:
        page.goto(url)
        page.get_by_role("button", name="Apply 5 revisions").click()
        expect(page.locator("#run-title")).to_have_text("Running shop_1700000004 of shop", timeout=10_000)
        expect(page.locator("#statement code")).to_contain_text("WITH RECURSIVE", timeout=10_000)
        expect(page.locator("#log li").first).to_contain_text("core_1700000001 Create users")
        check_accessible(page)
        expect(page.locator("#run-title")).to_have_text("The run failed", timeout=60_000)
        expect(page.locator("#log li.bad")).to_contain_text(
            re.compile(r"shop_1700000005 of shop failed at .*shop_1700000005_by_hand\.py:\d+: .*no such table: nowhere")
        )
        check_accessible(page)
        next(project.folder.glob("shop/migrations/versions/shop_1700000005*")).unlink()
        page.get_by_role("button", name="Reload the page").click()
        expect(page.get_by_role("heading", level=1)).to_have_text("Welcome to the shop")


@pytest.mark.parametrize("server", ["flask", "quart"])
def test_two_databases(server: str, project: Project, page: Page) -> None:
    shop(project, server)
    driver = "sqlite+aiosqlite" if server == "quart" else "sqlite"
    project.app(
        server,
        ["core", "shop"],
        f"{driver}:///app.db",
        extra_config={
            "SQLALCHEMY_BINDS": {"orders": f"{driver}:///orders.db"},
            "AMPHO_DATABASES": {"default": ["core"], "orders": ["shop"]},
        },
        body=HOME.format("async " if server == "quart" else ""),
    )
    with serving(project, server) as url:
        page.goto(url)
        expect(page.get_by_role("heading", name="The history in default")).to_be_visible()
        expect(page.get_by_role("heading", name="The history in orders")).to_be_visible()
        check_accessible(page)
        page.get_by_role("button", name="Apply 3 revisions").click()
        expect(page.get_by_role("heading", level=1)).to_have_text("Welcome to the shop")


@pytest.mark.drivers("sqlite+pysqlite", "postgresql+asyncpg")
def test_a_revision_of_another_git_branch(project: Project, database: Database, page: Page) -> None:
    def git(*command: str) -> None:
        subprocess.run(["git", "-c", "user.name=a", "-c", "user.email=a@b", *command], cwd=project.folder, check=True)

    server = "quart" if database.is_async else "flask"
    shop(project, server, database.url)
    git("init", "-q", "-b", "main")
    git("add", ".")
    git("commit", "-qm", "main")
    git("checkout", "-q", "-b", "mine")
    project.revision(
        "core",
        "core_1700000009",
        "core_1700000001",
        message="Create mine",
        upgrade="op.create_table('mine', sa.Column('id', sa.Integer))",
        downgrade="op.drop_table('mine')",
    )
    git("add", ".")
    git("commit", "-qm", "mine")
    with serving(project, server) as url:
        page.goto(url)
        page.get_by_role("button", name="Apply 4 revisions").click()
        expect(page.get_by_role("heading", level=1)).to_have_text("Welcome to the shop")
        git("checkout", "-q", "main")
        project.revision("core", "core_1700000010", "core_1700000001", message="Create other")
        time.sleep(0.6)
        page.goto(url)
        expect(page.get_by_role("heading", level=1)).to_have_text("The database is ahead of the code")
        expect(page.locator("pre").first).to_contain_text("op.drop_table('mine')")
        check_accessible(page)
        page.get_by_role("button", name="Revert 1 revision").click()
        expect(page.get_by_role("heading", level=1)).to_have_text("1 revision is pending")
        page.get_by_role("button", name="Apply 1 revision").click()
        expect(page.get_by_role("heading", level=1)).to_have_text("Welcome to the shop")
        assert "mine" not in database.tables()


def test_pictures_of_all_sizes_and_colors(project: Project, chromium: Browser) -> None:
    """Nothing is wider than the window, and all text can be read."""
    folder = Path(PICTURES or project.folder)
    with serving(shop(project, "flask"), "flask") as url:
        for scheme in ("light", "dark"):
            for width in (1280, 390):
                with closing(
                    chromium.new_context(color_scheme=scheme, viewport={"width": width, "height": 800})  # type: ignore[arg-type]
                ) as context:
                    page = context.new_page()
                    page.goto(url)
                    assert page.evaluate("document.documentElement.scrollWidth") == width
                    check_accessible(page)
                    name = f"pending-{scheme}-{width}.png"
                    page.screenshot(path=folder / name, full_page=True)
                    assert (folder / name).stat().st_size > 10_000
