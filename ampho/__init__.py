"""Django-style, per-package database migrations for Flask and Quart, on plain Alembic."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ampho.errors import AmphoError

if TYPE_CHECKING:
    from ampho.aio import AsyncAmpho, AsyncSQLAlchemy
    from ampho.aio.template import AsyncClone, AsyncTemplate
    from ampho.database.journal import Backfill, Entry, Outcome
    from ampho.database.statement import Statement
    from ampho.fleet.listing import Database
    from ampho.history.revision import Phase, Revision
    from ampho.migrate.observers import BackfillProgress, Observer
    from ampho.migrate.plan import Cause, Direction, InTransaction, Plan, Run, Step, StepRun
    from ampho.migrate.reflection import reflect
    from ampho.migrate.stamp import Stamped
    from ampho.migrate.template import Clone, Template
    from ampho.revise.adopt.adopt import Adopted
    from ampho.revise.adopt.parts import MovedFile, SplitRevision
    from ampho.revise.autogenerate.generate import Drift, Generated
    from ampho.revise.heads import HeadsCheck
    from ampho.revise.lint.report import LintReport, Violation
    from ampho.revise.squash.carried import Carried
    from ampho.revise.squash.prune import Pruned
    from ampho.revise.squash.squash import Squashed
    from ampho.revise.writer import Initialized
    from ampho.status.deployment import Deployment, Finding, Status
    from ampho.status.fleet import FleetStatus, MemberState, StateCount
    from ampho.status.graph_view import Edge, Lane, Node, Picture
    from ampho.status.state import CurrentState, Mark, MissingState, PackageState, RevisionRecord
    from ampho.status.summary import DatabaseStatus, PackageStatus, RevisionStatus
    from ampho.sync import Ampho

__version__ = "0.1.0"

__all__ = [
    "Adopted",
    "Ampho",
    "AmphoError",
    "AsyncAmpho",
    "AsyncClone",
    "AsyncSQLAlchemy",
    "AsyncTemplate",
    "Backfill",
    "BackfillProgress",
    "Carried",
    "Cause",
    "Clone",
    "CurrentState",
    "Database",
    "DatabaseStatus",
    "Deployment",
    "Direction",
    "Drift",
    "Edge",
    "Entry",
    "Finding",
    "FleetStatus",
    "Generated",
    "HeadsCheck",
    "InTransaction",
    "Initialized",
    "Lane",
    "LintReport",
    "Mark",
    "MemberState",
    "MissingState",
    "MovedFile",
    "Node",
    "Observer",
    "Outcome",
    "PackageState",
    "PackageStatus",
    "Phase",
    "Picture",
    "Plan",
    "Pruned",
    "Revision",
    "RevisionRecord",
    "RevisionStatus",
    "Run",
    "SplitRevision",
    "Squashed",
    "Stamped",
    "StateCount",
    "Statement",
    "Status",
    "Step",
    "StepRun",
    "Template",
    "Violation",
    "reflect",
]

_NAMES = {
    "aio": ("AsyncAmpho", "AsyncSQLAlchemy"),
    "aio.template": ("AsyncClone", "AsyncTemplate"),
    "database.journal": ("Backfill", "Entry", "Outcome"),
    "database.statement": ("Statement",),
    "fleet.listing": ("Database",),
    "history.revision": ("Phase", "Revision"),
    "migrate.observers": ("BackfillProgress", "Observer"),
    "migrate.plan": ("Cause", "Direction", "InTransaction", "Plan", "Run", "Step", "StepRun"),
    "migrate.reflection": ("reflect",),
    "migrate.stamp": ("Stamped",),
    "migrate.template": ("Clone", "Template"),
    "revise.autogenerate.generate": ("Drift", "Generated"),
    "revise.heads": ("HeadsCheck",),
    "revise.lint.report": ("LintReport", "Violation"),
    "revise.adopt.adopt": ("Adopted",),
    "revise.adopt.parts": ("MovedFile", "SplitRevision"),
    "revise.squash.carried": ("Carried",),
    "revise.squash.prune": ("Pruned",),
    "revise.squash.squash": ("Squashed",),
    "revise.writer": ("Initialized",),
    "status.deployment": ("Deployment", "Finding", "Status"),
    "status.fleet": ("FleetStatus", "MemberState", "StateCount"),
    "status.graph_view": ("Edge", "Lane", "Node", "Picture"),
    "status.state": ("CurrentState", "Mark", "MissingState", "PackageState", "RevisionRecord"),
    "status.summary": ("DatabaseStatus", "PackageStatus", "RevisionStatus"),
    "sync": ("Ampho",),
}
_MODULES = {name: module for module, names in _NAMES.items() for name in names}


def __getattr__(name: str) -> object:
    """Import a public name when it is first used, so that ``import ampho`` imports no framework."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    value: object = getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
