"""What a worker process does: load the app once, and upgrade one database after the other."""

from __future__ import annotations

import time
from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING

from ampho.cli.call import Loader, call_for, load
from ampho.cli.reporter import WarningsOnly
from ampho.errors import AmphoError, DatabasesError, LockTimeoutError, RevisionFailedError
from ampho.fleet.report import Ending, FleetOutcome
from ampho.settings import LOCK_TIMEOUT

if TYPE_CHECKING:
    from flask.sansio.app import App

    from ampho.commands import Commands
    from ampho.fleet.driver import Turn


@dataclass
class Source:
    """Loads the app in the way in which the command line found it; in a new process, again."""

    loader: Loader

    def __getstate__(self) -> dict[str, object]:
        loader = copy(self.loader)
        for name in {"_app", "_loaded_app"} & vars(loader).keys():  # an app cannot be pickled
            setattr(loader, name, None)
        return {"loader": loader}


def upgrades(source: Source, specifier: str, x: Sequence[str], *, create: bool) -> MemberUpgrades:
    """Return a function that upgrades one database after the other; a worker process makes it once."""
    return MemberUpgrades(load(source.loader), specifier, x, create=create)


class MemberUpgrades:
    """Upgrades databases of groups for an app whose files are read only once."""

    def __init__(self, app: App, specifier: str, x: Sequence[str], *, create: bool) -> None:
        from ampho.database.schema import KeptConnection
        from ampho.extension import SyncExtension, extension_of

        for module in ("environment", "migrate.alembic", "migrate.executor"):
            import_module(f"ampho.{module}")  # so that forks share the modules
        self._app = app
        self._specifier = specifier
        self._x = x
        self._create = create
        self._commands = {False: _commands(app, waits=False)}
        extension = extension_of(app)
        if isinstance(extension, SyncExtension):  # on Quart, each command closes its connections
            extension.dispose(app)
            extension.kept = KeptConnection()

    def __call__(self, turn: Turn) -> Ending:
        """Upgrade a database, and return how that ended."""
        begin, name = time.monotonic(), turn.member.name
        if turn.waits not in self._commands:
            self._commands[turn.waits] = _commands(self._app, waits=turn.waits)
        kept = self._commands[turn.waits]

        def upgrade(_: Commands) -> tuple[str, ...]:
            kept.project().of(turn.member)  # so that the name is known without listing the group
            observer = WarningsOnly()
            run = kept.upgrade(self._specifier, database=name, x=self._x, observer=observer, create=self._create)
            return tuple(step.revision.id for step in run.steps)

        try:
            applied = call_for(self._app, upgrade)
        except AmphoError as exc:
            return _failed(name, exc, time.monotonic() - begin)
        outcome = FleetOutcome.UPGRADED if applied else FleetOutcome.UP_TO_DATE
        return Ending(name, outcome, applied, duration=time.monotonic() - begin)


def _failed(name: str, error: AmphoError, duration: float) -> Ending:
    if isinstance(error, DatabasesError):  # with one database, there is one error
        error = error.errors.get(name, error)
    outcome = FleetOutcome.LOCKED if isinstance(error, LockTimeoutError) else FleetOutcome.FAILED
    cause = str(error).removeprefix(f"{name}: ")
    if isinstance(error, RevisionFailedError):
        return Ending(name, outcome, error.applied, error.revision, cause, duration)
    return Ending(name, outcome, cause=cause, duration=duration)


def _commands(app: App, *, waits: bool) -> Commands:
    """Return the commands of an app with its project, which is only read once.

    :param waits: whether to wait for databases that another process is migrating.
    """

    def read(commands: Commands) -> Commands:
        commands.project().graph  # noqa: B018 (it is cached)
        commands.expects_steps = True  # the survey found that the databases are behind
        return commands

    given = dict(app.config)
    if not waits:
        app.config[LOCK_TIMEOUT.name] = 0
    try:
        return call_for(app, read)
    finally:
        app.config.pop(LOCK_TIMEOUT.name, None)
        app.config.update({name: value for name, value in given.items() if name == LOCK_TIMEOUT.name})
