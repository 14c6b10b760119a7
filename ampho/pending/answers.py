"""The answers of the pending page: HTML, JSON, and the events of a run."""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from jinja2 import Environment, FileSystemLoader, Template
from markupsafe import Markup
from werkzeug.urls import iri_to_uri

from ampho._text import counted, shown_path
from ampho.cli.graph.svg import as_svg
from ampho.cli.json import encode
from ampho.cli.show.migrate import notes, summary
from ampho.migrate.plan import Direction
from ampho.pending.guard import is_trusted, refusal
from ampho.status.deployment import Finding, Status

if TYPE_CHECKING:
    from werkzeug.sansio.request import Request

    from ampho.pending.report import Action, Report
    from ampho.pending.watch import Watch
    from ampho.status.graph_view import Picture

PATH = "/-/pending"
"""Where the buttons send their requests."""

JSON, HTML, EVENTS = "application/json", "text/html", "text/event-stream"

COOKIE = "ampho_ignored"
"""The cookie with the key of the report that a browser ignores."""

DAY = 24 * 60 * 60
"""The lifetime of the cookie, in seconds."""

SHOWN_STEPS = 100
"""The maximum number of steps that the page lists."""

_HEADINGS = {
    Status.CORRUPT: "The version table is corrupt",
    Status.INTERRUPTED: "A revision is unfinished",
    Status.DIVERGED: "The database has diverged from the code",
    Status.AHEAD: "The database is ahead of the code",
}


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer, for either framework."""

    body: str
    code: int
    headers: Mapping[str, str]


def wants(request: Request) -> str:
    """Return the type of the answer that a client asks for; JSON, unless it prefers another one."""
    return request.accept_mimetypes.best_match([JSON, HTML, EVENTS]) or HTML


def pending(request: Request, watch: Watch, *, debug: bool) -> Answer:
    """Return the page, or the same as JSON."""
    report = watch.report
    is_detailed = is_trusted(request, debug=debug)
    if wants(request) != HTML:
        return _json(_as_json(report, is_running=watch.is_running, is_detailed=is_detailed), 503)
    nonce = secrets.token_urlsafe(16)
    why_not = refusal(request, debug=debug)
    root = _quoted(request.root_path.rstrip("/"))
    body = _template().render(
        report=report,
        heading=heading(report, is_detailed=is_detailed),
        error=watch.error if is_detailed else "",
        is_running=watch.is_running,
        is_detailed=is_detailed,
        debug=debug,
        findings=list(_findings(report)),
        counts=_counts(report),
        several=any(action.plan.is_of_several for action in report.actions) or len(report.deployments) > 1,
        pictures=[(name, _svg(picture, nonce)) for name, picture in report.pictures.items()],
        actions=[_Shown.of(action) for action in report.actions if action.plan.steps],
        commands=_commands(report, is_detailed=is_detailed),
        why_not=why_not,
        token="" if why_not else watch.token,
        press=f"{root}{PATH}",
        next=_here(request, root),
        nonce=nonce,
    )
    return Answer(body, 503, _headers(nonce))


def _here(request: Request, root: str) -> str:
    """Return the path to which the browser goes after a run."""
    if request.method not in ("GET", "HEAD") or request.path == PATH:
        return f"{root}/"
    query = request.query_string.decode("latin-1")
    return f"{root}{_quoted(request.path)}{f'?{query}' if query else ''}"


def _quoted(path: str) -> str:
    return quote(path, safe="/!$&'()*+,;=:@~-._")


def refused(request: Request, why: str) -> Answer:
    """Return the answer to a button that does nothing."""
    if wants(request) == HTML:
        nonce = secrets.token_urlsafe(16)
        return Answer(_template("refused.html").render(why=why, nonce=nonce), 403, _headers(nonce))
    return _json({"error": why}, 403)


def not_pressed(request: Request) -> Answer:
    """Return the answer to a request to the path of the buttons that is not a POST."""
    if request.method in ("GET", "HEAD") and wants(request) == HTML:  # the user reloaded the page after a run
        return redirect_to(f"{_quoted(request.root_path.rstrip('/'))}/")
    answer = _json({"error": "Only POST is allowed here."}, 405)
    return Answer(answer.body, answer.code, {**answer.headers, "Allow": "POST"})


def redirect_to(to: str, *, ignoring: str = "") -> Answer:
    """Return the answer that leads to a page of the app.

    :param ignoring: the key of a report that this browser ignores from now on.
    """
    headers = {"Location": _local(to), "Cache-Control": "no-store"}
    if ignoring:
        headers["Set-Cookie"] = f"{COOKIE}={ignoring}; Path=/; Max-Age={DAY}; HttpOnly; SameSite=Strict"
    return Answer("", 303, headers)


def stream_headers() -> dict[str, str]:
    """Return the headers of a stream of events."""
    return {"Content-Type": EVENTS, "Cache-Control": "no-store", "X-Accel-Buffering": "no"}


def event(name: str, **data: object) -> str:
    """Return an event of a stream."""
    return f"event: {name}\ndata: {json.dumps(data)}\n\n"


def heading(report: Report, *, is_detailed: bool = True) -> str:
    """Return a few words on what is wrong."""
    status = report.status
    if status is not None and status in _HEADINGS:
        return _HEADINGS[status]
    pending = report.counts.get(Status.BEHIND.value, 0)
    if not pending:
        groups = report.behind_groups
        if groups and is_detailed:
            return f"Databases of {' and '.join(groups)} are behind the code"
        return "Databases are behind the code" if groups else "The migrations cannot be read"
    return f"{counted(pending)} {'is' if pending == 1 else 'are'} pending"


@dataclass(frozen=True, slots=True)
class _Shown:
    """An action, ready for the template."""

    action: Action
    title: str
    summary: Sequence[str]
    steps: Sequence[tuple[int, Any, str, Sequence[str]]]
    more: int

    @classmethod
    def of(cls, action: Action) -> _Shown:
        plan = action.plan
        is_upgrade = plan.direction is Direction.UPGRADE
        title = "What will be applied" if is_upgrade else "Revisions from another branch"
        lines = summary(plan)
        if not is_upgrade:
            lines = [*_about_sources(len(plan.steps)), *lines]
        steps = [
            (
                number,
                step,
                "" if step.revision.source else shown_path(step.revision.file),
                [text for text, _ in notes(step) if text != f"of {step.revision.package}"],
            )
            for number, step in enumerate(plan.steps[:SHOWN_STEPS], 1)
        ]
        return cls(action, title, lines, steps, len(plan.steps) - len(steps))


def _about_sources(number: int) -> list[str]:
    """Return sentences on missing revisions whose sources the journal has."""
    if number == 1:
        return [
            "The database has a revision without a file, which another branch of the code may have applied.",
            "Its source is in the journal, so it can be reverted here. Read the source first.",
        ]
    return [
        f"The database has {number} revisions without files, which another branch of the code may have applied.",
        "Their sources are in the journal, so they can be reverted here. Read the sources first.",
    ]


def _findings(report: Report) -> list[tuple[str, Finding]]:
    """Return the findings that no plan on the page explains, each with its database."""
    has_plan = any(action.plan.direction is Direction.UPGRADE and action.plan.steps for action in report.actions)
    return [
        (name, finding if finding.status is not Status.BEHIND else replace(finding, means="pending"))
        for name, deployment in report.deployments.items()
        for finding in deployment.findings
        if not finding.is_harmless and not (finding.status is Status.BEHIND and has_plan)
    ]


def _commands(report: Report, *, is_detailed: bool) -> list[str]:
    """Return what to type."""
    if not is_detailed:
        return ["ampho db-up" if report.status is Status.BEHIND and report.deployments else "ampho db-status"]
    return [action.command for action in report.actions if action.plan.steps]


def _counts(report: Report) -> list[tuple[str, str, str]]:
    """Return the name of each group, how many of its databases are in which state, and the command for them."""
    rows = []
    for name, found in report.behind_groups.items():
        numbers: dict[str, int] = {}
        for count in found.counts:
            numbers[count.status.value] = numbers.get(count.status.value, 0) + count.number
        states = ", ".join(f"{number} {status}" for status, number in numbers.items())
        rows.append((name, f"{states} (of {found.total})", f"ampho db-up --database {name}"))
    return rows


def _as_json(report: Report, *, is_running: bool, is_detailed: bool) -> dict[str, object]:
    answer: dict[str, object] = {
        "error": heading(report, is_detailed=is_detailed),
        "status": "running" if is_running else report.status.value if report.status else "error",
        "counts": dict(report.counts),
        "remedies": _commands(report, is_detailed=is_detailed),
    }
    if is_detailed:
        answer["problems"] = list(report.problems)
        answer["databases"] = {name: encode(each) for name, each in report.deployments.items()}
        answer["groups"] = {name: encode(each) for name, each in report.behind_groups.items()}
        answer["plans"] = [encode(action.plan) for action in report.actions]
    return answer


def _json(content: Mapping[str, object], code: int) -> Answer:
    return Answer(json.dumps(content), code, {"Content-Type": JSON, **_ALWAYS})


_ALWAYS = {
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}


def _headers(nonce: str) -> dict[str, str]:
    rules = [
        "default-src 'none'",
        f"script-src 'nonce-{nonce}'",
        f"style-src 'nonce-{nonce}'",
        "connect-src 'self'",
        "img-src data:",
        "form-action 'self'",
        "base-uri 'none'",
        "frame-ancestors 'none'",
    ]
    return {"Content-Type": f"{HTML}; charset=utf-8", "Content-Security-Policy": "; ".join(rules), **_ALWAYS}


def _svg(picture: Picture, nonce: str) -> Markup:
    """Return a picture as SVG, whose strings are escaped already."""
    return Markup(as_svg(picture).replace("<style>", f'<style nonce="{nonce}">', 1))  # noqa: S704 (made by ElementTree)


def _local(to: str) -> str:
    """Return a path of this site, as in a header; not one that a browser reads as another site."""
    is_local = to.startswith("/") and not to.startswith(("//", "/\\")) and to.isprintable()
    return iri_to_uri(to) if is_local else "/"


@cache
def _template(name: str = "pending.html") -> Template:
    folder = Path(__file__).parent / "templates"
    found = Environment(loader=FileSystemLoader(folder), autoescape=True, trim_blocks=True, lstrip_blocks=True)
    return found.get_template(name)
