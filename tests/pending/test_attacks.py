"""Who may see the page, and who may press its buttons: nobody but the developer at this machine."""

from __future__ import annotations

import gc
import json
import os
import sys
import weakref
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
from facade import FRAMEWORKS, URLS, Facade, facade
from pending.asking import PATH, Reply, ask, press, watch_of
from project import Project

NAME = "core_1700000001"
BUTTON = "Apply 1 revision"


@pytest.fixture
def core(project: Project) -> Project:
    project.package("core")
    project.revision("core", NAME)
    return project


@pytest.fixture(params=FRAMEWORKS)
def each(request: pytest.FixtureRequest, core: Project) -> Iterator[Facade]:
    with facade(core, request.param, ["core"], URLS[request.param], DEBUG=True) as made:
        yield made


def is_applied(each: Facade) -> bool:
    return bool(each.call("current").packages[0].applied)


def test_the_developer_may(each: Facade) -> None:
    assert press(each, BUTTON).code == 303
    assert is_applied(each)


@pytest.mark.parametrize(
    "host", ["localhost:5000", "127.0.0.1", "127.8.8.8:80", "[::1]:5000", "shop.localhost", "LOCALHOST"]
)
def test_the_developer_may_use_any_name_of_this_machine(host: str, each: Facade) -> None:
    client = "::ffff:127.0.0.1" if host.startswith("[") else "127.0.0.1"
    page = ask(each, headers={"Host": host}, client=client)
    assert press(each, BUTTON, page, headers={"Host": host, "Origin": f"http://{host}"}, client=client).code == 303
    assert is_applied(each)


@pytest.mark.parametrize("label", [BUTTON, "Continue to the app anyway"])
@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"client": "192.168.1.5"}, "not come from this machine"),
        ({"client": ""}, "not come from this machine"),
        ({"headers": {"X-Forwarded-For": "127.0.0.1"}}, "through a proxy"),
        ({"headers": {"Forwarded": "for=127.0.0.1"}}, "through a proxy"),
        ({"headers": {"X-Forwarded-Proto": "http"}}, "through a proxy"),
        ({"headers": {"X-Real-IP": "127.0.0.1"}}, "through a proxy"),
        ({"headers": {"Via": "1.1 proxy"}}, "through a proxy"),
        ({"version": "1.0"}, "through a proxy"),  # as nginx does by default
        ({"headers": {"Fly-Client-IP": "1.2.3.4"}}, "through a proxy"),
        ({"headers": {"X-Original-Forwarded-For": "1.2.3.4"}}, "through a proxy"),
        ({"headers": {"Remote-Addr": "127.0.0.1"}, "client": "10.0.0.1"}, "not come from this machine"),
        ({"headers": {"Host": "evil.example", "Origin": "http://evil.example"}}, "not for this machine"),
        ({"headers": {"Host": "localhost.evil.example", "Origin": "http://localhost.evil.example"}}, "not for this"),
        ({"headers": {"Host": "8.8.8.8", "Origin": "http://8.8.8.8"}}, "not for this machine"),
        ({"headers": {"Origin": "http://evil.example"}}, "from another site"),
        ({"headers": {"Origin": "null"}}, "from another site"),
        ({"headers": {"Origin": "https://localhost"}}, "from another site"),
        ({"headers": {"Origin": "http://localhost:8000"}}, "from another site"),
        ({"headers": {"Origin": ""}}, "from another site"),
        ({"headers": {"Sec-Fetch-Site": "cross-site"}}, "from another site"),
        ({"headers": {"Sec-Fetch-Site": "same-site"}}, "from another site"),
        ({"form": {"token": ""}}, "another server process"),
        ({"form": {"token": "x" * 43}}, "another server process"),
        ({"form": {"token": "\N{SNOWMAN}"}}, "another server process"),
    ],
)
def test_everybody_else_is_refused(changes: dict[str, Any], why: str, label: str, each: Facade) -> None:
    page = ask(each)
    refused = press(each, label, page, **changes)
    assert refused.code == 403
    assert "Nothing was changed" in refused.words
    assert why in refused.words
    refused = press(each, page.buttons[label], page, **changes, accept="text/event-stream")
    assert refused.code == 403
    assert why in refused.json["error"]
    assert not is_applied(each)
    assert ask(each).code == 503


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE", "OPTIONS"])
def test_only_post_presses_a_button(method: str, each: Facade) -> None:
    page = ask(each)
    query = f"{PATH}?token={page.token}&do={page.buttons[BUTTON]}"
    refused = ask(each, query, method=method, headers={"Origin": "http://localhost"}, accept="application/json")
    assert refused.code == 405
    assert refused.headers["Allow"] == "POST"
    if method == "GET":  # of somebody who loads the page again after a run
        assert ask(each, query).headers["Location"] == "/"
    assert not is_applied(each)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"client": "192.168.1.5"}, True),  # such as the host of a container
        ({"headers": {"X-Forwarded-For": "127.0.0.1"}}, True),
        ({"headers": {"Host": "192.168.1.5:5000"}}, True),
        ({"headers": {"Host": "evil.example"}}, False),
        ({"headers": {"Host": "localhost.evil.example"}}, False),
    ],
)
def test_the_page_has_no_button_and_no_secret_for_others(changes: dict[str, Any], named: bool, each: Facade) -> None:
    token = ask(each).token
    page = ask(each, **changes)
    assert page.code == 503
    assert page.buttons == {}
    assert len(token) == 43
    assert token not in page.text
    assert (NAME in page.text) is named
    assert (NAME in ask(each, **changes, accept="application/json").text) is named
    assert "ampho db-" in page.words


