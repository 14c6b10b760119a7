"""What is to be seen of a run on a terminal, by real commands on real pseudo-terminals."""

from __future__ import annotations

import re
import signal

import pytest
from project import Project
from screen import Screen
from servers import Database

# Says something in each way in which a revision can, and half a line too.
TALKING = """
import logging, subprocess, sys, time
print("printed")
print("to standard error", file=sys.stderr)
logging.getLogger("shop").warning("logged")
subprocess.run(["echo", "by a program"])
print("and begun, ", end="", flush=True)
time.sleep(0.6)
print("and ended")
"""
LONG = "op.execute(\"SELECT pg_sleep(3.5), 'hidden'\")"
# Writes to the descriptor of standard output, from another process and from this one, each when the test has seen what
# came before.
BYPASSING = """
import atexit, os, subprocess, threading, time
atexit.register(lambda: print([thread.name for thread in threading.enumerate()]))

def wait_for(file):
    while not os.path.exists(file):
        time.sleep(0.01)

wait_for("drawn")
subprocess.run(["sh", "-c", "echo first; echo second; echo third"])
wait_for("overwritten")
if not os.fork():
    print("by a child")
    os._exit(0)
os.wait()
os.write(1, b"half a")
wait_for("seen")
os.write(1, b" line\\n")
"""
LOGGING = """
import logging
logging.basicConfig(level=logging.INFO, format="%(name)s: %(message)s")
logging.getLogger("alembic").setLevel(logging.WARNING)
"""

# Handlers that write to the terminal, and one that writes to another, whose content is printed when the command ends.
ELSEWHERE = """
import atexit, logging, os, select, sys
reader, writer = os.openpty()
os.write(writer, b"begun ")
logging.getLogger("ampho").setLevel(logging.INFO)
for stream in sys.stderr, open("/dev/tty", "w"), os.fdopen(writer, "w"):
    logging.getLogger("ampho").addHandler(logging.StreamHandler(stream))
read = lambda: os.read(reader, 65536) if select.select([reader], [], [], 0.1)[0] else b""  # a part at a time
atexit.register(lambda: print("elsewhere:", b"".join(iter(read, b"")).decode()))
"""


def lines(shown: str) -> list[str]:
    """The lines of a screen, with the times left out."""
    return re.sub(r"[\d.]+ (ms|s)\b", "N s", shown).splitlines()


def frame(shown: str) -> list[str]:
    """What is drawn below the lines, with the bar and the spinner left out."""
    drawn = [re.sub(r"[^\x20-\x7e\N{HORIZONTAL ELLIPSIS}]+", "*", line) for line in lines(shown)]
    return drawn[next(number for number, line in enumerate(drawn) if line.startswith("  *")) :]


@pytest.mark.measured("psycopg")
@pytest.mark.drivers("postgresql+psycopg", "postgresql+asyncpg")
def test_a_run_is_seen_as_it_goes(project: Project, database: Database) -> None:
    """With all that a revision says above it, once; the log says nothing that the command says itself."""
    for package in ("core", "shop"):
        project.package(package)
    project.revision("core", "core_1", upgrade=TALKING, message="Talk")
    message = "Fill a table, which takes so long that there is time to read all of this message"
    project.revision("shop", "shop_1", None, "core_1", upgrade=LONG, message=message)
    project.app("quart" if database.is_async else "flask", ["core", "shop"], database.url, body=LOGGING)

    screen = Screen(project, "ampho", "db-up")
    assert lines(screen.wait(lambda shown: "and begun," in shown and "1 of 2" in shown))[-3] == "and begun,"
    seen = screen.wait(lambda shown: "SELECT pg_sleep" in shown and "2 of 2" in shown and shown.endswith(" s"))
    first, *others = frame(seen)
    assert first.startswith("  *  shop_1 of shop  Fill a table, which takes so long that")
    assert first.endswith("\N{HORIZONTAL ELLIPSIS}  N s")
    assert others == ["     SELECT pg_sleep(3.5), '...'  N s", "  *  2 of 2  N s"]
    assert not screen.has_cursor

    assert screen.end() == 0
    assert screen.has_cursor
    assert lines(screen.shown) == [
        "Upgrading (heads): 2 revisions of core, shop",
        "printed",
        "to standard error",
        "shop: logged",
        "by a program",
        "and begun, and ended",
        "  + core_1  Talk ... N s",
        "  + shop_1  Fill a table, which takes so long that there is time to read all of",
        "            this message ... N s",
        "Applied 2 revisions in N s.",
    ]
    assert b"hidden" not in screen.raw


