"""The errors that Ampho raises. ``docs/errors.md`` describes them, and ``ampho explain`` prints the descriptions.

Each message says what is wrong and what to do. The attributes contain the details, and ``exit_code`` is the exit code
of the command line.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType


class AmphoError(Exception):
    """The base class of all errors that Ampho raises."""

    exit_code: int = 1

    @property
    def entry(self) -> str:
        """The name of the documentation entry that ``ampho explain`` prints."""
        (kind, *_) = (kind for kind in type(self).__mro__ if kind.__module__ == __name__)
        return kind.__name__

    @property
    def page(self) -> str:
        """The file in ``docs/`` and the anchor of this entry, such as ``errors.md#lockerror``."""
        return f"errors.md#{self.entry.lower()}"


class ConfigurationError(AmphoError):
    """A setting, an argument of an extension, or the app is not valid.

    :ivar setting: the name of the setting; None if the error is not about a setting.
    """

    def __init__(self, message: str, *, setting: str | None = None) -> None:
        super().__init__(message)
        self.setting = setting


class AppNotFoundError(ConfigurationError):
    """No app was found, or the app could not be loaded.

    :ivar tried: the places where Ampho looked for the app, in order; empty if you named the app.
    """

    def __init__(self, message: str, *, setting: str | None = None, tried: Sequence[str] = ()) -> None:
        super().__init__(message, setting=setting)
        self.tried: tuple[str, ...] = tuple(tried)


class DriverError(ConfigurationError):
    """The database driver is not installed, or is a sync driver with AsyncAmpho, or an async driver with Ampho."""


class EnvironmentFileError(ConfigurationError):
    """The host's ``env.py`` cannot be used for a run.

    :ivar path: the file.
    :ivar line: the number of the line that is wrong; None if it is not known.
    """

    def __init__(self, message: str, *, path: Path, line: int | None = None) -> None:
        super().__init__(message)
        self.path = path
        self.line = line


class PackageError(AmphoError):
    """A package cannot be used.

    :ivar package: the name as you typed it.
    """

    def __init__(self, message: str, *, package: str) -> None:
        super().__init__(message)
        self.package = package


class PackageNameError(PackageError):
    """A package with migrations cannot have this name."""


class PackageNotFoundError(PackageError):
    """The package cannot be imported, or is not listed.

    :ivar is_absent: true if nothing with this name can be imported.
    """

    def __init__(self, message: str, *, package: str, is_absent: bool = False) -> None:
        super().__init__(message, package=package)
        self.is_absent = is_absent


class MigrationsFolderError(PackageError):
    """The migrations folder of the package does not exist, already exists, or is not inside the package.

    :ivar path: the folder.
    """

    def __init__(self, message: str, *, package: str, path: Path) -> None:
        super().__init__(message, package=package)
        self.path = path


