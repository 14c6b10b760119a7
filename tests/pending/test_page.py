"""The page that answers in debug mode while a database does not match the code."""

from __future__ import annotations

import json
from typing import Any

import pytest
from facade import FRAMEWORKS, URLS, Facade, facade
from pending.asking import ask, press, watch_of
from project import Project
from servers import Database

from ampho.pending.feed import Feed

CHANGE = "op.create_table('things', sa.Column('id', sa.Integer, primary_key=True))"


@pytest.fixture
def core(project: Project) -> Project:
    project.package("core")
    project.revision(
        "core", "core_1700000001", message="Make things", upgrade=CHANGE, downgrade="op.drop_table('things')"
    )
    project.revision("core", "core_1700000002", "core_1700000001", message="Add <b>colors</b>")
    return project


def debugging(project: Project, framework: str, url: Any = None, packages: Any = ("core",), **config: object) -> Any:
    """An app in debug mode, with a view of its own."""
    return facade(project, framework, list(packages), url or URLS[framework], DEBUG=True, **config)


def with_view(each: Facade) -> Facade:
    if each.ampho.is_async:

        async def home() -> str:
            return "home"

        each.app.add_url_rule("/", "home", home)
    else:
        each.app.add_url_rule("/", "home", lambda: "home")
    return each


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_the_page_stands_in_front_of_the_app_until_its_button_applied_everything(framework: str, core: Project) -> None:
    with debugging(core, framework) as each:
        with_view(each)
        page = ask(each)
        assert page.code == 503
        assert "2 revisions are pending" in page.words
        assert "Make things" in page.words
        assert "core_1700000001 of core" in page.words
        assert "core/migrations/versions/core_1700000001" in page.words
        assert "or run ampho db-up" in page.words
        assert "Add <b>colors</b>" in page.words
        assert "<b>colors" not in page.text
        assert "<svg" in page.text
        assert page.headers["Cache-Control"] == "no-store"
        done = press(each, "Apply 2 revisions", page)
        assert (done.code, done.headers["Location"]) == (303, "/")
        assert ask(each).text == "home"
        assert len(each.call("log")) == 2


def test_the_page_tells_what_has_to_wait_in_production(core: Project) -> None:
    with debugging(core, "flask") as each:
        each.call("upgrade")
        core.revision("core", "core_1700000003", "core_1700000002", upgrade="op.drop_table('things')")
        page = ask(each)
        assert "phase post (inferred)" in page.words
        assert "core_1700000003 (post)" in page.text


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_clients_that_ask_for_json_get_it(framework: str, core: Project) -> None:
    with debugging(core, framework) as each:
        for accept in ("application/json", "*/*"):
            reply = ask(each, accept=accept)
            assert reply.code == 503
            assert reply.json["status"] == "behind"
            assert reply.json["counts"] == {"behind": 2}
            assert reply.json["remedies"] == ["ampho db-up"]
            assert [step["revision"] for step in reply.json["plans"][0]["steps"]] == [
                "core_1700000001",
                "core_1700000002",
            ]
            assert reply.json["databases"]["default"]["exit_code"] == 10


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_a_failing_revision_is_shown_with_its_file_and_line(framework: str, core: Project) -> None:
    core.revision("core", "core_1700000003", "core_1700000002", upgrade="op.execute('SELECT * FROM nowhere')")
    with debugging(core, framework) as each:
        page = press(each, "Apply 3 revisions")
        assert page.code == 503
        assert "The last run failed" in page.words
        assert "core_1700000003" in page.words
        assert "no such table: nowhere" in page.words
        assert ".py:" in page.words or "line" in page.words
        assert "Apply 1 revision" in page.buttons  # the first two are applied
        assert "no such table: nowhere" in ask(each).words  # also after it is loaded again
        file = next(core.folder.glob("core/migrations/versions/core_1700000003*"))
        file.write_text(file.read_text().replace("nowhere", "things"))
        assert "the file of core_1700000003 changed" in press(each, "Apply 1 revision").words.replace("\n", " ")
        assert press(each, "Apply 1 revision").code == 303
        assert ask(each).code == 404  # the app has no view


