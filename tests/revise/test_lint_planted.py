"""How many planted faults db-lint finds, and how often it reports a harmless revision."""

from __future__ import annotations

from importlib.metadata import version

import pytest
from planted import BACKENDS, Case, cases, drafted, reported, strong_migrations
from project import Project
from servers import Database

FAULTS = HARMLESS = 60
FLOORS = {"sqlite": (60, 0), "postgresql": (60, 1), "mariadb": (60, 1)}
"""How many faults have to be found, and how many harmless revisions may be reported.

The false alarms are squawk's ``ban-drop-default``, and a ``MODIFY`` in text, which does not say what the type was.
"""

# The figures are those of the rules of a present squawk. The lowest version that Ampho allows has fewer.
of_present_rules = pytest.mark.skipif(version("squawk-cli").startswith("2.0."), reason="this squawk has fewer rules")


def test_there_are_as_many_faults_as_harmless_revisions() -> None:
    for backend in BACKENDS:
        given = cases(backend)
        assert len(given) == len({case.upgrade + case.downgrade + str(case.rules) for case in given})
        assert sum(bool(case.rules) for case in given) == FAULTS, backend
        assert sum(not case.rules for case in given) == HARMLESS, backend


@of_present_rules
@pytest.mark.drivers("sqlite+pysqlite", "postgresql+psycopg", "mariadb+pymysql")
def test_planted_faults_are_found_and_harmless_revisions_are_not_reported(project: Project, database: Database) -> None:
    given = cases(database.backend)
    found_rules = reported(drafted(project, given, database.url))
    missed, alarms = list[str](), list[str]()
    for case, rules in zip(given, found_rules, strict=True):
        if case.rules and not case.rules & rules:
            missed.append(f"{sorted(case.rules)}, but {sorted(rules)}: {case.upgrade}")
        elif not case.rules and rules:
            alarms.append(f"{sorted(rules)}: {case.upgrade}")
    found, most = FLOORS[database.backend]
    assert FAULTS - len(missed) >= found, "\n".join(missed)
    assert len(alarms) <= most, "\n".join(alarms)


@of_present_rules
@pytest.mark.drivers("postgresql+psycopg", "mariadb+pymysql")
def test_what_strong_migrations_checks_is_reported(project: Project, database: Database) -> None:
    checks = strong_migrations(database.backend)
    assert len(checks) == {"postgresql": 21, "mariadb": 15}[database.backend]
    rules = reported(drafted(project, list(checks.values()), database.url))
    missed = [name for name, found in zip(checks, rules, strict=True) if not found]
    assert missed == ["keeping non-unique indexes to three columns or less"]  # which is about style


SAFE = """\
create_index("ix_book_pages", "book", ["pages"])
drop_index("ix_book_title", "book")
create_foreign_key("fk_book_author", "book", "author", ["author_id"], ["id"])
create_check_constraint("ck_book_pages", "book", "pages > 0")
create_unique_constraint("uq_book_isbn", "book", ["isbn"])
alter_column("book", "pages", existing_type=sa.BigInteger(), nullable=False)
backfill("book", {"pages": 0, "note": None}, where="pages IS NULL")
backfill("book", {"pages": sa.text("pages + 1")})
"""


@of_present_rules
@pytest.mark.drivers("postgresql+psycopg")
def test_the_operations_that_ampho_recommends_are_not_reported(project: Project, database: Database) -> None:
    given = [Case(frozenset(), f"import ampho.operations\nampho.operations.{line}") for line in SAFE.splitlines()]
    rules = reported(drafted(project, given, database.url))
    assert {case.upgrade: found for case, found in zip(given, rules, strict=True) if found} == {}
