"""What Ampho itself changes in a revision file that has run: the ids that it names, and a remark on pruned files.

Such a file still is what ran, so it does not count as edited.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterator

from ampho.history.files import read_bytes
from ampho.history.graph import Graph
from ampho.history.revision import Revision, digest_of

REMARK = "# The files of the revisions that this one replaces were last in release {}."
_REMARK = re.compile(rb"^# The files of the revisions that this one replaces were last in release (\S+)\.\n", re.M)
_MOST = 1000


def pruned_release(revision: Revision) -> str:
    """Return the release that still had the files of what a revision replaces; empty if that is not known."""
    try:
        found = _REMARK.search(read_bytes(revision.file).replace(b"\r\n", b"\n"))
    except OSError:
        return ""
    return found[1].decode("utf-8", "replace") if found else ""


def was(graph: Graph, revision: Revision, checksum: str) -> bool:
    """Return whether the file of a revision had a checksum before Ampho changed it.

    :param graph: the graph, in which revisions that replace others may have taken the places of these.
    """
    try:
        source = read_bytes(revision.file).replace(b"\r\n", b"\n")
    except OSError:
        return False
    return any(digest_of(each).hex() == checksum for each in _before(graph, revision, source))


def _before(graph: Graph, revision: Revision, source: bytes) -> Iterator[bytes]:
    """Yield the content of a file as it may have been, the latest first, before one name after another was replaced."""
    written = graph.as_written(revision.id)
    todo = deque([(_REMARK.sub(b"", source), (*written.down_revisions, *written.depends_on))])
    for _ in range(_MOST):
        if not todo:
            return
        text, names = todo.popleft()
        yield text
        # The new revisions that replace the same old ones have taken the place of one of these together.
        together: dict[tuple[str, ...], list[str]] = {}
        for name in names:
            if replaces := _replaces(graph, name):
                together.setdefault(replaces, []).append(name)
        for replaces, news in together.items():
            left = tuple(name for name in names if name not in news)
            todo.extend((_with_old(text, news, old), (*left, old)) for old in reversed(replaces))


def _replaces(graph: Graph, name: str) -> tuple[str, ...]:
    found = graph[name] if name in graph else graph.replaced.by_id.get(name)
    return found.replaces if found else ()


def _with_old(text: bytes, news: list[str], old: str) -> bytes:
    """Return the text of a file with an old id instead of the new ones; see :func:`ampho.revise.squash.files.with_ids`.

    A single string has become several in parentheses.
    """
    if len(news) > 1:
        for quote in ('"', "'"):
            joined = quote + f"{quote}, {quote}".join(news) + quote
            text = text.replace(f"({joined})".encode(), joined.encode()).replace(
                joined.encode(), f"{quote}{old}{quote}".encode()
            )
    return text.replace(", ".join(news).encode(), old.encode())
