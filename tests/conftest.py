"""Fixtures that all tests share: real servers, a fresh database for each driver, and a throwaway project.

``database``, ``sync_database`` and ``async_database`` run a test once per driver; ``@pytest.mark.drivers(...)`` narrows
that. ``AMPHO_REQUIRE_SERVERS=1`` turns a missing server from a skip into a failure.
"""

from __future__ import annotations

import faulthandler
import gc
import os
import sys
import tempfile
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from pathlib import Path
from typing import Any, NoReturn

import forks
import measuring
import pytest
from project import Project
from servers import (
    ASYNC_DRIVERS,
    DRIVERS,
    SYNC_DRIVERS,
    Database,
    Server,
    ServerMissingError,
    database_on,
    describe,
    server_for,
    stop_servers,
)

RUN = pytest.StashKey[tuple[Path, int]]()
STDERR = pytest.StashKey[int]()
TIMEOUT, GRACE = 120, 60
# The files with the longest tests.
FIRST = {"test_benchmarks.py", "test_cost.py", "test_docs.py", "test_examples.py", "test_order.py", "test_secrets.py"}
# What is only in these folders depends on more of a driver than its database, and whether it is async.
DRIVERS_DIFFER = {"aio", "database"}
# Elsewhere, the tests with these drivers run what the others run, too; as do those of all that is async, except in the
# folders that are named here.
ALIKE, ALIKE_IF_ASYNC = {"psycopg_async", "asyncpg", "asyncmy"}, {"aiosqlite", "quart"}
ASYNC_DIFFER = {"fleet", "migrate"}
PARAMETRIZED = {"database": DRIVERS, "sync_database": SYNC_DRIVERS, "async_database": ASYNC_DRIVERS}


# No test trusts a certificate. To read all those of the machine takes PyMySQL 20 ms for each connection.
os.environ |= dict.fromkeys(("SSL_CERT_FILE", "SSL_CERT_DIR"), os.devnull)
measuring.restart()


def pytest_configure(config: pytest.Config) -> None:
    shared = getattr(config, "workerinput", None)
    if shared is None:
        config.stash[RUN] = (Path(tempfile.mkdtemp(prefix="ampho-tests-")), os.getpid())
    else:
        config.stash[RUN] = (Path(shared["ampho_run"]), shared["ampho_owner"])
    config.stash[STDERR] = os.dup(2)  # the real one, which is captured while a test runs
    if config.getoption("dist", "no") != "no":
        measuring.end()  # since the workers run the tests


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item, nextitem: pytest.Item | None) -> Generator[None, object, object]:
    """Measure a test, or not, and end the process if it hangs.

    The timeout raises an exception in the test, which is lost if a callback or a destructor runs at that moment.
    """
    marker = item.get_closest_marker("timeout")
    if timeout := marker.args[0] if marker else TIMEOUT:
        faulthandler.dump_traceback_later(timeout + GRACE, exit=True, file=item.config.stash[STDERR])
    measuring.restart()
    with nullcontext() if _is_measured(item) else _unmeasured():
        try:
            return (yield)
        finally:
            faulthandler.cancel_dump_traceback_later()
            if nextitem is None or nextitem.path != item.path:
                # What a file leaves behind stays for long, so that each collection would look through it again.
                gc.collect()
                gc.freeze()


def _is_measured(item: pytest.Item) -> bool:
    if "unmeasured" in getattr(item, "fixturenames", ()):
        return False
    if marker := item.get_closest_marker("measured"):
        return any(part in item.name for part in marker.args)
    folder, parameters = item.path.parent.name, item.callspec.id.split("-") if hasattr(item, "callspec") else []
    alike = ALIKE if folder in ASYNC_DIFFER else ALIKE | ALIKE_IF_ASYNC
    return folder in DRIVERS_DIFFER or alike.isdisjoint(parameters)


@contextmanager
def _unmeasured() -> Iterator[None]:
    """Keep coverage out of this process and of those that it starts."""
    with pytest.MonkeyPatch.context() as patch, measuring.paused():
        patch.delenv("COVERAGE_PROCESS_CONFIG", raising=False)
        yield


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    # Or a worker would run the last of them alone, while the others have nothing left to do.
    items.sort(key=lambda item: item.path.name not in FIRST)


def pytest_collection_finish() -> None:
    # The imported modules are never garbage, and looking through them took a fifth of the time of all tests. Not before
    # they are imported: Hypothesis looks for what refers to the objects that it registers.
    gc.freeze()
    gc.set_threshold(100_000, 20, 20)
    # The tests write files that change twice in a second, which would be taken from the bytecode cache.
    sys.dont_write_bytecode, os.environ["PYTHONDONTWRITEBYTECODE"] = True, "1"


