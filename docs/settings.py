"""Write the table of Ampho's settings into the page on configuration: ``python docs/settings.py``.

It is made from ``ampho/settings.py``, where the code has the names and the defaults from.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

from ampho.settings import SETTINGS, Setting

PAGE = Path(__file__).parent / "configuration.md"
TABLE = re.compile(r"(?<=<!-- made from ampho/settings\.py by docs/settings\.py -->\n).*?(?=<!-- end -->)", re.DOTALL)
# Where the page says more.
ANCHORS = {
    "AMPHO_MIGRATION_PACKAGES": "packages",
    "AMPHO_DATABASES": "several-databases",
    "AMPHO_ENV_PACKAGE": "envpy-and-its-host",
    "AMPHO_DATABASE_URI": "one-process-at-a-time",
    "AMPHO_STATEMENT_LOCK_TIMEOUT": "locks-of-the-app",
    "AMPHO_LOCK_TIMEOUT": "one-process-at-a-time",
    "AMPHO_PROTECTED": "a-protected-database",
    "AMPHO_LOCK": "one-process-at-a-time",
    "AMPHO_JOURNAL_TABLE": "the-journal",
    "AMPHO_JOURNAL_SOURCE": "revisions-of-another-git-branch",
    "AMPHO_READINESS_PATH": "readiness",
    "AMPHO_READINESS_DETAILS": "readiness",
    "AMPHO_PENDING_PAGE": "the-pending-page",
    "AMPHO_PHASES": "phases-of-packages",
    "AMPHO_PLUGINS": "plug-in-discovery",
    "AMPHO_OWNERS": "owners-of-tables",
    "AMPHO_VERSION_TABLES": "packages-of-plug-ins",
}


def table() -> str:
    """Return the table, in Markdown."""
    head = "| setting | type | meaning | default | environment |\n| --- | --- | --- | --- | --- |\n"
    return "\n" + head + "".join(map(_row, SETTINGS)) + "\n"


def _row(setting: Setting[object]) -> str:
    name, where = setting.name, "yes" if setting.in_environment else "no"
    default = setting.by_default or f"`{_plain(setting.default)}`"
    return f"| [`{name}`](#{ANCHORS[name]}) | {setting.kind} | {setting.meaning} | {default} | {where} |\n"


def _plain(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else repr(value).replace("'", '"')


def page(text: str) -> str:
    """Return the page with the table as it has to be."""
    written, times = TABLE.subn(lambda _: table(), text)
    if times != 1:
        sys.exit(f"{PAGE} has {times} places for the table of settings, and not one.")
    return written


if __name__ == "__main__":
    PAGE.write_text(page(PAGE.read_text("utf-8")), "utf-8")
