"""Reporting what the comparison leaves out: what no package owns, and models whose metadata is not compared."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from ampho.revise.autogenerate.operations.describe import Change
from ampho.settings import OWNERS

if TYPE_CHECKING:
    from ampho.migrate.project import Project
    from ampho.revise.autogenerate.comparison import Comparison


def uncompared(comparison: Comparison) -> dict[str, tuple[Change, ...]]:
    """Return what the models contain that is not compared, by package; an empty name stands for no owner."""
    found = {
        package: tuple(Change("~", "table", key, "is in metadata that is not compared") for key in keys)
        for package, keys in comparison.owners.elsewhere.items()
        if package in comparison.packages
    }
    if unowned := comparison.unowned():
        found[""] = tuple(Change("~", kind, name, "belongs to no package") for kind, name in unowned)
    return found


def warn_of_uncompared(project: Project, comparison: Comparison, warn: Callable[[str], None]) -> None:
    """Warn about what no package owns, models whose metadata is not compared, and indexes that are kept."""
    database = f"database {project.database}" if project.has_several_databases else "database"
    for items, place in ((comparison.unowned_in_database(), database), (comparison.unowned(), "models")):
        for kind in dict.fromkeys(kind for kind, _ in items):
            names = [name for each, name in items if each == kind]
            warn(
                f"No package owns the {kind}{'s' if len(names) > 1 else ''} {', '.join(names)} in the {place}. Name the"
                f" package in {OWNERS}, or write None there to ignore this."
            )
    for package, keys in comparison.owners.elsewhere.items():
        if package in comparison.packages:
            warn(
                f"The models of {package} for the table{'s' if len(keys) > 1 else ''} {', '.join(keys)} use metadata"
                f" that is not compared. {_remedy(project)} For tables in another database, write None in {OWNERS}."
            )
    if kept := [name for changes in comparison.packages.values() for name in changes.kept_indexes]:
        warn(
            f"{_indexes(kept)} in no model and in no revision. Autogenerate keeps {'them' if len(kept) > 1 else 'it'}."
            " To drop an index, write op.drop_index() in a revision."
        )


def _indexes(names: list[str]) -> str:
    return f"The index{'es' if len(names) > 1 else ''} {', '.join(names)} {'are' if len(names) > 1 else 'is'}"


def _remedy(project: Project) -> str:
    if project.template == "sync":
        return "Pass the base class, as in SQLAlchemy(model_class=Base), or all metadata, as in target_metadata=[...]."
    return "Pass the base class, as in AsyncSQLAlchemy(model_class=Base), or all metadata, as in metadata=[...]."
