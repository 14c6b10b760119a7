"""How many planted faults db-lint finds, and how often it reports a harmless revision."""

from __future__ import annotations

from dataclasses import replace

import pytest
from facade import facade
from planted import BACKENDS, cases, write
from project import Project
from servers import Database

from ampho.revise.lint.lint import draft, lint

FAULTS = HARMLESS = 60
FLOORS = {"sqlite": (60, 0), "postgresql": (60, 1), "mariadb": (60, 1)}
"""How many faults have to be found, and how many harmless revisions may be reported.

The false alarms are squawk's ``ban-drop-default``, and a ``MODIFY`` in text, which does not say what the type was.
"""


def test_there_are_as_many_faults_as_harmless_revisions() -> None:
    for backend in BACKENDS:
        given = cases(backend)
        assert len(given) == len({case.upgrade + case.downgrade + str(case.rules) for case in given})
        assert sum(bool(case.rules) for case in given) == FAULTS, backend
        assert sum(not case.rules for case in given) == HARMLESS, backend


@pytest.mark.drivers("sqlite+pysqlite", "postgresql+psycopg", "mariadb+pymysql")
def test_planted_faults_are_found_and_harmless_revisions_are_not_reported(project: Project, database: Database) -> None:
    given = cases(database.backend)
    write(project, given)
    config = {"AMPHO_STATEMENT_LOCK_TIMEOUT": 5}
    with facade(project, "flask", ["core"], database.url, **config) as each, each.app.app_context():
        with each.ampho.db.engine.connect() as connection:
            drafted = draft(each.ampho.project(each.app), connection)
        # Each by itself, so that what one revision creates is not new in the next one.
        reports = [lint(replace(drafted, revisions=(revision,))) for revision in drafted.revisions]
    missed, alarms = list[str](), list[str]()
    for case, report in zip(given, reports, strict=True):
        rules = {one.rule for one in report.violations}
        if case.rules and not case.rules & rules:
            missed.append(f"{sorted(case.rules)}, but {sorted(rules)}: {case.upgrade}")
        elif not case.rules and rules:
            alarms.append(f"{sorted(rules)}: {case.upgrade}")
    found, most = FLOORS[database.backend]
    assert FAULTS - len(missed) >= found, "\n".join(missed)
    assert len(alarms) <= most, "\n".join(alarms)
