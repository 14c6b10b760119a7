"""Which pending revisions run before a new release of the app starts, and which have to wait."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass

from ampho._text import listed
from ampho.database.version_rows import Applied
from ampho.errors import PhaseError
from ampho.history.graph import Graph
from ampho.history.phases import Phases, Placement
from ampho.history.revision import Phase

_RECORDED = Placement(Phase.PRE, "only recorded", is_neutral=True)


@dataclass(frozen=True, slots=True)
class Schedule:
    """The phases of pending revisions.

    :ivar graph: the graph of the revisions.
    :ivar placements: the phase of each pending revision, in the order in which they run.
    :ivar held: the revisions in phase ``post``, and those that depend on them.
    """

    graph: Graph
    placements: Mapping[str, Placement]
    held: AbstractSet[str]

    @classmethod
    def of(cls, applied: Applied, ids: Iterable[str], phases: Phases) -> Schedule:
        """Return the phases of pending revisions.

        As long as no revision of a package is applied, no release uses its tables. So if a revision in phase ``pre``
        needs a revision of such a package, that one counts as ``pre``, too.
        """
        graph = applied.graph
        order = graph.sort(ids)
        found = {rid: phases.of(graph[rid]) for rid in order}
        if graph.has_replacements:
            found |= dict.fromkeys(filter(graph.is_recorded, order), _RECORDED)
        if Phase.POST in [each.phase for each in found.values()]:
            found |= dict(_counting_as_pre(applied, found))
        held: set[str] = set()
        for rid, each in found.items():
            if each.phase is Phase.POST or (held and not held.isdisjoint(graph.parents(rid))):
                held.add(rid)
        return cls(graph, found, held)

    @property
    def optional(self) -> set[str]:
        """The revisions without which the new release can run."""
        needed = [rid for rid, each in self.placements.items() if _needs_pre(each) or each.conflict]
        return set(self.held) - self.graph.ancestors(needed)

    def check(self, ids: Iterable[str]) -> None:
        """Check that no revision in phase ``pre`` is held back because it depends on a pending one in phase ``post``.

        :param ids: the revisions to check.
        :raises PhaseError: if one is.
        """
        for rid in ids:
            if rid in self.held and _needs_pre(self.placements[rid]):
                raise self._error(rid)

    def _error(self, revision_id: str) -> PhaseError:
        above = self.graph.ancestors([revision_id])
        post = next(rid for rid, each in self.placements.items() if rid in above and each.phase is Phase.POST)
        package, parents = self.graph[revision_id].package, listed(self.graph[post].down_revisions)
        beside = (
            f"If both belong to one release, let {revision_id} revise {parents}, as {post} does, and merge the heads"
            f" with 'ampho db-merge {package}'"
            if parents and self.graph[post].package == package
            else f"Otherwise, move {revision_id} before {post}"
        )
        return PhaseError(
            f"{revision_id} of {package} is in phase pre, but depends on {post}, which is pending and in phase post"
            f" ({self.placements[post].reason}). If the last deployment only lacks its phase post, finish it first,"
            f" with 'ampho db-up {post}'. {beside}; or let it wait, too, with phase = \"post\" in its file.",
            package=package,
            revision=revision_id,
            needed=post,
        )


def _counting_as_pre(applied: Applied, found: Mapping[str, Placement]) -> Iterator[tuple[str, Placement]]:
    """Yield the revisions of new packages that count as ``pre``, because the new release needs them."""
    started, needed_by = set(map(applied.package, applied.known)), dict[str, str]()
    new = {rid for rid in found if applied.package(rid) not in started}
    needed = {rid for rid, each in found.items() if _needs_pre(each) or (rid in new and each.conflict)}
    for rid, placement in reversed([*found.items()]):
        for child in found.keys() & applied.graph.children(rid):
            if child in needed or child in needed_by:
                needed_by[rid] = child if child in needed else needed_by[child]
        if placement.phase is Phase.POST and rid in new and (placement.conflict or rid in needed_by):
            because = f"{needed_by[rid]} needs it" if rid in needed_by else f"it {placement.conflict}"
            yield rid, Placement(Phase.PRE, f"nothing of its package is applied, and {because}")


def _needs_pre(placement: Placement) -> bool:
    return placement.phase is Phase.PRE and not placement.is_neutral