@pytest.mark.parametrize("framework", ["flask", "quart"])
def test_a_run_on_several_databases_names_the_one_that_is_running(framework: str, project: Project) -> None:
    """Also if the same revision runs in both, which is counted twice."""
    project.package("core")
    project.revision("core", "core_1", upgrade="import time\ntime.sleep(1)", message="Sleep")
    scheme = {"flask": "sqlite", "quart": "sqlite+aiosqlite"}[framework]
    config = {
        "SQLALCHEMY_BINDS": {"reports": f"{scheme}:///reports.db"},
        "AMPHO_DATABASES": {"default": ["core"], "reports": ["core"]},
    }
    project.app(framework, ["core"], f"{scheme}:///app.db", extra_config=config)

    screen = Screen(project, "ampho", "db-up")
    for number, name in enumerate(("default", "reports"), 1):
        seen = screen.wait(lambda shown, number=number: f"{number} of 2" in shown)
        assert frame(seen) == [f"  *  core_1 of core in {name}  Sleep  N s", f"  *  {number} of 2  N s"]

    assert screen.end() == 0
    assert lines(screen.shown) == [
        "Upgrading (heads): 2 revisions of core, in the databases default, reports",
        *("default:", "  + core_1  Sleep ... N s"),
        *("reports:", "  + core_1  Sleep ... N s"),
        "Applied 2 revisions in N s.",
    ]
    looked = Screen(project, "ampho", "db-status")
    assert looked.end() == 0
    assert [line for line in lines(looked.shown) if line in ("default:", "reports:")] == ["default:", "reports:"]


def test_only_the_terminal_of_the_display_does_not_get_the_records_of_a_run(project: Project) -> None:
    project.package("core")
    project.revision("core", "core_1", upgrade="import time; time.sleep(0.5)")
    project.app("flask", ["core"], "sqlite:///app.db", body=ELSEWHERE)

    screen = Screen(project, "ampho", "db-up")
    assert screen.end() == 0
    run, elsewhere = screen.shown.split("elsewhere: ")
    assert lines(run) == [
        "Upgrading (heads): 1 revision of core",
        "  + core_1  by hand ... N s",
        "Applied 1 revision in N s.",
    ]
    assert "core_1" in elsewhere


TRACKED = """
import atexit, logging
tracked, call_handlers = [], logging.Logger.callHandlers
def track(logger, record):
    if record.name == "ampho":
        tracked.append(f"{record.levelname} {record.ampho_event}")
    call_handlers(logger, record)
logging.Logger.callHandlers = track
logging.basicConfig(level=logging.INFO)
atexit.register(lambda: print("tracked:", tracked))
"""


def test_error_trackers_get_the_records_of_a_run_on_a_terminal(project: Project) -> None:
    """They wrap ``Logger.callHandlers``. The handler of the terminal still gets no record."""
    project.package("core")
    project.revision("core", "core_1", upgrade="op.execute('nonsense')")
    project.app("flask", ["core"], "sqlite:///app.db", body=TRACKED)

    screen = Screen(project, "ampho", "db-up")
    assert screen.end() == 1
    run, tracked = screen.shown.split("tracked: ")
    assert tracked.strip() == "['INFO planned', 'ERROR failed']"
    assert run.count("core_1 of core failed") == 1


