"""Tests of an app's histories. A project has them all with one line: ``from ampho.testing.tests import *``.

They run on throwaway databases, and are the same for Flask and Quart.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ampho.testing.databases import databases_of
from ampho.testing.history import History

if TYPE_CHECKING:
    from flask.sansio.app import App

__all__ = [
    "test_every_downgrade_works",
    "test_every_package_has_one_head",
    "test_every_revision_runs_on_data",
    "test_the_models_match_the_migrated_database",
    "test_up_and_down_and_up_again_leaves_the_same_schema",
]


def test_every_package_has_one_head(ampho_app: App) -> None:
    """Check that no package has two heads, as it has if two people wrote a revision at the same time."""
    History(databases_of(ampho_app)).check_heads()


def test_the_models_match_the_migrated_database(ampho_app: App) -> None:
    """Check that the revisions create what the models describe."""
    History(databases_of(ampho_app)).check_models()


def test_up_and_down_and_up_again_leaves_the_same_schema(ampho_app: App) -> None:
    """Check that all downgrades together leave nothing, so that the revisions can be applied again."""
    History(databases_of(ampho_app)).check_down_and_up_again()


def test_every_downgrade_works(ampho_app: App) -> None:
    """Check that the downgrade of each revision restores the schema, unless it is irreversible by design."""
    History(databases_of(ampho_app)).check_downgrades()


def test_every_revision_runs_on_data(ampho_app: App) -> None:
    """Check that each revision can be applied to tables that have rows."""
    History(databases_of(ampho_app)).check_on_data()
