"""Every error that Ampho raises on purpose, and nothing else.

::

    AmphoError
    ├── ConfigurationError          a setting, an argument, or the app itself
    │   ├── AppNotFoundError        the command line found no app, or could not load it
    │   ├── DriverError             a sync URL for AsyncAmpho, or an async one for Ampho
    │   └── EnvironmentFileError    the host's env.py breaks the contract
    ├── PackageError                a package, or what was typed for one
    │   ├── PackageNameError        not a name that a package can have
    │   ├── PackageNotFoundError    not importable, or not a package with a folder of its own
    │   └── MigrationsFolderError   its migrations folder is missing, taken, or out of bounds
    ├── HistoryError                the revision files contradict themselves
    │   ├── RevisionFileError       a file that cannot be read, parsed or imported
    │   ├── DuplicateRevisionError  one id or label in two files
    │   ├── MissingRevisionError    a parent or dependency that no file has
    │   └── CycleError              revisions that wait for each other
    ├── RevisionInputError          what was typed for a new revision cannot be written
    ├── SpecifierError              a specifier that means nothing here
    ├── NotUpToDateError            the database is behind or ahead of the package that is compared
    ├── DependentsError             a downgrade that would take other packages along
    ├── PlanChangedError            what would run is not what was shown and agreed to
    ├── UnknownRevisionsError       applied revisions that no file explains
    ├── DivergedError               revisions that count as applied, and were never run
    ├── VersionTableError           version rows that cannot be revisions
    ├── JournalError                a row of the journal that cannot be read
    ├── RenderError                 a revision that cannot be written as SQL
    ├── LinterError                 squawk is not there, or does not work
    ├── NestedRunError              a migration started inside a migration
    ├── LockError                   the database has no lock that keeps others from migrating it
    │   ├── LockTimeoutError        another process migrates the database, and was not done in time
    │   └── PoolerError             a pooler makes the lock worthless
    ├── ProtectedError              what would take something out of a protected database was not confirmed
    ├── WaitTimeoutError            the database did not answer, or was not up to date, in time
    ├── UnfinishedRevisionError     a revision of which nobody knows what is left
    ├── DatabaseError               the database refused, or could not be reached
    └── RevisionFailedError         a revision failed while it ran

Each carries what it is about as attributes, as well as a text that names the remedy; ``exit_code`` is what the command
line exits with.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path


class AmphoError(Exception):
    """The base of all errors of Ampho."""

    exit_code: int = 1

    @property
    def entry(self) -> str:
        """The name under which the documentation has its cause and its remedy; ``ampho explain`` prints them."""
        (kind, *_) = (kind for kind in type(self).__mro__ if kind.__module__ == __name__)
        return kind.__name__

    @property
    def page(self) -> str:
        """Where the documentation has that entry: a file in ``docs/``, and the anchor in it."""
        return f"errors.md#{self.entry.lower()}"


class ConfigurationError(AmphoError):
    """A setting, an argument of an extension, or the app is not usable.

    :ivar setting: the name of the setting, where one is to blame.
    """

    def __init__(self, message: str, *, setting: str | None = None) -> None:
        super().__init__(message)
        self.setting = setting


class AppNotFoundError(ConfigurationError):
    """No app was found, or it could not be loaded.

    :ivar tried: where it was looked for, in order, a line each; empty where something named it.
    """

    def __init__(self, message: str, *, setting: str | None = None, tried: Sequence[str] = ()) -> None:
        super().__init__(message, setting=setting)
        self.tried: tuple[str, ...] = tuple(tried)


class DriverError(ConfigurationError):
    """The database URL names a driver of the other kind, sync or async."""


class EnvironmentFileError(ConfigurationError):
    """The host's ``env.py`` cannot be used for a run.

    :ivar path: the file.
    :ivar line: the line to look at, where it is known.
    """

    def __init__(self, message: str, *, path: Path, line: int | None = None) -> None:
        super().__init__(message)
        self.path = path
        self.line = line


class PackageError(AmphoError):
    """A package cannot be used.

    :ivar package: its name as it was given.
    """

    def __init__(self, message: str, *, package: str) -> None:
        super().__init__(message)
        self.package = package


class PackageNameError(PackageError):
    """The text is not a name that a package with migrations can have."""


class PackageNotFoundError(PackageError):
    """No package of that name is importable, or listed.

    :ivar is_absent: whether nothing at all of that name is importable, as when it was uninstalled.
    """

    def __init__(self, message: str, *, package: str, is_absent: bool = False) -> None:
        super().__init__(message, package=package)
        self.is_absent = is_absent


class MigrationsFolderError(PackageError):
    """The package's migrations folder is missing, already there, or not inside the package.

    :ivar path: the folder.
    """

    def __init__(self, message: str, *, package: str, path: Path) -> None:
        super().__init__(message, package=package)
        self.path = path


class HistoryError(AmphoError):
    """The revision files of the packages do not form a history.

    :ivar package: the package of the file, where one file is to blame.
    :ivar revision: the revision's id, where it is known.
    :ivar path: the file, where one file is to blame.
    """

    def __init__(
        self,
        message: str,
        *,
        package: str | None = None,
        revision: str | None = None,
        path: Path | None = None,
    ) -> None:
        super().__init__(message)
        self.package = package
        self.revision = revision
        self.path = path


class RevisionFileError(HistoryError):
    """A revision file cannot be read, parsed or imported."""


class DuplicateRevisionError(HistoryError):
    """Two files claim one id, or one branch label."""


class MissingRevisionError(HistoryError):
    """A revision names a parent or a dependency that no file has."""


class CycleError(HistoryError):
    """Revisions stand on each other in a circle.

    :ivar revisions: the ids of the circle, in order.
    """

    def __init__(self, message: str, *, revisions: Sequence[str]) -> None:
        super().__init__(message, revision=revisions[0])
        self.revisions: tuple[str, ...] = tuple(revisions)


class RevisionInputError(AmphoError):
    """A message, id, head or dependency for a new revision cannot be written.

    :ivar package: the package that the revision was meant for.
    """

    def __init__(self, message: str, *, package: str) -> None:
        super().__init__(message)
        self.package = package


class SpecifierError(AmphoError):
    """A specifier is malformed, unknown, ambiguous, or out of place.

    :ivar specifier: the specifier as it was typed.
    """

    def __init__(self, message: str, *, specifier: str) -> None:
        super().__init__(message)
        self.specifier = specifier


class NotUpToDateError(AmphoError):
    """A package's revisions and the database are not at the same point, so its models cannot be compared.

    :ivar package: the package.
    :ivar revisions: ids of the revisions that the database lacks, or that only it has.
    """

    def __init__(self, message: str, *, package: str, revisions: Sequence[str]) -> None:
        super().__init__(message)
        self.package = package
        self.revisions: tuple[str, ...] = tuple(revisions)


class DependentsError(AmphoError):
    """A downgrade would take along applied revisions of other packages.

    :ivar specifier: the specifier as it was typed.
    :ivar dependents: ids of the revisions that would go too.
    """

    def __init__(self, message: str, *, specifier: str, dependents: Sequence[str]) -> None:
        super().__init__(message)
        self.specifier = specifier
        self.dependents: tuple[str, ...] = tuple(dependents)


class PlanChangedError(AmphoError):
    """What would run now is not the plan that somebody has seen and agreed to."""


class UnknownRevisionsError(AmphoError):
    """Revisions are applied that no file explains, and they are in the way.

    :ivar rows: their ids.
    """

    def __init__(self, message: str, *, rows: Sequence[str]) -> None:
        super().__init__(message)
        self.rows: tuple[str, ...] = tuple(rows)


class DivergedError(AmphoError):
    """Revisions count as applied because of what stands on them, and were never run on this database.

    :ivar revisions: their ids.
    """

    def __init__(self, message: str, *, revisions: Sequence[str]) -> None:
        super().__init__(message)
        self.revisions: tuple[str, ...] = tuple(revisions)


class VersionTableError(AmphoError):
    """The version table holds rows that cannot be revisions, or none while another table holds some of the history.

    :ivar rows: those rows, as text.
    """

    def __init__(self, message: str, *, rows: Sequence[str]) -> None:
        super().__init__(message)
        self.rows: tuple[str, ...] = tuple(rows)


class JournalError(AmphoError):
    """A row of the journal cannot be read.

    :ivar table: the journal's table.
    :ivar number: the row's id; None if it is not known.
    """

    def __init__(self, message: str, *, table: str, number: int | None) -> None:
        super().__init__(message)
        self.table: str = table
        self.number: int | None = number


class RenderError(AmphoError):
    """A revision cannot be written as SQL.

    :ivar revision: its id.
    :ivar package: its package.
    :ivar path: its file.
    """

    def __init__(self, message: str, *, revision: str, package: str, path: Path) -> None:
        super().__init__(message)
        self.revision = revision
        self.package = package
        self.path = path


class LinterError(AmphoError):
    """squawk, which looks at the SQL for PostgreSQL, is not installed, or does not work."""


class NestedRunError(AmphoError):
    """A migration was started inside a migration of the same process."""


class DatabaseError(AmphoError):
    """The database could not be reached, or refused a statement that belongs to no revision."""


class LockError(AmphoError):
    """The database has no lock that keeps other processes from migrating it."""


class LockTimeoutError(LockError):
    """Another process migrates the database, and was not done in time.

    :ivar holder: who that is, as far as the database tells.
    """

    exit_code = 3

    def __init__(self, message: str, *, holder: str) -> None:
        super().__init__(message)
        self.holder = holder


class PoolerError(LockError):
    """A pooler between here and the database gives each transaction another session."""


class ProtectedError(AmphoError):
    """What would take something out of a protected database was not confirmed, or for another database.

    :ivar deed: what it is, in a sentence.
    :ivar database: the name that confirms it.
    """

    def __init__(self, message: str, *, deed: str, database: str) -> None:
        super().__init__(message)
        self.deed = deed
        self.database = database


class WaitTimeoutError(AmphoError):
    """The database did not answer in time, or no other process brought it up to date."""

    exit_code = 3


class UnfinishedRevisionError(AmphoError):
    """A revision failed half-way, or was interrupted, where the database cannot roll it back.

    :ivar revision: its id.
    :ivar package: its package.
    """

    def __init__(self, message: str, *, revision: str, package: str) -> None:
        super().__init__(message)
        self.revision = revision
        self.package = package


class RevisionFailedError(AmphoError):
    """A revision failed while it ran.

    :ivar revision: its id.
    :ivar package: its package.
    :ivar path: its file.
    :ivar applied: ids of the revisions that the same run had finished before, in order.
    """

    def __init__(
        self,
        message: str,
        *,
        revision: str,
        package: str,
        path: Path,
        applied: Sequence[str],
    ) -> None:
        super().__init__(message)
        self.revision = revision
        self.package = package
        self.path = path
        self.applied: tuple[str, ...] = tuple(applied)