def test_output_that_bypasses_python_is_not_lost(project: Project) -> None:
    """It may overwrite the display, which is drawn again below it; and no thread is left behind."""
    project.package("core")
    project.revision("core", "core_1", upgrade=BYPASSING)
    project.app("flask", ["core"], "sqlite:///app.db")

    screen = Screen(project, "ampho", "db-up")
    screen.wait(lambda shown: shown.endswith(" s"))
    project.write("drawn", "")
    screen.wait(lambda shown: "third" in shown and shown.endswith(" s"))
    project.write("overwritten", "")
    seen = lines(screen.wait(lambda shown: "half a\n" in shown and shown.endswith(" s")))
    assert seen[-3] == "half a"
    assert frame(screen.shown) == ["  *  core_1 of core  by hand  N s", "  *  1 of 1  N s"]
    project.write("seen", "")

    assert screen.end() == 0
    shown = lines(screen.shown)
    assert shown[1] == "first"
    assert [line[:6] for line in shown[2:4]] == ["second", "third\N{BOX DRAWINGS HEAVY HORIZONTAL}"]
    assert shown[4:] == [
        "by a child",
        "half a line",
        "  + core_1  by hand ... N s",
        "Applied 1 revision in N s.",
        "['MainThread']",
    ]


@pytest.mark.usefixtures("unmeasured")
@pytest.mark.drivers("postgresql+psycopg", "postgresql+asyncpg")
def test_an_interrupted_run_leaves_a_clean_terminal(project: Project, database: Database) -> None:
    """One in Flask, by Ctrl-C, and one in Quart, by SIGTERM; both without colours."""
    number, word = (signal.SIGTERM, "Terminated.") if database.is_async else (signal.SIGINT, "Interrupted.")
    project.package("core")
    project.revision("core", "core_1", upgrade="print('begun', end='', flush=True)\nop.execute('SELECT pg_sleep(30)')")
    project.app("quart" if database.is_async else "flask", ["core"], database.url)

    screen = Screen(project, "ampho", "--no-color", "db-up", columns=100)
    screen.wait(lambda shown: "1 of 1" in shown)
    screen.signal(number)

    assert screen.end() == 128 + number
    assert screen.has_cursor
    assert lines(screen.shown) == [
        "Upgrading (heads): 1 revision of core",
        "begun",
        "  + core_1  by hand ... interrupted",
        f"Error: {word} A revision that was running was rolled back if the database supports that.",
    ]
    assert set(re.findall(rb"\x1b\[([\d;]*)m", screen.raw)) <= {b"0", b"1", b"2"}  # bold and dim are no colours


def test_who_asks_is_answered(project: Project) -> None:
    """What fails after that is said as ever."""
    project.package("core")
    asking = "import time; time.sleep(0.5)\nprint('got', input('Sure? '))"
    project.revision("core", "core_1", upgrade=asking)
    project.revision("core", "core_2", "core_1", upgrade="op.execute('SELECT nonsense')")
    project.app("flask", ["core"], "sqlite:///app.db")

    screen = Screen(project, "ampho", "db-up", columns=250)
    assert screen.wait(lambda shown: "Sure?" in shown).endswith("\nSure?")
    assert screen.has_cursor
    screen.type("yes\r")

    assert screen.end() == 1
    shown = lines(screen.shown)
    assert shown[1:5] == [
        "Sure? yes",
        "got yes",
        "  + core_1  by hand ... N s",
        "  + core_2  by hand ... failed",
    ]
    assert shown[5].startswith("Error: Revision core_2 of core failed at")
    said = " ".join(" ".join(shown[5:]).split())
    assert said.endswith(". More: ampho explain RevisionFailedError")


@pytest.mark.parametrize(
    ("upgrade", "env"),
    [("pass", {}), ("import time; time.sleep(0.6)", {"TERM": "dumb"})],
    ids=["at once", "a terminal that cannot"],
)
def test_nothing_is_drawn(project: Project, upgrade: str, env: dict[str, str]) -> None:
    project.package("core")
    project.revision("core", "core_1", upgrade=upgrade)
    project.app("flask", ["core"], "sqlite:///app.db", body=LOGGING)

    screen = Screen(project, "ampho", "db-up", env=env)

    assert screen.end() == 0
    colours = rb"\x1b\[(32|1|0)m"  # green, bold, and the end of both
    assert b"\x1b" not in (screen.raw if env else re.sub(colours, b"", screen.raw))
    assert "ampho: " not in screen.shown
    assert lines(screen.shown)[0] == "Upgrading (heads): 1 revision of core"
    assert lines(screen.shown)[-1] == "Applied 1 revision in N s."