@pytest.hookimpl(tryfirst=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    gc.unfreeze()  # for Hypothesis, which its plug-in imports now if no test has
    forks.end()
    if hasattr(session.config, "workerinput"):
        measuring.end()  # since a worker may be stopped as soon as all have said that they are at their end


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    run, owner = node.config.stash[RUN]
    node.workerinput |= {"ampho_run": str(run), "ampho_owner": owner}


def pytest_unconfigure(config: pytest.Config) -> None:
    if not hasattr(config, "workerinput"):
        stop_servers(config.stash[RUN][0])


def pytest_report_header() -> list[str]:
    return describe()


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    for fixture, drivers in PARAMETRIZED.items():
        if fixture in metafunc.fixturenames:
            chosen = [driver for driver in drivers if _wanted(metafunc.definition, driver)]
            metafunc.parametrize(fixture, [_parameter(driver) for driver in chosen], indirect=True)


def _wanted(test: pytest.Item, driver: str) -> bool:
    names = {name for marker in test.iter_markers("drivers") for name in marker.args}
    unknown = names - set(DRIVERS) - {driver.partition("+")[0] for driver in DRIVERS}
    if unknown:
        raise pytest.UsageError(f"{test.nodeid}: no such driver or backend: {', '.join(sorted(unknown))}")
    return not names or driver in names or driver.partition("+")[0] in names


def _parameter(driver: str) -> Any:
    backend, _, name = driver.partition("+")
    return pytest.param(driver, id=name, marks=getattr(pytest.mark, backend))


def _server(backend: str, config: pytest.Config) -> Server:
    try:
        return server_for(backend, *config.stash[RUN])
    except ServerMissingError as error:
        _missing(error)


def _missing(error: ServerMissingError) -> NoReturn:
    if os.environ.get("AMPHO_REQUIRE_SERVERS") == "1":
        pytest.fail(f"AMPHO_REQUIRE_SERVERS is set, but: {error}")
    pytest.skip(str(error))


@pytest.fixture(scope="session", autouse=True)
def temporary_folder(pytestconfig: pytest.Config, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The folder for temporary files of a run, which ends with it, and with it the templates of SQLite."""
    tmp_path_factory.getbasetemp()  # is kept, in the folder of all runs
    folder = pytestconfig.stash[RUN][0] / "temporary"
    folder.mkdir(exist_ok=True)
    folder.parent.chmod(0o711)  # so that others can enter it, such as a server that does not run as root
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TMPDIR", str(folder))
        patch.setattr(tempfile, "tempdir", None)
        yield folder


@pytest.fixture
def data(temporary_folder: Path) -> Path:
    """A folder for the data of servers, which a server that does not run as root can enter."""
    folder = Path(tempfile.mkdtemp(dir=temporary_folder))
    folder.chmod(0o711)
    return folder


@pytest.fixture(scope="session")
def postgres_server(find_server: Callable[[str], Server]) -> Server:
    return find_server("postgresql")


@pytest.fixture(scope="session")
def mariadb_server(find_server: Callable[[str], Server]) -> Server:
    return find_server("mariadb")


@pytest.fixture(scope="session")
def find_server(pytestconfig: pytest.Config) -> Iterator[Callable[[str], Server]]:
    """Find the server of a backend, and drop in the end what was created on it."""
    found: dict[str, Server] = {}

    def find(backend: str) -> Server:
        if backend not in found:
            found[backend] = _server(backend, pytestconfig)
        return found[backend]

    yield find
    for server in found.values():
        server.drop_emptied()


@pytest.fixture
def make_database(find_server: Callable[[str], Server], tmp_path: Path) -> Iterator[Callable[[str], Database]]:
    """Make fresh databases: ``make_database("postgresql+asyncpg")``, as many as a test wants."""
    with ExitStack() as databases:

        def make(driver: str) -> Database:
            backend = driver.partition("+")[0]
            server = None if backend == "sqlite" else find_server(backend)
            try:
                return databases.enter_context(database_on(server, driver, tmp_path))
            except ServerMissingError as error:
                _missing(error)

        yield make


@pytest.fixture
def database(request: pytest.FixtureRequest, make_database: Callable[[str], Database]) -> Database:
    """A fresh database, once for each of the seven drivers."""
    return make_database(request.param)


@pytest.fixture
def sync_database(request: pytest.FixtureRequest, make_database: Callable[[str], Database]) -> Database:
    """A fresh database, once for each sync driver: what Flask uses."""
    return make_database(request.param)


@pytest.fixture
def async_database(request: pytest.FixtureRequest, make_database: Callable[[str], Database]) -> Database:
    """A fresh database, once for each async driver: what Quart uses."""
    return make_database(request.param)


@pytest.fixture
def unmeasured_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep coverage out of the processes that a test starts, where others run the same lines.

    Measured, a process takes half as much time again.
    """
    monkeypatch.delenv("COVERAGE_PROCESS_CONFIG", raising=False)


@pytest.fixture
def unmeasured() -> None:
    """Keep coverage out of a test and its processes, which take half as much time again with it.

    Most of these tests were found by recording what each test runs: others run all of the same lines and branches.
    """


@pytest.fixture
def project(tmp_path: Path) -> Project:
    """A throwaway project in a folder of its own."""
    folder = tmp_path / "project"
    folder.mkdir()
    return Project(folder)
