"""Questions that only the developer can answer: whether an object was renamed, and which value existing rows get."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from shlex import quote


@dataclass(frozen=True, slots=True)
class Question:
    """A question about the changes of a package.

    The command line asks it on a terminal. The answer is an argument of the option ``--rename`` or ``--fill``.

    :ivar option: the option that takes the answer, ``--rename`` or ``--fill``.
    :ivar object: the kind of the object: ``table``, ``column``, ``index``, or ``constraint``; for ``--fill``,
        ``column`` or ``new column``.
    :ivar name: the object that is gone from the models, or the column that has no value for existing rows, such as
        ``users.name``.
    :ivar choices: the possible new names, with the likeliest first; empty for ``--fill``.
    :ivar detail: the type of the column; empty for ``--rename``.
    :ivar check: for ``--fill``, a function that raises a ``RevisionInputError`` if a text is not a value of the column.
    """

    option: str
    object: str
    name: str
    choices: tuple[str, ...] = ()
    detail: str = ""
    check: Callable[[str], str] | None = field(default=None, compare=False, repr=False)

    @property
    def text(self) -> str:
        """The question as a sentence, without the possible answers."""
        if self.option == "--fill":
            return f"{self._rule}. Which value do {self._rows} get?"
        article = "" if self.object == "column" else f"the {self.object} "
        prefix, dot, _ = self.name.rpartition(".")
        new = " or ".join(f"{article}{prefix}{dot}{choice}" for choice in self.choices)
        gone = f"{article}{self.name}"
        if len(self.choices) == 1:
            return f"{gone[0].upper() if article else gone[0]}{gone[1:]} is gone and {new} is new: a rename?"
        return f"{gone[0].upper() if article else gone[0]}{gone[1:]} is gone. Was it renamed to {new}?"

    @property
    def warning(self) -> str:
        """The question as a warning, for a command that cannot ask, with the option that answers it."""
        if self.option == "--fill":
            return (
                f"{self._rule}, so the revision may fail on a table with rows. To give {self._rows} a value, add --fill"
                f" {quote(self.name)}=VALUE."
            )
        ways = " or ".join(f"--rename {quote(self.answer(choice))}" for choice in self.choices)
        return f"{self.text} If so, add {ways}."

    @property
    def _rule(self) -> str:
        is_new = self.object == "new column"
        return f"{self.name} ({self.detail}) must not be NULL{' and has no default' if is_new else ' any more'}"

    @property
    def _rows(self) -> str:
        return "existing rows" if self.object == "new column" else "rows with NULL"

    def answer(self, value: str) -> str:
        """Return the argument of the option for an answer."""
        return f"{self.name}={value}"