class HistoryError(AmphoError):
    """The revision files of the packages contradict each other.

    :ivar package: the package of the file; None if the error is not about one file.
    :ivar revision: the id of the revision; None if it is not known.
    :ivar path: the file; None if the error is not about one file.
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
    """Two files have the same id, or the same branch label."""


class MissingRevisionError(HistoryError):
    """A revision names a parent or a dependency that has no file."""


class CycleError(HistoryError):
    """Revisions depend on each other in a cycle.

    :ivar revisions: the ids of the revisions in the cycle, in order.
    """

    def __init__(self, message: str, *, revisions: Sequence[str]) -> None:
        super().__init__(message, revision=revisions[0])
        self.revisions: tuple[str, ...] = tuple(revisions)


class RevisionInputError(AmphoError):
    """The message, id, head, or a dependency of a new revision is not valid.

    :ivar package: the package of the new revision.
    """

    def __init__(self, message: str, *, package: str) -> None:
        super().__init__(message)
        self.package = package


class SpecifierError(AmphoError):
    """A specifier is malformed, unknown, ambiguous, or not allowed in the command.

    :ivar specifier: the specifier as you typed it.
    """

    def __init__(self, message: str, *, specifier: str) -> None:
        super().__init__(message)
        self.specifier = specifier


class NotUpToDateError(AmphoError):
    """The database is behind or ahead of the code, so it cannot be compared with the models.

    :ivar package: the package of the revisions.
    :ivar revisions: the ids of the pending or the missing revisions.
    """

    def __init__(self, message: str, *, package: str, revisions: Sequence[str]) -> None:
        super().__init__(message)
        self.package = package
        self.revisions: tuple[str, ...] = tuple(revisions)


class DependentsError(AmphoError):
    """Other applied revisions depend on the revisions that a command would revert, forget, or mark as not applied.

    :ivar specifier: the specifier as you typed it.
    :ivar dependents: the ids of the other revisions.
    """

    def __init__(self, message: str, *, specifier: str, dependents: Sequence[str]) -> None:
        super().__init__(message)
        self.specifier = specifier
        self.dependents: tuple[str, ...] = tuple(dependents)


class PhaseError(AmphoError):
    """A revision in phase ``pre`` depends on a pending revision in phase ``post``.

    :ivar package: the package of the revision.
    :ivar revision: the id of the revision.
    :ivar needed: the id of the pending revision in phase ``post``.
    """

    def __init__(self, message: str, *, package: str, revision: str, needed: str) -> None:
        super().__init__(message)
        self.package = package
        self.revision = revision
        self.needed = needed


class PlanChangedError(AmphoError):
    """The plan is no longer the one that you confirmed."""


class UnknownRevisionsError(AmphoError):
    """The command cannot continue because of missing revisions, which are applied but have no file.

    :ivar rows: the ids of the missing revisions.
    """

    def __init__(self, message: str, *, rows: Sequence[str]) -> None:
        super().__init__(message)
        self.rows: tuple[str, ...] = tuple(rows)


class DivergedError(AmphoError):
    """Revisions that never ran on this database are treated as applied, because later revisions are applied.

    :ivar revisions: the ids of the diverged revisions.
    """

    def __init__(self, message: str, *, revisions: Sequence[str]) -> None:
        super().__init__(message)
        self.revisions: tuple[str, ...] = tuple(revisions)


class VersionTableError(AmphoError):
    """The version table has invalid or repeated rows, or is empty although another table contains this history.

    :ivar rows: the invalid or repeated rows, or the rows of the other table, as text.
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

    :ivar revision: the id of the revision.
    :ivar package: the package of the revision.
    :ivar path: the file of the revision.
    """

    def __init__(self, message: str, *, revision: str, package: str, path: Path) -> None:
        super().__init__(message)
        self.revision = revision
        self.package = package
        self.path = path


class VerificationError(AmphoError):
    """The database differs from what the revisions make that a stamp marks as applied.

    :ivar specifier: the specifier as you typed it.
    :ivar missing: what the database lacks.
    :ivar superfluous: what it should not contain.
    :ivar different: what is different, and how.
    """

    def __init__(
        self,
        message: str,
        *,
        specifier: str,
        missing: Sequence[str],
        superfluous: Sequence[str],
        different: Sequence[str],
    ) -> None:
        super().__init__(message)
        self.specifier = specifier
        self.missing: tuple[str, ...] = tuple(missing)
        self.superfluous: tuple[str, ...] = tuple(superfluous)
        self.different: tuple[str, ...] = tuple(different)


class LinterError(AmphoError):
    """A program that ``db-lint`` needs is not installed or fails: squawk, which checks SQL for PostgreSQL, or git."""


class NestedRunError(AmphoError):
    """A migration was started inside another migration in the same process."""


class DatabaseNameError(AmphoError):
    """No database of the app has this name, or the command needs the name of one database.

    :ivar database: the name as you typed it; empty if you typed none.
    """

    def __init__(self, message: str, *, database: str) -> None:
        super().__init__(message)
        self.database = database


class DatabasesError(AmphoError):
    """A command failed on some of the databases of the app.

    :ivar errors: the errors, by the names of the databases.
    :ivar results: the results of the other databases, by name.
    :ivar skipped: the databases that were left out because of these errors, each with the reason.
    """

    def __init__(
        self,
        message: str,
        *,
        errors: Mapping[str, AmphoError],
        results: Mapping[str, object],
        skipped: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        super().__init__(message)
        codes = {error.exit_code for error in errors.values()}
        self.exit_code: int = codes.pop() if len(codes) == 1 else 1
        self.errors = errors
        self.results = results
        self.skipped = skipped


class DatabaseError(AmphoError):
    """The database could not be reached, or reported an error for a statement that does not belong to a revision.

    :ivar is_missing: true if the database, or the schema that it is, does not exist.
    """

    def __init__(self, message: str, *, is_missing: bool = False) -> None:
        super().__init__(message)
        self.is_missing = is_missing


class LockError(AmphoError):
    """The database does not provide a lock that keeps other processes from migrating it."""


class LockTimeoutError(LockError):
    """Another process is migrating the database, and did not finish in time.

    :ivar holder: a description of that process; empty if the database does not provide one.
    """

    exit_code = 3

    def __init__(self, message: str, *, holder: str) -> None:
        super().__init__(message)
        self.holder = holder


class PoolerError(LockError):
    """A pooler in front of the database runs each transaction in a different session."""


class ProtectedError(AmphoError):
    """A change to a protected database was not confirmed, or was confirmed for another database.

    :ivar deed: what the command would do, in a sentence.
    :ivar database: the name of the database, which you type to confirm the change.
    :ivar fingerprint: the fingerprint of what the command would do; empty if only the name is wrong.
    """

    def __init__(self, message: str, *, deed: str, database: str, fingerprint: str) -> None:
        super().__init__(message)
        self.deed = deed
        self.database = database
        self.fingerprint = fingerprint


class WaitTimeoutError(AmphoError):
    """The database did not answer in time, or was not up to date in time."""

    exit_code = 3


class UnfinishedRevisionError(AmphoError):
    """A revision was interrupted, or failed halfway, and the database could not roll it back.

    :ivar revision: the id of the revision.
    :ivar package: the package of the revision.
    """

    def __init__(self, message: str, *, revision: str, package: str) -> None:
        super().__init__(message)
        self.revision = revision
        self.package = package


class OperationError(AmphoError):
    """A revision calls a function of ``ampho.operations`` in a way that cannot work, or the function gives up."""


class RevisionFailedError(AmphoError):
    """A revision failed while it ran.

    :ivar revision: the id of the revision.
    :ivar package: the package of the revision.
    :ivar path: the file of the revision.
    :ivar applied: the ids of the revisions that the run finished before this one, in order.
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
