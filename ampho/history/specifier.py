"""Parse specifiers, which users type to name revisions, and look up the names in them.

The meaning of a specifier also depends on the command and the database; see :mod:`ampho.migrate.plan`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from ampho._text import did_you_mean, listed
from ampho.errors import SpecifierError
from ampho.history.graph import Branch, Graph

_OFFSET = re.compile(r"[+-][0-9]+")
_NUMBER = re.compile(r"[1-9][0-9]{0,3}")  # a longer number is more likely to be part of an id
_NAME_AND_OFFSET = re.compile(r"(?P<name>.+?)(?P<offset>[+-][0-9]+)")
_MAX_LENGTH = 300
_MAX_DIGITS = 7

MISSING = "missing"
"""The specifier of a downgrade that stands for all missing revisions, unless a package, label, or id has this name."""


@dataclass(frozen=True, slots=True)
class Specifier:
    """The parts of a specifier.

    :ivar text: the specifier as the user typed it.
    :ivar branch: the name before ``@``, or None.
    :ivar target: ``head``, ``heads``, ``base``, or a name; empty if there is an offset.
    :ivar offset: the number of steps, such as 2 for ``+2`` and -1 for ``-1``, or 0.
    """

    text: str
    branch: str | None
    target: str
    offset: int = 0


def parse(text: str) -> Specifier:
    """Return the parts of a specifier, or raise a ``SpecifierError`` if it is malformed."""
    if not text.strip() or not text.isprintable() or len(text) > _MAX_LENGTH:
        raise SpecifierError(
            f"{text[:60]!a} is not a specifier. Type a package, a revision id, or 'heads'.", specifier=text
        )
    if ":" in text:
        raise SpecifierError(f"{text} is a range, which is not allowed here. Type one revision.", specifier=text)
    branch, at, rest = text.strip().rpartition("@")
    if at and (not branch or not rest or "@" in branch):
        raise SpecifierError(f"{text} is malformed. Write PACKAGE@head, PACKAGE@+1, or PACKAGE@ID.", specifier=text)
    if _OFFSET.fullmatch(rest):
        if len(rest) > _MAX_DIGITS or not int(rest):
            raise SpecifierError(f"{text} is not a valid number of steps. Type 1 or more.", specifier=text)
        return Specifier(text, branch or None, "", int(rest))
    return Specifier(text, branch or None, rest)


def find_branch(graph: Graph, name: str, specifier: str) -> Branch:
    """Return the branch of a package or a label, or raise a ``SpecifierError`` if ``name`` is neither."""
    branch = graph.branch(name)
    if branch is None:
        guess = did_you_mean(name, [*graph.packages, *graph.labels])
        raise _unknown(name, specifier, "is not a package with migrations here", guess)
    return branch


def find_target(graph: Graph, spec: Specifier, sign: str = "") -> Branch | str:
    """Return the branch, or the id of the revision, that a specifier names.

    A name is looked up first as a package, then as a full id, as another label, and as a unique prefix of an id.

    :param sign: the sign of offsets in this command, so that an error can suggest ``+2`` instead of ``2``.
    :raises SpecifierError: if no revision matches, several match, or the match belongs to another package.
    """
    if spec.branch is None and (spec.target in graph.packages or spec.target not in graph):
        found = graph.branch(spec.target)
        if found is not None:
            return found
    branch = None if spec.branch is None else find_branch(graph, spec.branch, spec.text)
    revision_id = _find_id(graph, spec, branch, sign)
    if branch is not None and revision_id not in branch.ids:
        raise SpecifierError(
            f"{revision_id} belongs to {graph[revision_id].package}, not to {branch.name}. Type {revision_id}.",
            specifier=spec.text,
        )
    return revision_id


def check_one_head(graph: Graph, branch: Branch, spec: Specifier) -> None:
    """Raise a ``SpecifierError`` if a branch has several heads."""
    heads = graph.tips(branch.ids)
    if len(heads) > 1:
        raise SpecifierError(
            f"{spec.text}: {branch.name} has {len(heads)} heads: {', '.join(heads)}. Type one of them, or"
            f" {branch.name}@heads.",
            specifier=spec.text,
        )


def _find_id(graph: Graph, spec: Specifier, branch: Branch | None, sign: str) -> str:
    if spec.target in graph:
        return spec.target
    candidates = graph.ids if branch is None else branch.ids
    matches = [revision_id for revision_id in candidates if revision_id.startswith(spec.target)]
    if len(matches) == 1:
        return matches[0]
    if matches:
        raise SpecifierError(
            f"{len(matches)} ids start with {spec.target}: {listed(sorted(matches))}. Type more of the id.",
            specifier=spec.text,
        )
    if instead := graph.replacements(spec.target):
        raise SpecifierError(
            f"{spec.target} was replaced. Type {' or '.join(instead)}, which {'has' if len(instead) == 1 else 'have'}"
            " replaced it.",
            specifier=spec.text,
        )
    both = _NAME_AND_OFFSET.fullmatch(spec.target)
    if both and (both["name"] in graph or graph.branch(both["name"])):
        raise SpecifierError(
            f"{spec.text}: Ampho does not count steps from a name. Type PACKAGE@{both['offset']}, or an id.",
            specifier=spec.text,
        )
    guess = _guess(graph, spec, candidates, sign)
    raise _unknown(spec.target, spec.text, "is neither a package, a revision id, nor the beginning of one", guess)


def _guess(graph: Graph, spec: Specifier, candidates: Iterable[str], sign: str) -> str:
    """Return a suggestion for an unknown name, as a question, or an empty string if there is none."""
    if sign and _NUMBER.fullmatch(spec.target):
        return f"Did you mean {spec.text.removesuffix(spec.target)}{sign}{spec.target}?"
    if spec.branch is None:
        return did_you_mean(spec.target, ["heads", "base", *graph.packages, *graph.labels, *graph.ids])
    own = did_you_mean(spec.target, ["head", "heads", "base", *candidates], f"{spec.branch}@{{}}")
    return own or did_you_mean(spec.target, graph.ids)


def _unknown(name: str, specifier: str, what: str, guess: str) -> SpecifierError:
    remedy = guess or "'ampho db-show' lists the packages and their revisions."
    return SpecifierError(f"{name} {what}. {remedy}", specifier=specifier)
