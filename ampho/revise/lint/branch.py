"""Finding the files that a git branch adds or changes."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Collection
from pathlib import Path

from ampho._text import one_line
from ampho.errors import LinterError
from ampho.history.graph import Graph

_SECONDS = 60


def repository_root() -> Path | None:
    """Return the root of the git repository that contains the current folder; None if there is none, or no git."""
    try:
        return Path(os.path.realpath(_root()))
    except LinterError:
        return None


def changed_files(base: str, *, only_added: bool = False) -> frozenset[str]:
    """Return the real paths of the files that the current branch adds or changes, including uncommitted ones.

    Files that are only renamed, deleted, or ignored by git are left out.

    :param base: the branch or commit to compare with: the files are compared with its merge base with the current one.
    :param only_added: whether to leave out the files that exist in that commit.
    :raises LinterError: if there is no repository, no such commit, or no merge base.
    """
    root = _root()
    start = _merge_base(root, base)
    # These options override the user's configuration of git.
    fields = _git(root, "diff", "--name-status", "-z", "-M", "--no-relative", "--no-ext-diff", start, "--").split("\0")
    found = _git(root, "ls-files", "--others", "--exclude-standard", "-z").split("\0")
    while len(fields) > 1:
        status, path = fields.pop(0), fields.pop(0)
        if status[0] in "RC":
            path = fields.pop(0)
        if status[0] in "AC" if only_added else status[0] != "D" and status != "R100":
            found.append(path)
    return frozenset(os.path.realpath(os.path.join(root, path)) for path in found if path)  # noqa: PTH118 (for realpath)


def revisions_in(files: Collection[str], graph: Graph) -> set[str]:
    """Return the ids of the revisions in files, which are given by their real paths."""
    return {rid for rid in graph.ids if graph.has_file(rid) and os.path.realpath(graph[rid].file) in files}


def _root() -> str:
    return _git(".", "rev-parse", "--show-toplevel").rstrip("\n")


def _merge_base(root: str, base: str) -> str:
    try:
        commit = _git(root, "rev-parse", "--verify", "--quiet", "--end-of-options", f"{base}^{{commit}}").strip()
    except LinterError as exc:
        if _git(root, "rev-parse", "--is-shallow-repository").strip() == "true" and not base.startswith("origin/"):
            raise _is_shallow(base) from exc
        name = base.removeprefix("origin/")
        fetch = (
            f"fetch it with 'git fetch origin {name}:refs/remotes/origin/{name}'"
            if name != base
            else f"fetch it with 'git fetch origin tag {name}' if it is a tag; a branch of the remote is origin/{name}"
        )
        raise LinterError(
            f"git has no branch, tag, or commit {base!a} to compare with. Correct --diff-base, or {fetch}."
        ) from exc
    try:
        return _git(root, "merge-base", commit, "HEAD").strip()
    except LinterError as exc:
        if _git(root, "rev-parse", "--is-shallow-repository").strip() == "true":
            raise _is_shallow(base) from exc
        raise LinterError(
            f"The current branch and {base} have no common commit. Correct --diff-base, or commit something first."
        ) from exc


def _is_shallow(base: str) -> LinterError:
    return LinterError(
        f"This clone is shallow, so git does not know where the branch left {base}. Fetch the whole history"
        " with 'git fetch --unshallow', or clone with 'fetch-depth: 0' on GitHub and 'GIT_DEPTH: 0' on GitLab."
    )


def _git(folder: str, *arguments: str) -> str:
    """Return what git prints in a folder.

    :raises LinterError: if it fails, or is not installed.
    """
    command = ["git", "-C", folder, *arguments]
    try:
        done = subprocess.run(command, capture_output=True, timeout=_SECONDS, check=False)  # noqa: S603 (fixed program)
    except (OSError, subprocess.SubprocessError) as exc:
        raise LinterError(
            f"--diff-base needs git, which cannot be run: {one_line(str(exc))}. Install git, or leave out --diff-base."
        ) from exc
    if done.returncode:
        why = one_line(done.stderr.decode("utf-8", "replace")).removeprefix("fatal: ")
        raise LinterError(f"--diff-base needs a git repository. git says: {why.rstrip('.')}. Run it in a repository.")
    return os.fsdecode(done.stdout)
