"""What a worker process does: load the app once, and upgrade one database after the other."""

from __future__ import annotations

import time
from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from typing import TYPE_CHECKING

from ampho.cli.call import Loader, call_for, load
from ampho.cli.reporter import WarningsOnly
from ampho.commands import Commands
from ampho.errors import AmphoError, DatabasesError, LockTimeoutError, RevisionFailedError
from ampho.fleet.report import Ending, FleetOutcome
from ampho.settings import LOCK_TIMEOUT

if TYPE_CHECKING:
    from flask.sansio.app import App

    from ampho.fleet.driver import Turn
    from ampho.migrate.plan import Run


@dataclass
class Source:
    """Loads the app in the way in which the command line found it; in a new process, again."""

    loader: Loader

    def __getstate__(self) -> dict[str, object]:
        loader = copy(self.loader)
        for name in {"_app", "_loaded_app"} & vars(loader).keys():  # an app cannot be pickled
            setattr(loader, name, None)
        return {"loader": loader}


class MemberUpgrades:
    """Upgrades databases of groups, one after the other, for an app that is loaded and whose files are read only once.

    :param specifier: the target.
    :param phase: the phase to which the upgrades are limited.
    :param create: whether to create missing databases and schemas.
    """

    def __init__(self, source: Source, specifier: str, x: Sequence[str], *, phase: str | None, create: bool) -> None:
        from ampho.database.schema import KeptConnection
        from ampho.extension import SyncExtension, extension_of

        for module in ("environment", "migrate.alembic", "migrate.executor"):
            import_module(f"ampho.{module}")  # so that forks share the modules
        self._app = app = load(source.loader)
        self._upgrade = partial(
            Commands.upgrade, specifier=specifier, phase=phase, x=x, create=create, observer=WarningsOnly()
        )
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

        def upgrade(_: Commands) -> Run:
            kept.project().of(turn.member)  # so that the name is known without listing the group
            return self._upgrade(kept, database=name)

        try:
            run = call_for(self._app, upgrade)
        except AmphoError as exc:
            error = exc.errors.get(name, exc) if isinstance(exc, DatabasesError) else exc
            outcome, revision, done = FleetOutcome.FAILED, None, tuple[str, ...]()
            if isinstance(error, LockTimeoutError):
                outcome = FleetOutcome.LOCKED
            elif isinstance(error, RevisionFailedError):
                revision, done = error.revision, error.applied
            cause = str(error).removeprefix(f"{name}: ")
            return Ending(name, outcome, done, revision, cause, time.monotonic() - begin)
        applied = tuple(step.revision.id for step in run.steps)
        outcome = FleetOutcome.UPGRADED if applied else FleetOutcome.UP_TO_DATE
        return Ending(name, outcome, applied, duration=time.monotonic() - begin, held_back=run.plan.held_back)


def _commands(app: App, *, waits: bool) -> Commands:
    """Return the commands of an app with its project, which is only read once.

    :param waits: whether to wait for databases that another process is migrating.
    """

    def read(commands: Commands) -> Commands:
        commands.project().graph  # noqa: B018 (it is cached)
        commands.expects_steps = True  # the survey found that the databases are behind
        return commands

    given = {name: value for name, value in app.config.items() if name == LOCK_TIMEOUT.name}
    if not waits:
        app.config[LOCK_TIMEOUT.name] = 0
    try:
        return call_for(app, read)
    finally:
        app.config.pop(LOCK_TIMEOUT.name, None)
        app.config.update(given)
