"""What git tells about a renamed column: its place in the earlier version of the model."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from collections.abc import Iterator
from cProfile import Profile
from pathlib import Path

import pytest

from ampho.revise.autogenerate.ask.earlier import Earlier, Versions, model_columns

MODEL = """
class UserNote(Base):
    id: Mapped[int] = mapped_column(primary_key=True)
    name = db.Column(db.String(50), nullable=False)
    owner = db.relationship("User")
    city = db.Column("town", db.String(50))
    phone: Mapped[str]
"""
NAME = "model_of_a_test"


@pytest.fixture
def module(tmp_path: Path) -> Iterator[Path]:
    path = tmp_path / f"{NAME}.py"
    path.write_text(MODEL, "utf-8")
    spec = importlib.util.spec_from_file_location(NAME, path)
    assert spec is not None
    sys.modules[NAME] = importlib.util.module_from_spec(spec)
    yield path
    del sys.modules[NAME]


def commit(folder: Path) -> None:
    git = ["git", "-C", str(folder), "-c", "user.name=a", "-c", "user.email=a@b"]
    for command in (["init", "-q"], ["add", "."], ["commit", "-qm", "A commit"]):
        subprocess.run([*git, *command], check=True)


def test_the_columns_of_a_model_are_read_from_its_source() -> None:
    assert [*model_columns(MODEL, "user_note")] == ["id", "name", "town", "phone"]
    assert [*model_columns(MODEL.replace("    id", "    __tablename__ = 'notes'\n    id"), "notes")][:2] == [
        "id",
        "name",
    ]
    assert model_columns(MODEL, "users") == {}
    assert model_columns("class (", "users") == {}


def test_a_line_that_was_changed_in_place_is_recognized(module: Path) -> None:
    commit(module.parent)
    module.write_text(
        MODEL.replace("name =", "title =").replace("    phone", "    note: Mapped[str]\n    phone"), "utf-8"
    )

    versions = Earlier().versions(NAME, "user_note", "name")

    assert versions is not None
    assert versions.places("name", "title") == (True, True)
    assert versions.places("name", "note") == (False, False)
    assert versions.places("town", "title") is None


def test_the_newest_version_that_has_the_column_counts(module: Path) -> None:
    commit(module.parent)
    module.write_text(MODEL.replace("name =", "title ="), "utf-8")
    commit(module.parent)

    versions = Earlier().versions(NAME, "user_note", "name")

    assert versions is not None
    assert versions.places("name", "title") == (True, True)


def test_the_class_of_a_renamed_table_is_recognized(module: Path) -> None:
    commit(module.parent)
    module.write_text(MODEL.replace("UserNote", "Note"), "utf-8")
    assert Earlier().tables(NAME) == {"UserNote": "user_note"}


def test_a_module_is_parsed_once_for_all_of_its_models(module: Path) -> None:
    module.write_text("\n".join(MODEL.replace("UserNote", f"Note{number}") for number in range(50)), "utf-8")
    commit(module.parent)
    earlier, counts = Earlier(), list[int]()
    for numbers in (range(1), range(1, 50)):
        profile = Profile(builtins=False)
        profile.runcall(lambda numbers=numbers: [earlier.versions(NAME, f"note{each}", "name") for each in numbers])
        counts.append(sum(entry.callcount for entry in profile.getstats()))
    assert counts[1] < 3 * counts[0]


@pytest.mark.parametrize("state", ["no repository", "not in it", "no git", "slow git", "no file"])
def test_without_git_nothing_is_known(state: str, module: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if state == "not in it":
        subprocess.run(["git", "-C", str(module.parent), "init", "-q"], check=True)
    elif state == "no repository":
        monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(module.parent.parent))
    else:
        commit(module.parent)
    if state == "no git":
        monkeypatch.setenv("PATH", "")
    elif state == "slow git":
        fake = module.parent / "bin"
        fake.mkdir()
        (fake / "git").write_text("#!/bin/sh\nexec sleep 60\n", "utf-8")
        (fake / "git").chmod(0o755)
        monkeypatch.setenv("PATH", f"{fake}:{os.environ['PATH']}")
        monkeypatch.setattr("ampho.revise.autogenerate.ask.earlier._SECONDS", 0.1)
    elif state == "no file":
        module.unlink()

    assert Earlier().versions(NAME, "user_note", "name") is None
    assert Earlier().tables(NAME) == ({"UserNote": "user_note"} if state == "no file" else {})


def test_places_are_counted_from_the_last_column_that_stayed() -> None:
    before, now = ({name: name for name in names} for names in (["a", "x", "y", "b"], ["a", "p", "q", "b"]))
    versions = Versions(before, now)
    assert {(old, new): versions.places(old, new) for old in "xy" for new in "pq"} == {
        ("x", "p"): (True, False),
        ("x", "q"): (False, False),
        ("y", "p"): (False, False),
        ("y", "q"): (True, False),
    }