def test_part_of_a_line_stays_apart_from_the_line_of_its_revision(project: Project) -> None:
    project.package("core")
    project.revision("core", "core_1", upgrade="import sys; print('part', end='', file=sys.stderr)")
    project.revision("core", "core_2", "core_1", upgrade="print('half', end='')")
    project.revision("core", "core_3", "core_2")
    project.app("flask", ["core"], "sqlite:///app.db")

    screen = Screen(project, "ampho", "db-up")

    assert screen.end() == 0
    assert lines(screen.shown)[1:-1] == [
        "part",
        "  + core_1  by hand ... N s",
        "half",
        "  + core_2  by hand ... N s",
        "  + core_3  by hand ... N s",
    ]


def test_what_another_process_did_of_a_plan_is_not_counted_as_applied(project: Project) -> None:
    project.package("core")
    for number in range(1, 6):
        project.revision("core", f"core_{number}", f"core_{number - 1}" if number > 1 else None)
    meddling = """
    import logging, os, subprocess, sys
    from ampho.signals import revision_applied

    class Steps(logging.Handler):
        def emit(self, record):
            if record.ampho_event == "finished":
                print("finished", record.ampho_steps, file=sys.stderr)

    logging.getLogger("ampho").setLevel(logging.INFO)
    logging.getLogger("ampho").addHandler(Steps())

    @revision_applied.connect_via(app)
    def meddle(app, *, revision, **extra):
        last = os.environ.get("UNTIL")
        if last and revision == "core_2":
            subprocess.run([sys.executable, "-m", "ampho", "db-up", last], check=True, capture_output=True,
                           env={**os.environ, "UNTIL": ""})
    """
    project.app("flask", ["core"], "sqlite:///app.db", body=meddling)
    done = project.run("ampho", "db-up", env={"UNTIL": "core_4"})
    first, *_, last = re.sub(r"\d+ ms", "N ms", done.stdout).splitlines()
    assert first == "Upgrading (heads): 5 revisions of core"
    assert last == "Applied 3 revisions in N ms; another process ran the other 2."
    assert done.stderr == "finished 3\n"
    project.run("ampho", "db-down", "base")
    done = project.run("ampho", "db-up", env={"UNTIL": "core_5"})
    assert "Applied 2 revisions in" in done.stdout
    assert done.stdout.endswith("; another process ran the other 3.\n")


@pytest.mark.measured("a terminal", "--no-color")
@pytest.mark.parametrize(
    ("env", "more", "is_coloured"),
    [({}, [], True), ({"NO_COLOR": "1"}, [], False), ({}, ["--no-color"], False), ({"TERM": "dumb"}, [], False)],
    ids=["a terminal", "NO_COLOR", "--no-color", "a dumb terminal"],
)
def test_what_went_well_or_wrong_is_seen_by_its_colour(
    project: Project, env: dict[str, str], more: list[str], is_coloured: bool
) -> None:
    project.package("core")
    project.package("bare")
    project.revision("core", "core_1")
    project.revision("core", "core_2", "core_1", upgrade="import time; time.sleep(0.5)\nop.execute('nonsense')")
    project.app("flask", ["core", "bare"], "sqlite:///app.db")

    screen = Screen(project, "ampho", "db-up", *more, columns=200, env=env)

    assert screen.end() == 1
    green, red, yellow = (rb"\x1b\[%dm\x1b\[1m" % colour for colour in (32, 31, 33))
    for colour, word in ((green, rb"\d+ ms"), (red, b"failed"), (red, b"Error:"), (yellow, b"Warning:")):
        assert re.search(word, screen.raw), word
        assert (re.search(colour + word + rb"\x1b\[0m", screen.raw) is not None) is is_coloured, (word, screen.raw)
    typed = Screen(project, "ampho", *more, "db-up", "--nothing", columns=200, env=env)
    assert typed.end() == 2
    assert (re.search(red + b"Error:", typed.raw) is not None) is is_coloured
    piped = project.run("ampho", "db-up", *more, env={"NO_COLOR": "", "FORCE_COLOR": "", **env}, check=False)
    assert "\x1b" not in piped.output
