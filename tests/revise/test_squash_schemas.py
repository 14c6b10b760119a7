"""What ``db-squash`` writes for random schemas: reverted and run again, it makes the same catalogs.

``AMPHO_SQUASHED_SCHEMAS`` is the number of random histories that are tried on each database.
"""

from __future__ import annotations

import os
import random
import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from alembic.migration import MigrationContext
from comparing import ONE_EACH, OPTIONS, compare, run
from servers import Database
from sqlalchemy.engine import Connection

from ampho.database.catalog import Catalog, differences, read_catalog
from ampho.revise.autogenerate.comparison import Comparison
from ampho.revise.autogenerate.owners.ownership import Ownership
from ampho.revise.autogenerate.write.render import body
from ampho.revise.squash.generate import exchanged
from ampho.revise.squash.tidy import Tidying

SCHEMAS = int(os.environ.get("AMPHO_SQUASHED_SCHEMAS", "3"))


def random_models() -> Any:
    """Import the module that makes random models, which is a module of tests."""
    spec = spec_from_file_location("random_models", Path(__file__).with_name("test_random_models.py"))
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    sys.modules[spec.name] = module  # where dataclasses look
    spec.loader.exec_module(module)
    return module


def squashed(connection: Connection, before: Catalog, after: Catalog) -> tuple[str, str, str]:
    """Return the bodies of a revision that makes the schema of the database, and its imports."""
    inspector = sa.inspect(connection)
    names = [*inspector.get_table_names()]
    if connection.dialect.name == "postgresql" and "audit" in inspector.get_schema_names():
        names += [f"audit.{name}" for name in inspector.get_table_names("audit")]
    owners = Ownership(dict.fromkeys(names, "shop"), {}, {}, {})
    context = MigrationContext.configure(connection, opts={**OPTIONS, "target_metadata": sa.MetaData()})
    changes = exchanged(Comparison(context, owners, ["shop"]).packages["shop"])
    Tidying(changes, before, after).tidy()
    written = body(changes)
    connection.rollback()
    return written.upgrades or "pass", written.downgrades or "pass", written.imports


@pytest.mark.usefixtures("unmeasured")
@pytest.mark.timeout(120 + 10 * SCHEMAS)
@pytest.mark.drivers(*ONE_EACH)
def test_random_schemas_are_made_again(database: Database) -> None:
    models = random_models()
    engine = sa.create_engine(database.sync_url)
    failed: list[str] = []
    for seed in range(SCHEMAS):
        rng = random.Random(seed)
        dialect = engine.dialect.name
        with engine.connect() as connection:
            model, known, source = models.random_model(rng, dialect), list[str](), ""
            before = read_catalog(connection)
            try:
                for each in (model, models.changed(rng, model, dialect)):
                    metadata = each.metadata(dialect)
                    known += metadata.tables
                    written = body(compare(connection, metadata, known=known).packages["shop"])
                    run(connection, written.upgrades or "pass", written.imports)
                after = read_catalog(connection)
                upgrade, downgrade, imports = squashed(connection, before, after)
                source = f"{imports}\n{upgrade}\n{downgrade}"
                run(connection, downgrade, imports)
                left = read_catalog(connection)
                assert differences({}, {key: sql for key, sql in left.items() if key[0] != "schema"}) == []
                run(connection, upgrade, imports)
                assert differences(after, read_catalog(connection)) == []
            except Exception as exc:  # noqa: BLE001  # all failures are listed at the end
                failed.append(f"seed {seed}: {type(exc).__name__}: {exc}\n{source}")
            connection.rollback()
            models.clear(connection)
            if dialect == "postgresql":
                connection.commit()
    engine.dispose()
    assert not failed, f"{len(failed)} of {SCHEMAS} failed\n" + "\n\n".join(failed)