def test_a_revision_that_fails_halfway(core: Project, database: Database) -> None:
    """On MariaDB, it cannot be rolled back, and is unfinished."""
    change = "op.create_table('more', sa.Column('id', sa.Integer))\nop.execute('SELECT * FROM nowhere')"
    core.revision("core", "core_1700000003", "core_1700000002", upgrade=change)
    with debugging(core, FRAMEWORKS[database.is_async], database.url) as each:
        page = press(each, "Apply 3 revisions")
        assert "Revision core_1700000003 of core failed at core/migrations/versions/core_1700000003" in page.words
        if database.backend == "mariadb":
            assert "A revision is unfinished" in page.words
            assert "ampho db-resolve core_1700000003" in page.words
            assert list(page.buttons) == ["Continue to the app anyway"]
        else:
            assert "1 revision is pending" in page.words
            assert "Apply 1 revision" in page.buttons
            assert "more" not in database.tables()


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_the_events_of_a_run_reach_the_browser_one_by_one(framework: str, core: Project) -> None:
    core.revision("core", "core_1700000003", "core_1700000002", upgrade="raise RuntimeError('stop')")
    with debugging(core, framework) as each:
        stream = press(each, "Apply 3 revisions", accept="text/event-stream")
        assert stream.headers["Content-Type"].startswith("text/event-stream")
        events = [dict(line.split(": ", 1) for line in each.splitlines()) for each in stream.text.split("\n\n") if each]
        assert [each["event"] for each in events if "event" in each] == [
            "planned",
            "started",
            "applied",
            "started",
            "applied",
            "started",
            "failed",
        ]
        assert json.loads(events[0]["data"]) == {"total": 3}
        assert json.loads(events[2]["data"])["revision"] == "core_1700000001"
        assert "stop" in json.loads(events[-1]["data"])["text"]


@pytest.mark.drivers("sqlite")
@pytest.mark.parametrize(
    ("statement", "words", "buttons"),
    [
        ("UPDATE ampho_journal SET outcome = 'partial' WHERE id = 2", "A revision is unfinished", False),
        ("UPDATE alembic_version SET version_num = 'head'", "The version table is corrupt", False),
        ("UPDATE alembic_version SET version_num = 'core_1700000003'", "ahead of the code", False),
        ("UPDATE alembic_version SET version_num = 'core_1700000001'", "1 revision is pending", True),
        ("UPDATE ampho_journal SET checksum = 'other'", "", False),
        ("INSERT INTO alembic_version VALUES ('gone_1700000003')", "", False),
    ],
)
def test_what_is_a_reason_for_the_page(
    statement: str, words: str, buttons: bool, core: Project, database: Database
) -> None:
    with debugging(core, FRAMEWORKS[database.is_async], database.url) as each:
        with_view(each)
        each.call("upgrade")
        database.run(statement)
        page = ask(each)
        if not words:
            assert page.text == "home"
            return
        assert words in page.words
        assert ("Apply 1 revision" in page.buttons) is buttons
        assert "ampho db-" in page.words


