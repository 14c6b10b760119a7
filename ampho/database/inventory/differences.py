"""Comparing what a database contains with what it should contain."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from ampho.database.inventory.items import BY_MEANING, COLLATION, TABLE, Inventory, Item, Traits


@dataclass(frozen=True)
class Pair:
    """An item that both databases contain.

    :ivar expected: the item as it should be.
    :ivar present: the item as it is.
    """

    expected: Item
    present: Item


@dataclass
class Differences:
    """How a database differs from what it should contain. The parts of a missing or superfluous table are left out.

    :ivar missing: the items that the database lacks.
    :ivar superfluous: the items that it should not contain.
    :ivar different: the items that are different.
    :ivar renamed: constraints and indexes that only have another name.
    """

    missing: list[Item] = field(default_factory=list)
    superfluous: list[Item] = field(default_factory=list)
    different: list[Pair] = field(default_factory=list)
    renamed: list[Pair] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self.missing or self.superfluous or self.different)


def compare(expected: Inventory, present: Inventory) -> Differences:
    """Compare a database with what it should contain."""
    found = Differences()
    traits = _SameTraits(expected.collation, present.collation)
    wanted, had = ({inventory.key(item): item for item in _by_name(inventory)} for inventory in (expected, present))
    for key, item in wanted.items():
        if key not in had:
            found.missing.append(item)
        elif not traits.equal(item, had[key]):
            found.different.append(Pair(item, had[key]))
    found.superfluous += [item for key, item in had.items() if key not in wanted]
    wanted_parts, had_parts = _by_meaning(expected), _by_meaning(present)
    for place in {**wanted_parts, **had_parts}:
        _compare_parts(found, traits, wanted_parts[place], had_parts[place], present.fold)
    _leave_out_parts(found, expected.fold)
    return found


@dataclass(frozen=True)
class _SameTraits:
    """Compares traits. The default collations of the two databases count as the same.

    :ivar expected: the default collation of the one database.
    :ivar present: that of the other one.
    """

    expected: str
    present: str

    def equal(self, expected: Item, present: Item) -> bool:
        return expected.traits == present.traits or not self.differing(expected.traits, present.traits)

    def differing(self, expected: Traits, present: Traits) -> list[tuple[str, str, str]]:
        return [
            (name, here, there)
            for (name, there), (_, here) in zip(expected, present, strict=True)
            if here != there and not (name == COLLATION and (there, here) == (self.expected, self.present))
        ]


def _by_name(inventory: Inventory) -> Iterator[Item]:
    return (item for item in inventory.items if item.kind not in BY_MEANING)


def _by_meaning(inventory: Inventory) -> Mapping[tuple[str, str], list[Item]]:
    """Return the constraints and indexes, by their kinds and tables."""
    found: dict[tuple[str, str], list[Item]] = defaultdict(list)
    for item in inventory.items:
        if item.kind in BY_MEANING:
            found[item.kind, inventory.fold(item.table)].append(item)
    return found


def _compare_parts(
    found: Differences, traits: _SameTraits, wanted: Sequence[Item], had: Sequence[Item], fold: Callable[[str], str]
) -> None:
    """Compare constraints or indexes of one kind, of one table: first those that do the same, then those by name."""
    wanted, had = [*wanted], [*had]

    def pairs(is_pair: Callable[[Item, Item], bool]) -> Iterator[Pair]:
        for item in [*wanted]:
            other = next((each for each in had if is_pair(item, each)), None)
            if other is not None:
                wanted.remove(item)
                had.remove(other)
                yield Pair(item, other)

    def is_same_name(one: Item, other: Item) -> bool:
        return fold(one.name) == fold(other.name)

    for _ in pairs(lambda one, other: is_same_name(one, other) and traits.equal(one, other)):
        pass
    found.renamed += [
        pair for pair in pairs(traits.equal) if not (pair.expected.is_generated and pair.present.is_generated)
    ]
    found.different += pairs(lambda one, other: bool(one.name) and is_same_name(one, other))
    found.missing += wanted
    found.superfluous += had


def _leave_out_parts(found: Differences, fold: Callable[[str], str]) -> None:
    for items in (found.missing, found.superfluous):
        tables = {fold(item.name) for item in items if item.kind == TABLE}
        items[:] = [item for item in items if fold(item.table) not in tables]


def described(pair: Pair) -> str:
    """Return an item that is different, with what it is, and what it should be."""
    words = [
        f"{f'{name} ' if name else ''}{here or 'none'} instead of {there or 'none'}"
        for name, here, there in _SameTraits("", "").differing(pair.expected.traits, pair.present.traits)
    ]
    return f"{pair.present.label}: {', '.join(words)}"