def test_others_do_not_see_why_a_run_failed(each: Facade, core: Project) -> None:
    core.revision("core", "core_1700000002", NAME, upgrade="op.execute('SELECT secret FROM nowhere')")
    assert "no such table: nowhere" in press(each, "Apply 2 revisions").words
    for headers in ({"Host": "evil.example"}, {"Origin": "http://evil.example"}):
        for accept in ("text/html", "application/json"):
            assert "nowhere" not in ask(each, headers=headers, accept=accept).text


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "http://evil.example"},
        {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "cors"},
        {"Sec-Fetch-Site": "same-site", "Sec-Fetch-Mode": "no-cors"},
    ],
)
def test_a_script_of_another_site_reads_nothing_even_if_the_app_allows_it(
    headers: dict[str, str], each: Facade
) -> None:
    def allow_all(response: Any) -> Any:
        response.headers["Access-Control-Allow-Origin"] = "*"
        return response

    each.app.after_request(allow_all)
    for accept in ("text/html", "application/json"):
        page = ask(each, headers=headers, accept=accept)
        assert page.code == 503
        assert NAME not in page.text
        assert page.token == ""
    linked = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}
    assert BUTTON in ask(each, headers=linked).buttons


@pytest.mark.parametrize("path", ["/%5Cevil.example", "/%09/evil.example", "/a%3Fb=1", "/x%23y", "/gr%C3%B6%C3%9Fe"])
def test_the_path_to_go_on_to_stays_encoded(path: str, each: Facade) -> None:
    assert f'name="next" value="{path}"' in ask(each, path).text


def test_another_site_cannot_frame_or_read_the_page(each: Facade) -> None:
    page = ask(each)
    assert "frame-ancestors 'none'" in page.headers["Content-Security-Policy"]
    assert page.headers["X-Frame-Options"] == "DENY"
    assert "Access-Control-Allow-Origin" not in page.headers


def test_a_plan_that_was_not_on_the_page_does_not_run(each: Facade, core: Project) -> None:
    page = ask(each)
    core.revision("core", "core_1700000002", NAME)
    refused = press(each, BUTTON, page)
    assert refused.code == 503
    assert "changed after you confirmed it" in refused.words
    assert not is_applied(each)
    assert press(each, "0" * 32, page).code == 403
    assert press(each, BUTTON, page).code == 403  # the page has another plan now


