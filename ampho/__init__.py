"""Django-style, per-package database migrations for Flask and Quart, on plain Alembic."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ampho.errors import AmphoError

if TYPE_CHECKING:
    from ampho.aio import AsyncAmpho, AsyncSQLAlchemy
    from ampho.autogenerate import Drift
    from ampho.deploy import Deployment, Finding, Status
    from ampho.journal import Entry, Outcome
    from ampho.lint import LintReport, Violation
    from ampho.observer import Observer
    from ampho.picture import Edge, Lane, Node, Picture
    from ampho.plan import Cause, Direction, InTransaction, Plan, Step
    from ampho.run import Run, StepRun
    from ampho.stamp import Stamped
    from ampho.state import CurrentState, Mark, MissingState, PackageState, RevisionRecord
    from ampho.statement import Statement
    from ampho.status import DatabaseStatus, PackageStatus, RevisionStatus
    from ampho.sync import Ampho

__version__ = "0.1.0"

__all__ = [
    "Ampho",
    "AmphoError",
    "AsyncAmpho",
    "AsyncSQLAlchemy",
    "Cause",
    "CurrentState",
    "DatabaseStatus",
    "Deployment",
    "Direction",
    "Drift",
    "Edge",
    "Entry",
    "Finding",
    "InTransaction",
    "Lane",
    "LintReport",
    "Mark",
    "MissingState",
    "Node",
    "Observer",
    "Outcome",
    "PackageState",
    "PackageStatus",
    "Picture",
    "Plan",
    "RevisionRecord",
    "RevisionStatus",
    "Run",
    "Stamped",
    "Statement",
    "Status",
    "Step",
    "StepRun",
    "Violation",
]

_HOME = {
    "Ampho": "sync",
    "AsyncAmpho": "aio",
    "AsyncSQLAlchemy": "aio",
    "Cause": "plan",
    "CurrentState": "state",
    "DatabaseStatus": "status",
    "Deployment": "deploy",
    "Direction": "plan",
    "Drift": "autogenerate",
    "Edge": "picture",
    "Entry": "journal",
    "Finding": "deploy",
    "InTransaction": "plan",
    "Lane": "picture",
    "LintReport": "lint",
    "Mark": "state",
    "MissingState": "state",
    "Node": "picture",
    "Observer": "observer",
    "Outcome": "journal",
    "PackageState": "state",
    "PackageStatus": "status",
    "Picture": "picture",
    "Plan": "plan",
    "RevisionRecord": "state",
    "RevisionStatus": "status",
    "Run": "run",
    "Stamped": "stamp",
    "Statement": "statement",
    "Status": "deploy",
    "Step": "plan",
    "StepRun": "run",
    "Violation": "lint",
}


def __getattr__(name: str) -> object:
    """Load a public name on first use, so that ``import ampho`` imports no framework."""
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    value: object = getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
