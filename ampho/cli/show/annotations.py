"""The findings of ``db-lint`` in the formats that GitHub, GitLab, and other programs show beside the code."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

from ampho._text import escaped_lines, sentences
from ampho.revise.lint.report import OWN, LintReport, Violation

SARIF = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"
_ROOT = "%SRCROOT%"
_SQUAWK_RULES = "https://squawkhq.com/docs/"


class _Annotation(NamedTuple):
    """A finding, with the path of its file, and an id that stays the same.

    The path is relative to the root of the repository; it is absolute if the file is outside of it.
    """

    violation: Violation
    path: Path
    fingerprint: str

    @property
    def text(self) -> str:
        return sentences(self.violation.message, self.violation.help)


def annotate(report: LintReport, format_: str, root: Path) -> str:
    """Return the findings of a report in a format.

    :param root: the root of the repository; the paths of files are relative to it.
    """
    return FORMATS[format_](list(_located(report, root)))


def _located(report: LintReport, root: Path) -> Iterator[_Annotation]:
    """Yield each finding once, even if a revision was checked for several databases.

    The fingerprint does not contain the line, so that it stays the same if the file changes elsewhere.
    """
    seen, base = Counter[str](), Path(os.path.realpath(root))
    for one in dict.fromkeys(report.violations):
        path = Path(os.path.realpath(one.path))
        path = path.relative_to(base) if path.is_relative_to(base) else path
        key = "\0".join((path.as_posix(), one.revision, one.rule, one.message, one.statement))
        seen[key] += 1
        yield _Annotation(one, path, sha256(f"{key}\0{seen[key]}".encode()).hexdigest())


def _github(found: Sequence[_Annotation]) -> str:
    """Return workflow commands, one a line."""

    def command(one: _Annotation) -> str:
        fields = {
            "file": one.path.as_posix(),
            "line": str(one.violation.line),
            "title": f"db-lint: {one.violation.rule}",
        }
        listed = ",".join(f"{name}={_escaped(_data(value))}" for name, value in fields.items())
        return f"::warning {listed}::{_data(one.text)}\n"

    return "".join(map(command, found))


def _data(text: str) -> str:
    return escaped_lines(text).replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _escaped(data: str) -> str:
    return data.replace(":", "%3A").replace(",", "%2C")


def _gitlab(found: Sequence[_Annotation]) -> str:
    """Return a Code Quality report."""
    return _json(
        [
            {
                "description": one.text,
                "check_name": one.violation.rule,
                "fingerprint": one.fingerprint,
                "severity": "major",
                "location": {"path": one.path.as_posix(), "lines": {"begin": one.violation.line}},
            }
            for one in found
        ]
    )


def _sarif(found: Sequence[_Annotation]) -> str:
    """Return a SARIF log. In its messages, a brace has to be doubled, because ``{0}`` is a placeholder."""
    rules = sorted({one.violation.rule for one in found})
    results = [
        {
            "ruleId": one.violation.rule,
            "ruleIndex": rules.index(one.violation.rule),
            "level": "warning",
            "message": {"text": one.text.replace("{", "{{").replace("}", "}}")},
            "locations": [
                {
                    "physicalLocation": {
                        "artifactLocation": _artifact(one.path),
                        "region": {"startLine": one.violation.line},
                    }
                }
            ],
            "partialFingerprints": {"ampho/v1": one.fingerprint},
        }
        for one in found
    ]
    driver = {"name": "Ampho", "version": version("ampho"), "rules": [_rule(rule) for rule in rules]}
    return _json({"$schema": SARIF, "version": "2.1.0", "runs": [{"tool": {"driver": driver}, "results": results}]})


def _artifact(path: Path) -> Mapping[str, str]:
    """Return the location of a file for SARIF, where only a relative URI has a base."""
    return {"uri": path.as_uri()} if path.is_absolute() else {"uri": quote(path.as_posix()), "uriBaseId": _ROOT}


def _rule(name: str) -> Mapping[str, Any]:
    return {"id": name} if name in OWN else {"id": name, "helpUri": f"{_SQUAWK_RULES}{name}"}


def _json(value: object) -> str:
    return f"{json.dumps(value, indent=2)}\n"


FORMATS: Mapping[str, Callable[[Sequence[_Annotation]], str]] = {
    "github": _github,
    "gitlab": _gitlab,
    "sarif": _sarif,
}
