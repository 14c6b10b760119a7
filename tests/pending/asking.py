"""Requests to an app in this process, in Flask or in Quart."""

from __future__ import annotations

import asyncio
import html
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from facade import Facade

BROWSER = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"
PATH = "/-/pending"


@dataclass(frozen=True)
class Reply:
    code: int
    headers: Mapping[str, str]
    text: str

    @property
    def json(self) -> Any:
        return json.loads(self.text)

    @property
    def words(self) -> str:
        """What a person reads on the page."""
        body = re.sub(r"(?s)<(style|script)\b.*?</\1>|<title>.*?</title>", " ", self.text)
        return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", body)).split())

    @property
    def token(self) -> str:
        found = re.search(r'name="token" value="([^"]+)"', self.text)
        return found[1] if found else ""

    @property
    def buttons(self) -> dict[str, str]:
        """What the buttons send, by their labels."""
        found = re.findall(r'<button[^>]* name="do" value="([^"]+)">([^<]+)<', self.text)
        return {label: value for value, label in found}


def ask(
    each: Facade,
    path: str = "/",
    *,
    method: str = "GET",
    headers: Mapping[str, str] | None = None,
    client: str = "127.0.0.1",
    form: Mapping[str, str] | None = None,
    accept: str = BROWSER,
    version: str = "1.1",
) -> Reply:
    """Send a request as a browser would; Host is localhost unless ``headers`` has another one."""
    sent = {"Host": "localhost", "Accept": accept, **(headers or {})}
    if not each.ampho.is_async:
        response = each.app.test_client(use_cookies=False).open(
            path,
            method=method,
            headers=sent,
            data=form,
            environ_overrides={"REMOTE_ADDR": client, "SERVER_PROTOCOL": f"HTTP/{version}"},
        )
        return Reply(response.status_code, response.headers, response.get_data(as_text=True))
    return asyncio.run(ask_async(each, path, method=method, headers=sent, client=client, form=form, version=version))


async def ask_async(
    each: Facade,
    path: str = "/",
    *,
    method: str = "GET",
    headers: Mapping[str, str],
    client: str = "127.0.0.1",
    form: Mapping[str, str] | None = None,
    version: str = "1.1",
) -> Reply:
    response = await each.app.test_client().open(
        path, method=method, headers=headers, form=form, scope_base={"client": (client, 1), "http_version": version}
    )
    text = await response.get_data(as_text=True)
    if each.app.background_tasks:
        await asyncio.gather(*each.app.background_tasks)
    return Reply(response.status_code, response.headers, text)


def watch_of(each: Facade) -> Any:
    """What the page of an app knows, once it has answered."""
    return each.app.extensions["ampho_pending"].__self__.watch


def press(each: Facade, label: str, page: Reply | None = None, **changes: Any) -> Reply:
    """Press a button of the page, as a browser would without JavaScript."""
    page = page or ask(each)
    form = {"token": page.token, "next": "/", "do": page.buttons.get(label, label), **changes.pop("form", {})}
    headers = {"Origin": "http://localhost", "Sec-Fetch-Site": "same-origin", **changes.pop("headers", {})}
    return ask(each, changes.pop("path", PATH), method="POST", headers=headers, form=form, **changes)
