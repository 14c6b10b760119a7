"""Messages about the problems of a database and their remedies, and checks that raise errors with these messages."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from ampho._text import listed
from ampho.database.journal import Journal
from ampho.database.version_rows import Applied
from ampho.errors import DivergedError, HistoryError, UnknownRevisionsError, VersionTableError
from ampho.history.revision import Revision, id_prefix
from ampho.history.rewritten import pruned_release
from ampho.history.specifier import MISSING

ROWS_REMEDY = "correct the table by hand, or rewrite it with 'ampho db-stamp SPEC --purge'"
"""The remedy for version rows that are corrupt or repeated."""

_SHOWN = 5


def check_sound(applied: Applied) -> None:
    """Raise a ``VersionTableError`` if a version row cannot be a revision id, or is repeated."""
    if applied.corrupt:
        raise VersionTableError(
            f"The version table has the row {', '.join(map(ascii, applied.corrupt))}, which cannot be a revision id."
            f" {_capitalized(ROWS_REMEDY)}. Nothing was changed.",
            rows=applied.corrupt,
        )
    if applied.repeated:
        raise VersionTableError(
            f"The version table has the row {', '.join(applied.repeated)} more than once, but Alembic changes one row"
            f" at a time. {_capitalized(ROWS_REMEDY)}. Nothing was changed.",
            rows=applied.repeated,
        )


def check_installed(applied: Applied) -> None:
    """Raise an error if a package is not installed and has no applied revisions, because its name may be misspelled."""
    missing = {id_prefix(applied.package(revision_id)) for revision_id in applied.missing}
    for name, error in applied.graph.not_installed.items():
        if id_prefix(name) not in missing:
            raise error


def check_appliable(applied: Applied, ids: Iterable[str]) -> None:
    """Check that an upgrade can apply revisions.

    :raises MissingRevisionError: if a revision has no file.
    :raises UnknownRevisionsError: if the database is ahead of the package of a revision, or if it is uncertain whether
        one of the revisions is applied.
    """
    applied.graph.check_files(ids)
    if applied.missing and applied.graph.has_replacements:
        _check_not_stranded(applied, ids)
    touched = applied.ahead.intersection(map(applied.package, ids))
    beyond = [rid for rid in applied.missing if applied.package(rid) in touched]
    if beyond:
        raise UnknownRevisionsError(
            f"The database is ahead of the code: {about_missing(applied, beyond)}. Nothing was changed.",
            rows=beyond,
        )
    doubtful = applied.graph.sort(applied.uncertain.intersection(ids))
    if doubtful:
        packages = " ".join(dict.fromkeys(map(applied.package, doubtful)))
        remedies = _or(_reasons(applied, tuple(applied.missing)).values())
        raise UnknownRevisionsError(
            f"It is unclear whether {doubtful[0]} of {applied.package(doubtful[0])} is applied, because"
            f" {describe_missing(applied)} {'is' if len(applied.missing) == 1 else 'are'} missing and may depend on it."
            f" {_capitalized(remedies)}. Or record how far {packages} is applied, with 'ampho db-stamp REVISION', or"
            " with 'ampho db-stamp PACKAGE@base' if nothing is applied. Nothing was changed.",
            rows=applied.graph.sort(applied.missing),
        )


def _check_not_stranded(applied: Applied, ids: Iterable[str]) -> None:
    """Raise an error if the database has a part of what a revision replaces, and the files of the rest were deleted."""
    for revision in map(applied.graph.__getitem__, applied.graph.sort(ids)):
        if part := applied.graph.sort(applied.missing.intersection(revision.replaces)):
            raise UnknownRevisionsError(
                f"{revision.id} of {revision.package} replaces {listed(revision.replaces, _SHOWN)}. The database has"
                f" some of these ({listed(part, _SHOWN)}), and the files of the others were deleted."
                f" {_earlier_release(revision)}. Nothing was changed.",
                rows=part,
            )


def _earlier_release(revision: Revision) -> str:
    """Return what to do if a revision replaces others, and the database has only a part of these."""
    release = pruned_release(revision)
    earlier = f"release {release}" if release else "an earlier release"
    return f"First upgrade the database with {earlier} of {revision.package}, which still has them"


def check_has_files(applied: Applied, ids: Iterable[str], command: str) -> None:
    """Raise an ``UnknownRevisionsError`` if the command needs the file of a missing revision."""
    missing = applied.graph.sort(applied.missing.intersection(ids))
    if missing:
        raise UnknownRevisionsError(f"{command}: {about_missing(applied, missing)}. Nothing was changed.", rows=missing)


def about_missing(applied: Applied, ids: Sequence[str]) -> str:
    """Return a message about missing revisions, with the possible reasons and what to do."""
    is_ = "is" if len(ids) == 1 else "are"
    return f"{describe_missing(applied, ids)} {is_} applied but missing: {explain_missing(applied, ids)}"


def describe_missing(applied: Applied, ids: Iterable[str] | None = None) -> str:
    """Return a phrase with the ids and packages of some missing revisions; by default, of all missing revisions."""
    return _with_packages(applied, applied.graph.sort(applied.missing if ids is None else ids))


def explain_missing(applied: Applied, ids: Sequence[str]) -> str:
    """Return the possible reasons why revisions are missing, and what to do."""
    new = {each for rid in ids for each in applied.graph.replacements(rid)}
    if new and all(map(applied.graph.replacements, ids)):
        first, *_ = names = applied.graph.sort(new)
        return (
            f"{listed(names)} replaced {'it' if len(ids) == 1 else 'them'}, and the old files were deleted."
            f" {_earlier_release(applied.graph[first])}"
        )
    reasons = _reasons(applied, ids)
    # A revision can be forgotten only after the revisions that depend on it.
    ways = ways_to_forget(applied, reversed(applied.graph.sort(ids)))
    forget = " and ".join(ways) if len(ways) <= _SHOWN else "'ampho db-forget REVISION', the last one first"
    what = "the revision" if len(ids) == 1 else "the revisions"
    if tables := {applied.tables[rid] for rid in ids if rid in applied.tables}:
        where = f"the version table {listed(sorted(tables))} has {'it' if len(ids) == 1 else 'them'}, and "
    else:
        where = ""
    return f"{where}{_or(reasons)}. {_capitalized(_or([*reasons.values(), f'forget {what} with {forget}']))}"


def _reasons(applied: Applied, ids: Sequence[str]) -> dict[str, str]:
    """Return the possible reasons why revisions are missing, each with its remedy."""
    packages = set(map(applied.package, ids))
    reasons: dict[str, str] = {}
    has_sources = bool(ids) and applied.sources.issuperset(ids)
    if has_sources:
        them = "it" if len(ids) == 1 else "them"
        reasons[f"another branch of the code applied {them}"] = f"revert {them} with 'ampho db-down {MISSING}'"
    if not packages.isdisjoint(["", *applied.graph.packages]):
        files, were = ("the file", "was") if len(ids) == 1 else ("files", "were")
        reasons[f"{files} {were} deleted"] = f"restore {'the file' if len(ids) == 1 else 'the files'}"
        if has_sources:
            reasons["an older release of the code is running"] = "install the newer release"
        else:
            branch = "an older release or another branch of the code is running"
            reasons[branch] = "install the newer release or check out the other branch"
    if packages.difference(applied.graph.packages):
        reasons["a package is not installed or not listed"] = "install and list the package"
    return reasons


def ways_to_forget(applied: Applied, ids: Iterable[str]) -> list[str]:
    """Return the commands that forget missing revisions, in quotes."""
    names = dict.fromkeys(
        applied.package(rid) if applied.package(rid) and applied.package(rid) not in applied.graph.packages else rid
        for rid in ids
    )
    return [f"'ampho db-forget {name}'" for name in names]


def ways_out(applied: Applied, ids: Sequence[str]) -> list[str]:
    """Return the commands that revert revisions that have files, and forget revisions that are missing."""
    present = dict.fromkeys(applied.package(rid) for rid in ids if not applied.graph.is_missing(rid))
    ways = [f"'ampho db-down {name}@base' (or a smaller downgrade)" for name in present]
    return ways + ways_to_forget(applied, filter(applied.graph.is_missing, ids))


def as_ran(applied: Applied, journal: Journal) -> Applied:
    """Return the result of :meth:`Applied.as_ran`, or raise a ``DivergedError`` if its graph would not be valid."""
    try:
        return applied.as_ran(journal)
    except HistoryError:
        raise _diverged_error(applied, applied.diverged(journal)) from None


def check_not_diverged(applied: Applied, ids: Iterable[str], journal: Journal) -> None:
    """Raise a ``DivergedError`` if one of the given revisions, or one of their dependencies, has diverged."""
    diverged = applied.diverged(journal)
    if found := diverged and applied.graph.sort(applied.graph.ancestors(ids).intersection(diverged)):
        raise _diverged_error(applied, found)


def _diverged_error(applied: Applied, found: Sequence[str]) -> DivergedError:
    counts, ran, were = ("counts", "it ran", "it was") if len(found) == 1 else ("count", "they ran", "they were")
    return DivergedError(
        f"{_with_packages(applied, found)} {counts} as applied, because a later revision is applied, but no record says"
        f" that {ran}: {were} inserted later, or forgotten. {_capitalized(diverged_remedy(applied, found))}. Nothing"
        " was changed.",
        revisions=found,
    )


def diverged_remedy(applied: Applied, ids: Sequence[str]) -> str:
    """Return the remedy for diverged revisions, as text."""
    above = applied.graph.tips((applied.graph.descendants(ids) & applied.known) - set(ids))
    changes, them = ("its changes", "it") if len(ids) == 1 else ("their changes", "them")
    by_hand = f"make {changes} by hand, unless the database already has them"
    stamp = f"record that with {stamp_commands(applied, ids)}"
    return f"revert what depends on {them} ({listed(above)}), and upgrade again; or {by_hand}, and {stamp}"


def edited_remedy(applied: Applied, ids: Sequence[str]) -> str:
    """Return the remedy for edited revisions, as text."""
    edit, it = ("the edit makes", "it") if len(ids) == 1 else ("the edits make", "them")
    return f"if {edit} no difference, accept {it} with {stamp_commands(applied, ids)}"


def stamp_commands(applied: Applied, ids: Iterable[str]) -> str:
    """Return the commands that record again, with the current files, that revisions are applied."""
    wanted = set(ids)
    packages = dict.fromkeys(map(applied.package, applied.graph.sort(wanted)))
    known = [[rid for rid in applied.graph.of_package(name) if rid in applied.known] for name in packages]
    above = applied.graph.descendants(wanted) | wanted
    return " and ".join(f"'ampho db-stamp {tip}'" for own in known for tip in applied.graph.tips(own) if tip in above)


def _with_packages(applied: Applied, ids: Sequence[str]) -> str:
    packages = [name for name in dict.fromkeys(map(applied.package, ids)) if name]
    return f"{listed(ids)} of {' and '.join(packages)}" if packages else listed(ids)


def _or(texts: Iterable[str]) -> str:
    *first, last = texts
    return f"{', '.join(first)}, or {last}" if first else last


def _capitalized(sentence: str) -> str:
    return sentence[0].upper() + sentence[1:]
