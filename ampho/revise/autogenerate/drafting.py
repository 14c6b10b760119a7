"""Preparing the files of new revisions from the changes of packages, before any file is written."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace

from alembic.operations import ops

from ampho.errors import RevisionInputError
from ampho.history.graph import Graph
from ampho.history.revision import Phase
from ampho.migrate.project import Project
from ampho.revise.autogenerate.comparison import Comparison
from ampho.revise.autogenerate.operations.changes import Changes, table_key
from ampho.revise.autogenerate.operations.describe import Change, briefly, describe
from ampho.revise.autogenerate.write.directives import apply_hook, has_hook, prepare, preset
from ampho.revise.autogenerate.write.phases import split_by_phase
from ampho.revise.autogenerate.write.render import body
from ampho.revise.autogenerate.write.safe import SafeOperations
from ampho.revise.autogenerate.write.sequence import in_order
from ampho.revise.writer import Draft, Wish, draft_revision, not_implied, single_revision


@dataclass
class Drafting:
    """Prepares new revisions, each after those that it depends on.

    :ivar wish: what the options ask for.
    :ivar rows: the version rows of the database.
    :ivar warn: a function that reports a warning.
    :ivar graph: the history, with the revisions that have been prepared.
    :ivar phased: whether to write two revisions if the changes need both phases.
    :ivar safe: replaces operations that would block the app, if the options ask for that.
    :ivar drafts: the files of these revisions.
    :ivar changes: what the revisions of each package change.
    """

    project: Project
    comparison: Comparison
    wish: Wish
    rows: tuple[str, ...]
    warn: Callable[[str], None]
    graph: Graph
    phased: bool = True
    safe: SafeOperations | None = None
    drafts: list[Draft] = field(default_factory=list)
    changes: dict[str, list[Change]] = field(default_factory=dict)
    _created: set[str] = field(default_factory=set)
    _last: dict[str, str] = field(default_factory=dict)

    def add(self, packages: Iterable[str]) -> None:
        """Prepare the revisions that the given packages need.

        :raises RevisionInputError: if a revision cannot be written.
        """
        later: list[tuple[Changes, Wish, set[str]]] = []
        for part in in_order(self.comparison.packages[name] for name in packages):
            left_out = self._leave_out(part)
            values = preset(part, self.wish, self.graph)
            for changes in apply_hook(part, self.rows, values):
                pieces = [piece for each in self._by_phase(changes) for piece in self._split(each)]
                for each, message in zip(pieces, _messages(pieces, values.message), strict=True):
                    draft = each, replace(values, message=message), left_out
                    if each.phase is Phase.POST:
                        later.append(draft)
                    else:
                        self._add(*draft)
        for draft in later:  # so that no revision in phase pre depends on one in phase post
            self._add(*draft)

    def _by_phase(self, changes: Changes) -> list[Changes]:
        """Split changes by phase, unless the user's hook or the options are about a single revision."""
        is_whole = not self.phased or self.wish.phase or self.wish.rev_id is not None or has_hook(changes)
        is_new = not self.graph.of_package(changes.package)
        return [changes] if is_whole or is_new else split_by_phase(changes)

    def _split(self, changes: Changes) -> list[Changes]:
        """Split changes if that is needed, unless the user's hook or the options are about a single revision."""
        if self.safe is None:
            return [changes]
        is_whole = has_hook(changes) or self.wish.rev_id is not None
        parts = [changes] if is_whole else self.safe.split(changes)
        for part in parts:
            self.safe.replace(part)
        return parts

    def _add(self, changes: Changes, values: Wish, left_out: set[str]) -> None:
        last = self._last.get(changes.package)
        wish = replace(self.wish, message=values.message)
        new = prepare(self.project, self.graph, changes, wish, values, last=last)
        new = replace(new, phase=changes.phase or new.phase)
        depends_on = tuple(dict.fromkeys([*new.depends_on, *self._dependencies(changes, left_out)]))
        new = replace(new, depends_on=not_implied(self.graph, new.down_revisions, depends_on))
        draft = draft_revision(self.project, new, body(changes))
        for text in changes.warnings:
            self.warn(text)
        self.drafts.append(draft)
        self.changes.setdefault(changes.package, []).extend(describe(changes))
        self.graph = self.graph.with_revision(draft.revision)
        self._last[changes.package] = new.id
        self._created.update(map(table_key, changes.only(ops.CreateTableOp)))

    def _leave_out(self, changes: Changes) -> set[str]:
        """Remove the foreign keys to tables that no revision creates yet, and return the keys of these tables."""
        left_out = self._not_created_yet(changes)
        if left_out:
            changes.leave_out_references({*left_out})
            tables = f"the table{'s' if len(left_out) > 1 else ''} {', '.join(left_out)}"
            self.warn(
                f"The foreign keys to {tables} are left out, because the owner also depends on {changes.package}."
                " Write the owner's revision, apply both, and run this command again to add the foreign keys."
            )
        return {*left_out}

    def _not_created_yet(self, changes: Changes) -> list[str]:
        """Return the referenced tables that no revision creates yet, because their packages depend on this one, too.

        :raises RevisionInputError: if the package of such a table does not depend on this package, so its revision can
            be written first.
        """
        missing: list[str] = []
        package = changes.package
        for key in sorted(changes.references() - self._created - self.comparison.owners.history.keys()):
            owner = self.comparison.owners.owner(key)
            if owner in (None, package) or owner in self._stated(package) or self.comparison.has_table(key):
                continue
            if package not in self.comparison.owners.needed_by(str(owner)):
                stated = f" If a revision of {owner} creates the table in another way, add --depends-on {owner}."
                raise RevisionInputError(
                    f"{package} has a foreign key to the table {key} of {owner}, which no revision creates yet. Write"
                    f" a revision of {owner} first, with 'ampho db-rev {owner} MESSAGE --autogenerate'."
                    f"{stated if self.graph.of_package(str(owner)) else ''}",
                    package=package,
                )
            missing.append(key)
        return missing

    def _stated(self, package: str) -> set[str]:
        """Return the packages of all revisions that ``--depends-on`` requires.

        Their revisions may create tables in a way that Ampho does not see.
        """
        names = [single_revision(self.graph, package, name, "--depends-on") for name in self.wish.depends_on]
        return {self.graph[name].package for name in self.graph.ancestors(names)}

    def _dependencies(self, changes: Changes, left_out: set[str]) -> list[str]:
        """Return the heads of the packages whose revisions have to run first."""
        keys = (changes.references() | changes.changed()) - left_out
        needed = changes.needs.union(*(self._makers(key) for key in keys))
        for key, column in changes.removed():
            # Their revisions have to run first, even on an empty database.
            needed |= self.comparison.owners.users_of(key, column)
        found = [head for name in sorted(needed - {changes.package}) for head in self._heads(name, changes.package)]
        return found if changes.phase is Phase.POST else [self._before_post(head) for head in found]

    def _before_post(self, revision_id: str) -> str:
        """Return a revision, or the last one below it that does not have to wait until the old release is gone.

        What a package needs of another one is there by then: the revisions in phase ``post`` only drop and restrict.
        """
        while self.graph[revision_id].phase is Phase.POST and len(below := self.graph[revision_id].down_revisions) == 1:
            revision_id = below[0]
        return revision_id

    def _makers(self, key: str) -> set[str]:
        """Return the packages whose revisions a table depends on: the one that created it, and its current owner.

        A package without revisions is only returned if neither package has any.
        """
        makers = {self.comparison.owners.history.get(key), self.comparison.owners.models.get(key)}
        found = {owner for owner in makers if owner is not None}
        return {name for name in found if self.graph.of_package(name)} or found

    def _heads(self, owner: str, package: str) -> tuple[str, ...]:
        heads = self.graph.heads(owner)
        if heads and not self.graph.parallel_heads(owner):
            return heads
        have = f"has {len(heads)} heads, {', '.join(heads)}: merge them" if heads else "has no revisions: write one"
        raise RevisionInputError(f"{package} depends on {owner}, which {have} first.", package=package)


def _messages(parts: Sequence[Changes], message: str) -> Iterator[str]:
    """Yield the messages of the revisions that make some changes in parts, each with what is done in its part."""
    title, newline, rest = message.partition("\n")
    seen: set[str] = set()
    for part in parts:
        words = briefly(describe(part)) if len(parts) > 1 else ""
        again = " again" if words in seen else ""
        seen.add(words)
        yield f"{title.rstrip(' .:')}: {words}{again}{newline}{rest}" if words else message
