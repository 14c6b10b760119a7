"""What Ampho itself changes in a revision file that has run: the ids that it names, and a remark on pruned files.

Such a file still is what ran, so it does not count as edited.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import product

from ampho.history.files import read_bytes
from ampho.history.graph import Graph
from ampho.history.revision import Revision, digest_of

REMARK = "# The files of the revisions that this one replaces were last in release {}."
_REMARK = re.compile(rb"^# The files of the revisions that this one replaces were last in release (\S+)\.\n", re.M)
_MOST = 100


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
    written = graph.as_written(revision.id)
    names = [name for name in (*written.down_revisions, *written.depends_on) if name in graph and graph[name].replaces]
    bare = _REMARK.sub(b"", source)
    for number, old in enumerate(product(*(list(_earlier(graph, name)) for name in names))):
        if number == _MOST:
            return
        text = bare
        for name, other in zip(names, old, strict=True):
            text = text.replace(name.encode(), other.encode())
        yield text


def _earlier(graph: Graph, revision_id: str) -> Iterator[str]:
    """Yield the id of a revision, and the ids of the last revisions that it replaces, directly or indirectly."""
    yield revision_id
    revision = graph[revision_id]
    while revision.replaces:
        yield revision.replaces[-1]
        found = graph.replaced.by_id.get(revision.replaces[-1])
        if found is None:
            return
        revision = found