@pytest.mark.parametrize("framework", FRAMEWORKS)
@pytest.mark.parametrize("config", [{}, {"AMPHO_PENDING_PAGE": False, "DEBUG": True}, {"DEBUG": True, "TESTING": True}])
def test_it_is_off_in_production_and_in_tests(framework: str, config: Mapping[str, object], core: Project) -> None:
    with facade(core, framework, ["core"], URLS[framework], **config) as made:
        hooks = len(made.app.before_request_funcs.get(None, []))
        assert hooks == (config.get("AMPHO_PENDING_PAGE") is not False)
        assert ask(made).code == 404
        assert ask(made, PATH).code == 404
        assert press(made, "ignore", Reply(503, {}, ""), headers={}).code == 404
        assert not made.app.before_request_funcs[None]  # not even a hook


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_without_debug_mode_the_page_has_no_button_and_no_names(framework: str, core: Project) -> None:
    with facade(core, framework, ["core"], URLS[framework], AMPHO_PENDING_PAGE=True) as made:
        page = ask(made)
        assert page.code == 503
        assert page.buttons == {}
        assert "token" not in page.text.partition("<script")[0]
        assert NAME not in page.text
        assert press(made, "ignore", page, form={"token": watch_of(made).token}).code == 403


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_debug_mode_may_be_turned_on_after_the_extension(framework: str, core: Project) -> None:
    with facade(core, framework, ["core"], URLS[framework]) as made:
        made.app.debug = True
        assert ask(made).code == 503


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_an_extension_that_is_registered_twice_has_one_page(framework: str, core: Project) -> None:
    with facade(core, framework, ["core"], URLS[framework], DEBUG=True) as made:
        made.ampho.init_app(made.app)
        assert len(made.app.before_request_funcs[None]) == 1
        assert press(made, BUTTON).code == 303


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_an_app_with_the_page_is_not_kept(framework: str, core: Project) -> None:
    with facade(core, framework, ["core"], URLS[framework], DEBUG=True) as made:
        ask(made)
        app = weakref.ref(made.app)
    del made
    gc.collect()
    assert app() is None


def test_a_thread_that_cannot_start_is_not_waited_for(core: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(thread: object) -> None:
        raise RuntimeError("can't start new thread")

    with facade(core, "flask", ["core"], URLS["flask"], DEBUG=True, PROPAGATE_EXCEPTIONS=False) as made:
        page = ask(made)
        with monkeypatch.context() as patched:
            patched.setattr("threading.Thread.start", fail)
            assert press(made, BUTTON, page).code == 500
        assert press(made, BUTTON).code == 303


def test_a_token_belongs_to_one_process(each: Facade) -> None:
    page = ask(each)
    watch = watch_of(each)
    read, write = os.pipe()
    child = os.fork()
    if not child:
        os.write(write, watch.token.encode())
        os._exit(0)
    os.waitpid(child, 0)
    other = os.read(read, 100).decode()
    os.close(read)
    os.close(write)
    assert len(other) == 43
    assert other != page.token
    assert press(each, BUTTON, page, form={"token": other}).code == 403


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_production_imports_nothing_of_the_page(framework: str, core: Project) -> None:
    core.app(framework, ["core"], URLS[framework])
    core.write("ask.py", PRODUCTION)
    for debug, found in (("0", []), ("1", ["ampho.pending", "ampho.cli"])):
        done = core.run(sys.executable, "ask.py", framework, env={"FLASK_DEBUG": debug})
        modules = json.loads(done.stdout.splitlines()[-1])
        assert [name for name in ("ampho.pending", "ampho.cli") if name in modules] == found


PRODUCTION = """
import asyncio, json, sys
from app import app

if sys.argv[1] == "flask":
    print(app.test_client().get("/").status_code)
else:
    async def ask():
        print((await app.test_client().get("/")).status_code)
    asyncio.run(ask())
print(json.dumps([name for name in sys.modules if name.startswith("ampho")]))
"""
