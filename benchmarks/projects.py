"""Synthetic projects of P packages with R revisions each, where every revision makes one small table.

The same project is written twice: as Alembic's revision files, a folder for each package, and as Django's apps. With
dependencies, each 10th revision depends on the revision of the same number in the package before. Nothing here imports
more than the standard library, since the floor's own process imports it, too.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

STEP = 10
"""With dependencies, each revision whose number is a multiple of this depends on one of the package before."""

_SHAPE = re.compile(r"(?P<packages>[1-9]\d*)x(?P<revisions>[1-9]\d*)(?P<dependencies>\+deps)?")

_REVISION = '''\
"""Make {table}."""

import sqlalchemy as sa
from alembic import op

revision = "{id}"
down_revision = {down!r}
branch_labels = {labels!r}
depends_on = {depends_on!r}


def upgrade():
    op.create_table(
        "{table}",
        sa.Column("id", sa.Integer(), primary_key=True),
        sa.Column("name", sa.String(50), nullable=False),
    )


def downgrade():
    op.drop_table("{table}")
'''

_MIGRATION = """\
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = {dependencies!r}
    operations = [
        migrations.CreateModel(
            name="{model}",
            fields=[
                ("id", models.AutoField(primary_key=True)),
                ("name", models.CharField(max_length=50)),
            ],
        ),
    ]
"""

_DJANGO = {
    "manage.py": """\
import os
import sys

from django.core.management import execute_from_command_line

os.environ["DJANGO_SETTINGS_MODULE"] = "settings"
execute_from_command_line(sys.argv)
""",
    # Django has a command for each app, and none for all. One process that runs them all is kinder to it.
    "unmigrate.py": """\
import os

import django
from django.conf import settings
from django.core.management import call_command

os.environ["DJANGO_SETTINGS_MODULE"] = "settings"
django.setup()
for app in reversed(settings.INSTALLED_APPS):
    call_command("migrate", app, "zero")
""",
    "settings.py": """\
import os
from urllib.parse import unquote, urlsplit

url = urlsplit(os.environ["BENCH_URL"])
if url.scheme.startswith("sqlite"):
    DATABASES = {{"default": {{"ENGINE": "django.db.backends.sqlite3", "NAME": unquote(url.path[1:])}}}}
else:
    DATABASES = {{
        "default": {{
            "ENGINE": "django.db.backends.postgresql",
            "NAME": url.path[1:],
            "USER": url.username,
            "PASSWORD": unquote(url.password or ""),
            "HOST": url.hostname,
            "PORT": url.port,
        }}
    }}
INSTALLED_APPS = {packages!r}
DEFAULT_AUTO_FIELD = "django.db.models.AutoField"
SECRET_KEY = "of no use"
USE_TZ = True
""",
}


@dataclass(frozen=True)
class Revision:
    """A revision: ``parents`` are the revisions that it stands on, the one before it in its package first."""

    id: str
    package: str
    number: int
    down: str | None
    depends_on: str | None

    @property
    def parents(self) -> tuple[str, ...]:
        return tuple(parent for parent in (self.down, self.depends_on) if parent)

    @property
    def model(self) -> str:
        return f"T{self.number:04}"

    @property
    def table(self) -> str:
        return f"{self.package}_t{self.number:04}"

    @property
    def migration(self) -> str:
        """What Django calls it."""
        return f"{self.number:04}_t{self.number:04}"


@dataclass(frozen=True)
class RowChange:
    """The version rows that a revision takes away and puts there, on the way up."""

    revision: Revision
    removed: tuple[str, ...]
    added: tuple[str, ...]


@dataclass(frozen=True)
class Shape:
    """The size of a project."""

    packages: int
    revisions: int
    dependencies: bool = False

    @classmethod
    def parse(cls, name: str) -> Shape:
        found = _SHAPE.fullmatch(name)
        if found is None:
            raise ValueError(f"{name!r} is not a size like 50x20 or 50x20+deps")
        return cls(int(found["packages"]), int(found["revisions"]), found["dependencies"] is not None)

    def __str__(self) -> str:
        return f"{self.packages}x{self.revisions}{'+deps' if self.dependencies else ''}"

    @property
    def total(self) -> int:
        return self.packages * self.revisions

    @property
    def package_names(self) -> list[str]:
        return [f"p{number:03}" for number in range(self.packages)]

    def __iter__(self) -> Iterator[Revision]:
        """The revisions, each after those that it stands on."""
        before = None
        for package in self.package_names:
            for number in range(1, self.revisions + 1):
                down = f"{package}_{number - 1:04}" if number > 1 else None
                depends = f"{before}_{number:04}" if before and self.dependencies and number % STEP == 0 else None
                yield Revision(f"{package}_{number:04}", package, number, down, depends)
            before = package

    @cached_property
    def ids(self) -> frozenset[str]:
        return frozenset(revision.id for revision in self)

    @cached_property
    def tables(self) -> frozenset[str]:
        return frozenset(revision.table for revision in self)

    @cached_property
    def tips(self) -> frozenset[str]:
        """The revisions that no other one stands on: the exact version rows when everything is applied."""
        return self.ids - {parent for revision in self for parent in revision.parents}

    def row_changes(self) -> Iterator[RowChange]:
        """What each revision does to the version rows, if the packages are upgraded one after the other."""
        rows: set[str] = set()
        for revision in self:
            removed = tuple(parent for parent in revision.parents if parent in rows)
            rows -= set(removed)
            rows.add(revision.id)
            yield RowChange(revision, removed, (revision.id,))


def write_alembic(shape: Shape, folder: Path) -> None:
    """Write the packages with Alembic's revision files."""
    for package in shape.package_names:
        (folder / package / "migrations" / "versions").mkdir(parents=True)
        (folder / package / "__init__.py").touch()
    for revision in shape:
        text = _REVISION.format(
            id=revision.id,
            table=revision.table,
            down=revision.down,
            labels=None if revision.down else (revision.package,),
            depends_on=revision.depends_on,
        )
        (versions(folder, revision.package) / f"{revision.id}.py").write_text(text, "utf-8")


def versions(folder: Path, package: str) -> Path:
    """The folder of a package's revision files."""
    return folder / package / "migrations" / "versions"


def write_django(shape: Shape, folder: Path) -> None:
    """Write the packages as Django's apps, without models, as everywhere here: they would cost it time."""
    folder.mkdir(parents=True)
    for name, text in _DJANGO.items():
        (folder / name).write_text(text.format(packages=shape.package_names) if "{{" in text else text, "utf-8")
    for package in shape.package_names:
        (folder / package / "migrations").mkdir(parents=True)
        (folder / package / "__init__.py").touch()
        (folder / package / "migrations" / "__init__.py").touch()
    migrations = {revision.id: (revision.package, revision.migration) for revision in shape}
    for revision in shape:
        dependencies = [migrations[parent] for parent in revision.parents]
        text = _MIGRATION.format(dependencies=dependencies, model=revision.model)
        (folder / revision.package / "migrations" / f"{revision.migration}.py").write_text(text, "utf-8")
