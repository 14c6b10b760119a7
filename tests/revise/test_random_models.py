"""Random models and changes: every revision imports, runs up, down, and up again, and leaves no difference."""

from __future__ import annotations

import os
import random
import traceback
from collections.abc import Sequence

import pytest
import sqlalchemy as sa
from comparing import ONE_EACH, compare, run
from random_schemas import changed, clear, random_model
from servers import Database
from sqlalchemy.engine import Connection

from ampho.revise.autogenerate.write.render import body
from ampho.revise.names import missing_names

MODELS = int(os.environ.get("AMPHO_MODELS", "15"))
"""How many random models are tried on each database."""


def revise(connection: Connection, metadata: sa.MetaData, known: Sequence[str]) -> tuple[str, str]:
    """Apply the revision that autogenerate writes, revert it, and apply it again; return its source."""
    written = body(compare(connection, metadata, known=known).packages["shop"])
    functions = "".join(
        f"def {name}():\n    {code or 'pass'}\n"
        for name, code in (("upgrade", written.upgrades), ("downgrade", written.downgrades))
    )
    source = f"import sqlalchemy as sa\nfrom alembic import op\n{written.imports}\n{functions}"
    try:
        assert missing_names(source) == []
        before = differences(connection, sa.MetaData(), known)
        run(connection, written.upgrades or "pass", written.imports)
        run(connection, written.downgrades or "pass", written.imports)
        assert differences(connection, sa.MetaData(), known) == before
        run(connection, written.upgrades or "pass", written.imports)
        assert differences(connection, metadata, known) == []
    except Exception as exc:
        exc.add_note(source)
        raise
    return source, written.downgrades


def differences(connection: Connection, metadata: sa.MetaData, known: Sequence[str]) -> list[str]:
    changes = compare(connection, metadata, known=known).packages["shop"]
    written = body(changes)
    connection.rollback()
    return sorted({*written.upgrades.splitlines()} - {"pass"})


@pytest.mark.usefixtures("unmeasured")
@pytest.mark.timeout(60 + 10 * MODELS)
@pytest.mark.drivers(*ONE_EACH)
def test_every_revision_of_random_models_runs_in_both_directions(database: Database) -> None:
    failed: list[str] = []
    engine = sa.create_engine(database.sync_url)
    for seed in range(MODELS):
        rng = random.Random(seed)
        dialect = engine.dialect.name
        model = random_model(rng, dialect)
        known: list[str] = []
        with engine.connect() as connection:
            try:
                for each in (model, changed(rng, model, dialect), None):
                    metadata = each.metadata(dialect) if each else sa.MetaData()
                    known += metadata.tables
                    revise(connection, metadata, known)
                if dialect == "postgresql":
                    assert sa.inspect(connection).get_enums(schema="*") == []  # type: ignore[attr-defined]
            except Exception as exc:  # noqa: BLE001  # all failures are listed at the end
                notes = "\n".join(getattr(exc, "__notes__", ()))
                if not str(exc):
                    notes = "".join(traceback.format_tb(exc.__traceback__)) + notes
                failed.append(f"seed {seed}: {type(exc).__name__}: {exc}\n{notes}")
                connection.rollback()
                clear(connection)
    engine.dispose()
    assert not failed, f"{len(failed)} of {MODELS} failed\n" + "\n\n".join(failed)
