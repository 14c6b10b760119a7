"""What ``--json`` prints: one object on standard output, as ``ampho/schema.json`` describes it.

A payload is a class of results, and has one encoder here and one definition there, both called by the key that the
object has it under. Every field is written out: what a class is given later is shown when it is described, and not
before.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from ampho._text import printable
from ampho.errors import AmphoError

if TYPE_CHECKING:
    from ampho.database.journal import Entry
    from ampho.history.revision import Revision
    from ampho.migrate.plan import Plan, Run, Step
    from ampho.migrate.stamp import Stamped
    from ampho.revise.autogenerate import Drift
    from ampho.revise.lint import LintReport
    from ampho.revise.writer import Initialized
    from ampho.status.deployment import Deployment
    from ampho.status.graph_view import Picture
    from ampho.status.state import CurrentState, MissingState, RevisionRecord
    from ampho.status.summary import DatabaseStatus

Command = TypeVar("Command", bound=Callable[..., object])
Object = dict[str, Any]

VERSION = 1
"""The version of the schema: a new field leaves it, and whatever else changes is a new one."""

SCHEMA = Path(__file__).parent.parent / "schema.json"
LONGEST_MESSAGE = 20_000
FLAG = "--json"

_ASKED = "ampho.json"
_STDOUT = "ampho.stdout"


def json_option(command: Command) -> Command:
    """Give a command the option ``--json``; what it prints then, it gives to :func:`print_json`."""
    text = "Print one JSON object; all else goes to standard error."
    return click.option(FLAG, is_flag=True, is_eager=True, expose_value=False, callback=_remember, help=text)(command)


def _remember(ctx: click.Context, param: click.Parameter, value: bool) -> None:
    if value:
        ask(ctx)


def ask(ctx: click.Context) -> None:
    """Let the command, and its errors, answer in JSON."""
    ctx.meta[_ASKED] = True


def is_asked(ctx: click.Context) -> bool:
    """Tell whether the answer shall be JSON."""
    return bool(ctx.meta.get(_ASKED))


@contextmanager
def keeping_stdout(ctx: click.Context) -> Iterator[None]:
    """Keep standard output for the object, where one is asked for: what else is printed goes to standard error."""
    if not is_asked(ctx):
        yield
        return
    ctx.meta[_STDOUT] = sys.stdout
    with redirect_stdout(sys.stderr):
        yield


def print_json(ctx: click.Context, payload: str, result: Any) -> bool:
    """Print a result as the one object, if that is asked for; return whether it is.

    :param payload: the name of its encoder, and the key that it stands under.
    """
    if is_asked(ctx):
        _print(ctx, ctx.info_name, {payload: _ENCODERS[payload](result)})
    return is_asked(ctx)


@contextmanager
def json_errors(ctx: click.Context) -> Iterator[None]:
    """Print what ends a command as the one object, too, where that is asked for; it goes on as it was."""
    try:
        yield
    except (click.ClickException, click.Abort) as exc:
        if is_asked(ctx):
            _print(ctx, ctx.invoked_subcommand, {"error": error(exc)})
        raise


def _print(ctx: click.Context, command: str | None, payload: Object) -> None:
    import json  # late: most commands print none

    text = json.dumps({"version": VERSION, "command": command, **payload})
    click.echo(text, file=ctx.meta.get(_STDOUT, sys.stdout))  # noqa: TID251 (JSON has its own escapes)


# ---- the encoders ----


def error(exc: click.ClickException | click.Abort) -> Object:
    """Encode what ended a command: beside its text, the attributes of an error of Ampho that it was made from."""
    cause = exc.__cause__ or exc
    known = vars(cause) if isinstance(cause, AmphoError) else {}
    message = exc.format_message() if isinstance(exc, click.ClickException) else "Aborted."
    return {
        "type": "UsageError" if isinstance(exc, click.UsageError) else type(cause).__name__,
        "message": printable(str(cause) if known else message, LONGEST_MESSAGE),
        "exit_code": getattr(exc, "exit_code", 1),
        "page": getattr(cause, "page", None),
        **{name: _plain(value) for name, value in known.items() if not name.startswith("_")},
    }


def _plain(value: object) -> object:
    if isinstance(value, Path):
        return _path(value)
    return list(value) if isinstance(value, tuple) else value


def _path(path: Path) -> str:
    return os.path.abspath(path)  # noqa: PTH100 (which is to be kept as it was found, links included)


def _time(moment: datetime | None) -> str | None:
    return None if moment is None else moment.isoformat()


def revision(made: Revision | None) -> Object | None:
    """Encode a revision that was written; None where there was nothing to write."""
    if made is None:
        return None
    return {
        "id": made.id,
        "package": made.package,
        "message": made.message,
        "path": _path(made.path),
        "down_revisions": list(made.down_revisions),
        "depends_on": list(made.depends_on),
        "labels": list(made.labels),
    }


def record(found: RevisionRecord) -> Object:
    """Encode a revision and its place in the graph."""
    return {
        "id": found.id,
        "package": found.package,
        "message": found.message,
        "doc": found.doc,
        "path": _path(found.path),
        "down_revisions": list(found.down_revisions),
        "depends_on": list(found.depends_on),
        "required_by": list(found.required_by),
        "labels": list(found.labels),
        "is_head": found.is_head,
    }


def revisions(records: Sequence[RevisionRecord]) -> list[Object]:
    """Encode revisions."""
    return [record(each) for each in records]


def heads(records: Sequence[RevisionRecord]) -> list[Object]:
    """Encode the heads of each package."""
    packages = dict.fromkeys(each.package for each in records)
    return [
        {"package": package, "revisions": revisions([each for each in records if each.package == package])}
        for package in packages
    ]


def current(state: CurrentState) -> Object:
    """Encode where a database is."""
    return {
        "packages": [
            {
                "package": each.package,
                "applied": revisions(each.applied),
                "pending": revisions(each.pending),
                "current": list(each.current),
                "is_up_to_date": each.is_up_to_date,
            }
            for each in state.packages
        ],
        "missing": [_missing(each) for each in state.missing],
        "uncertain": list(state.uncertain),
        "unknown": list(state.unknown),
        "corrupt": list(state.corrupt),
        "repeated": list(state.repeated),
        "unfinished": [entry(each) for each in state.unfinished],
        "diverged": list(state.diverged),
        "diverged_remedy": state.diverged_remedy or None,
        "edited": None if state.edited is None else list(state.edited),
        "edited_remedy": state.edited_remedy or None,
    }


def status(found: DatabaseStatus) -> Object:
    """Encode where a database is, in numbers."""
    return {
        "status": str(found.status),
        "exit_code": found.status.exit_code,
        "packages": [
            {
                "package": each.package or None,
                "applied": each.applied,
                "implied": each.implied,
                "pending": each.pending,
                "missing": each.missing,
                "heads": list(each.heads),
                "is_in_conflict": each.is_in_conflict,
                "is_empty": each.is_empty,
                "remedy": each.remedy or None,
                "last": each.last,
                "when": _time(each.when),
                "revisions": [
                    {
                        "id": one.id,
                        "message": one.message,
                        "mark": str(one.mark),
                        "is_head": one.is_head,
                        "when": _time(one.when),
                    }
                    for one in each.revisions
                ],
            }
            for each in found.packages
        ],
        "missing": [_missing(each) for each in found.missing],
        "uncertain": list(found.uncertain),
        "corrupt": list(found.corrupt),
        "repeated": list(found.repeated),
        "unfinished": [entry(each) for each in found.unfinished],
        "diverged": list(found.diverged),
        "diverged_remedy": found.diverged_remedy or None,
        "edited": list(found.edited),
        "edited_remedy": found.edited_remedy or None,
    }


def _missing(found: MissingState) -> Object:
    return {
        "package": found.package or None,
        "revisions": list(found.revisions),
        "is_ahead": found.is_ahead,
        "means": found.means,
    }


def entry(found: Entry) -> Object:
    """Encode an entry of the journal."""
    return {
        "number": found.number,
        "revision": found.revision,
        "package": found.package or None,
        "direction": str(found.direction),
        "outcome": str(found.outcome),
        "parents": list(found.parents),
        "started": _time(found.started),
        "finished": _time(found.finished),
        "duration": found.duration,
        "statements": found.statements,
        "checksum": found.checksum,
        "db_user": found.db_user,
        "host": found.host,
        "versions": found.versions,
        "error": found.error,
    }


def log(entries: Sequence[Entry]) -> list[Object]:
    """Encode what a journal tells."""
    return [entry(each) for each in entries]


def step(planned: Step) -> Object:
    """Encode a step of a plan; what is known of one before it runs, is in a plan that does not."""
    encoded: Object = {
        "revision": planned.revision.id,
        "package": planned.revision.package,
        "message": planned.revision.message,
        "path": _path(planned.revision.path),
        "direction": str(planned.direction),
    }
    if planned.cause is not None:
        encoded |= {
            "cause": str(planned.cause),
            "because_of": list(planned.because_of),
            "reason": planned.reason,
            "in_transaction": planned.in_transaction and str(planned.in_transaction),
            "losses": list(planned.losses),
        }
    return encoded


def plan(made: Plan) -> Object:
    """Encode a plan."""
    return {
        "specifier": made.specifier,
        "direction": str(made.direction),
        "packages": list(made.packages),
        "steps": [step(each) for each in made.steps],
        "rows": list(made.rows),
        "warning": made.warning or None,
        "along": list(made.along),
        "protected": made.protected or None,
    }


def run(done: Run) -> Object:
    """Encode what an upgrade or a downgrade did."""
    return {
        "plan": plan(done.plan),
        "steps": [{**step(each.step), "duration": each.duration} for each in done.steps],
        "duration": done.duration,
    }


def drifts(found: Sequence[Drift]) -> list[Object]:
    """Encode how models differ from a database."""
    return [{"package": each.package, "operations": list(each.operations)} for each in found]


def deployment(found: Deployment) -> Object:
    """Encode how a database stands to the code."""
    return {
        "status": str(found.status),
        "exit_code": found.status.exit_code,
        "findings": [
            {
                "status": str(each.status),
                "package": each.package or None,
                "revisions": list(each.revisions),
                "means": each.means,
                "is_harmless": each.is_harmless,
            }
            for each in found.findings
        ],
    }


def lint(report: LintReport) -> Object:
    """Encode what is dangerous in revisions."""
    return {
        "revisions": list(report.revisions),
        "violations": [
            {
                "revision": each.revision,
                "package": each.package,
                "path": _path(each.path),
                "rule": each.rule,
                "message": each.message,
                "help": each.help or None,
                "statement": each.statement or None,
            }
            for each in report.violations
        ],
        "has_squawk": report.has_squawk,
    }


def initialized(done: Initialized) -> Object:
    """Encode a migrations folder that was written."""
    return {
        "package": done.package.name,
        "folder": _path(done.package.folder),
        "files": [_path(each) for each in done.files],
        "updated": [_path(each) for each in done.updated],
        "hint": done.hint,
    }


def graph(drawn: Picture) -> Object:
    """Encode the history as a picture."""
    return {
        "lanes": [
            {
                "package": each.package or None,
                "counts": {str(mark): count for mark, count in each.counts.items()},
                "is_stub": each.is_stub,
            }
            for each in drawn.lanes
        ],
        "nodes": [
            {
                "package": each.package or None,
                "mark": str(each.mark),
                "revisions": list(each.revisions),
                "messages": list(each.messages),
                "rank": each.rank,
                "is_head": each.is_head,
                "is_stub": each.is_stub,
            }
            for each in drawn.nodes
        ],
        "edges": [
            {"source": each.source, "target": each.target, "is_dependency": each.is_dependency} for each in drawn.edges
        ],
        "corrupt": list(drawn.corrupt),
        "repeated": list(drawn.repeated),
    }


def stamped(done: Stamped) -> Object:
    """Encode what became of the version rows."""
    return {"before": list(done.before), "after": list(done.after), "recorded": list(done.recorded)}


_ENCODERS: Mapping[str, Callable[[Any], Any]] = {
    encoder.__name__: encoder
    for encoder in (
        *(current, deployment, drifts, graph, heads, initialized, lint, log),
        *(plan, revision, revisions, run, stamped, status),
    )
}