@pytest.mark.drivers("sqlite")
@pytest.mark.parametrize(
    "statement",
    ["UPDATE ampho_journal SET checksum = 'other'", "INSERT INTO alembic_version VALUES ('gone_1700000003')"],
)
def test_what_is_no_reason_hides_no_reason(statement: str, core: Project, database: Database) -> None:
    with debugging(core, FRAMEWORKS[database.is_async], database.url) as each:
        each.call("upgrade")
        database.run(statement)
        core.revision("core", "core_1700000003", "core_1700000002")
        page = ask(each)
        assert "1 revision is pending The database does not match the code" in page.words
        assert ask(each, accept="application/json").json["status"] == "behind"


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_a_revision_that_was_inserted_later_is_a_reason_for_the_page(framework: str, core: Project) -> None:
    with debugging(core, framework) as each:
        each.call("upgrade")
        next(core.folder.glob("core/migrations/versions/core_1700000002*")).unlink()
        core.revision("core", "core_1700000001b", "core_1700000001")
        core.revision("core", "core_1700000002", "core_1700000001b")
        page = ask(each)
        assert "The database has diverged from the code" in page.words
        assert "no record says that it ran" in page.words


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_the_app_can_be_used_nevertheless_until_something_else_differs(framework: str, core: Project) -> None:
    with debugging(core, framework) as each:
        with_view(each)
        page = ask(each)
        ignored = press(each, "Continue to the app anyway", page)
        assert ignored.code == 303
        cookie = ignored.headers["Set-Cookie"]
        assert cookie.endswith("; HttpOnly; SameSite=Strict")
        headers = {"Cookie": cookie.partition(";")[0]}
        assert ask(each, headers=headers).text == "home"
        assert ask(each).code == 503  # of another browser
        core.revision("core", "core_1700000003", "core_1700000002")
        assert "3 revisions are pending" in ask(each, headers=headers).words
        refused = press(each, "Continue to the app anyway", page)  # of a page that shows something else
        assert (refused.code, "out of date" in refused.words) == (403, True)


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_a_history_that_cannot_be_read_is_explained(framework: str, core: Project) -> None:
    core.write("core/migrations/versions/core_1700000003_x.py", "revision = 'core_1700000003'\ndef (")
    with debugging(core, framework) as each:
        page = ask(each)
        assert page.code == 503
        assert "The migrations cannot be read" in page.words
        assert "core_1700000003_x.py" in page.words
        assert ask(each, accept="application/json").json["status"] == "error"


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_a_database_that_cannot_be_reached_is_left_to_the_app(
    framework: str, core: Project, caplog: pytest.LogCaptureFixture
) -> None:
    driver = "asyncpg" if framework == "quart" else "psycopg"
    with debugging(core, framework, f"postgresql+{driver}://ann:s3cret@127.0.0.1:1/shop") as each:
        with_view(each)
        assert ask(each).text == "home"
        assert "cannot look at the database" in caplog.text
        assert "s3cret" not in caplog.text


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_static_files_and_probes_are_answered_by_the_app(framework: str, core: Project) -> None:
    with debugging(core, framework, AMPHO_READINESS_PATH="/-/ready") as each:
        with_view(each)
        assert ask(each, "/static/none.txt").code == 404
        assert ask(each, "/-/ready").json == {"ready": False, "status": "behind", "counts": {"behind": 2}}
        assert ask(each, method="OPTIONS").code == 200
        assert ask(each).code == 503


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_the_page_comes_before_the_hooks_of_the_app(framework: str, core: Project) -> None:
    with debugging(core, framework) as each:

        def fails() -> None:
            raise RuntimeError("no such column")

        each.app.before_request(fails)
        assert ask(each).code == 503


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_a_page_of_the_app_comes_after_it_and_no_other_site(framework: str, core: Project) -> None:
    with debugging(core, framework) as each:
        page = ask(each, "/basket?full=1")
        assert 'name="next" value="/basket?full=1"' in page.text
        assert 'name="next" value="/"' in ask(each, "/basket", method="POST", form={"a": "1"}).text
        for to, leads in {
            "//evil.example/": "/",
            "/\\evil.example": "/",
            "https://evil.example": "/",
            "/a?b=1": "/a?b=1",
            "/größe/你": "/gr%C3%B6%C3%9Fe/%E4%BD%A0",
            "/a\r\nSet-Cookie: a=b": "/",
        }.items():
            reply = press(each, "Continue to the app anyway", page, form={"next": to})
            assert reply.headers["Location"] == leads


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_a_fault_of_something_else_is_logged_and_the_app_answers(
    framework: str, core: Project, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*arguments: object, **options: object) -> None:
        raise RuntimeError("a fault of something else")

    with debugging(core, framework) as each:
        with_view(each)
        page = ask(each)
        call, each.ampho.call = each.ampho.call, fail
        assert "Unexpected error: RuntimeError. See the server's log." in press(each, "Apply 2 revisions", page).words
        assert "a fault of something else" in caplog.text
        watch_of(each).forget()
        caplog.clear()
        assert ask(each).text == "home"
        assert ask(each).text == "home"
        assert "a fault of something else" not in caplog.text  # which was logged before
        each.ampho.call = call


def test_what_a_run_waits_for_is_sent() -> None:
    sent: list[str | None] = []
    feed = Feed(sent.append)
    feed.waiting("pid 7")
    feed.waiting("")
    feed.warned("careful")
    feed.ended(None)
    assert [line and json.loads(line.split("data: ")[1]).get("text") for line in sent] == [
        "Waiting for another process that is migrating the database: pid 7",
        "Waiting for another process that is migrating the database",
        "careful",
        None,
        None,
    ]
    assert feed.pulse().startswith(":")
