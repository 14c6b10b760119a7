"""Every command of both extensions, with each of its parameters, as type checkers have to see it."""

# pyright: strict

from __future__ import annotations

from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, assert_type

from sqlalchemy import URL, Column, Table
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from ampho import (
    Adopted,
    Ampho,
    AsyncAmpho,
    AsyncClone,
    AsyncSQLAlchemy,
    CurrentState,
    DatabaseStatus,
    Deployment,
    Direction,
    Drift,
    Entry,
    FleetStatus,
    Generated,
    HeadsCheck,
    Initialized,
    LintReport,
    Observer,
    Phase,
    Picture,
    Plan,
    Pruned,
    Revision,
    RevisionRecord,
    Run,
    Squashed,
    Stamped,
    reflect,
)
from ampho.aio.sqlalchemy import Pagination, RecordedQuery, get_recorded_queries

X = ["key=value"]


class Base(DeclarativeBase):
    id: Mapped[int] = mapped_column(primary_key=True)


OBSERVER = Observer()


def in_a_revision() -> None:
    assert_type(reflect("users"), Table)
    assert_type(reflect("users", "orders", schema="old"), tuple[Table, ...])


async def with_the_database(db: AsyncSQLAlchemy) -> None:
    class User(db.Model):  # type: ignore[misc, name-defined]
        id: Mapped[int] = db.mapped_column(primary_key=True)

    assert_type(await db.get_or_404(Base, 1, description="none"), Base)
    assert_type(await db.first_or_404(db.select(Base)), Base)
    assert_type(await db.one_or_404(db.select(Base.id)), int)
    page = await db.paginate(db.select(Base), page=1, per_page=20, max_per_page=100, error_out=False, count=False)
    assert_type(page, Pagination[Base])
    assert_type(await page.next(), Pagination[Base])
    assert_type(page.items, list[Base])
    assert_type(db.Column("name", db.String(50)), Column[str])
    assert_type(get_recorded_queries(), list[RecordedQuery])
    db.Table("user", db.Column("id", db.Integer), bind_key="audit")
    db.Table("user", db.metadata, db.Column("id", db.Integer))


def on_flask(ampho: Ampho, plan: Plan) -> None:
    assert_type(ampho.init("blog"), Initialized)
    assert_type(ampho.init_all(), tuple[Initialized, ...])
    assert_type(
        ampho.autogenerate(
            "Add posts",
            "blog",
            scratch=True,
            dry_run=True,
            asks=True,
            rename=["posts.name=title"],
            fill=["posts.likes=0"],
            safe=True,
            safe_above=1000,
            split=False,
            phase="post",
            depends_on=["core"],
            head="blog_1",
            splice=True,
            rev_id="blog_2",
            database="reports",
            x=X,
            observer=OBSERVER,
        ),
        tuple[Generated, ...],
    )
    assert_type(
        ampho.revision(
            "blog",
            "Add posts",
            autogenerate=True,
            phase="post",
            scratch=True,
            depends_on=["core"],
            head="blog_1",
            splice=True,
            rev_id="blog_2",
            database="reports",
            x=X,
            observer=OBSERVER,
        ),
        Revision | None,
    )
    assert_type(ampho.merge("blog", "Join", rev_id="blog_3"), Revision)
    assert_type(ampho.adopt("migrations", ["blog", "shop"], plan=True, accept=True, x=X, observer=OBSERVER), Adopted)
    assert_type(ampho.rebase("blog", x=X, observer=OBSERVER), Revision)
    assert_type(
        ampho.squash(
            "blog",
            start="blog_1",
            end="blog_3",
            keep=["blog_2"],
            message="Squash",
            dry_run=True,
            accept=True,
            x=X,
            observer=OBSERVER,
        ),
        Squashed,
    )
    assert_type(ampho.check_heads("blog"), tuple[HeadsCheck, ...])
    assert_type(ampho.write_heads(), tuple[Path, ...])
    assert_type(ampho.prune("blog", dry_run=True, x=X, observer=OBSERVER), Pruned)
    assert_type(
        ampho.check("blog", "core", scratch=True, database=["default", "reports"], x=X, observer=OBSERVER),
        tuple[Drift, ...],
    )
    assert_type(ampho.check_phases(diff_base="main", database="reports", x=X, observer=OBSERVER), Plan)
    assert_type(
        ampho.lint(
            "blog",
            exclude=["data-loss"],
            diff_base="origin/main",
            database=["default", "reports"],
            x=X,
            observer=OBSERVER,
        ),
        LintReport,
    )
    assert_type(
        ampho.plan("blog", direction=Direction.DOWNGRADE, cascade=True, database="reports", x=X, observer=OBSERVER),
        Plan,
    )
    assert_type(ampho.plan(direction="downgrade", phase="pre"), Plan)
    assert_type(
        ampho.upgrade(
            "blog",
            agreed=plan,
            phase="pre",
            keep_going=True,
            create=True,
            database=["reports"],
            x=X,
            observer=OBSERVER,
        ),
        Run,
    )
    assert_type(
        ampho.downgrade(
            "-1",
            cascade=True,
            accept_sources=True,
            confirm="app",
            fingerprint="3f9a1c02",
            agreed=plan,
            database="reports",
            x=X,
            observer=OBSERVER,
        ),
        Run,
    )
    assert_type(ampho.upgrade_sql("blog", phase="pre", start="base", database="reports", x=X, observer=OBSERVER), str)
    assert_type(
        ampho.downgrade_sql("blog@base", cascade=True, start=["blog_1"], database="reports", x=X, observer=OBSERVER),
        str,
    )
    assert_type(
        ampho.stamp(
            "heads",
            verify=True,
            purge=True,
            confirm="app",
            fingerprint="3f9a1c02",
            database="reports",
            x=X,
            observer=OBSERVER,
        ),
        Stamped,
    )
    assert_type(ampho.forget("blog", database="reports", x=X, observer=OBSERVER), Stamped)
    assert_type(ampho.resolve("blog_1", applied=True, database="reports", x=X, observer=OBSERVER), Stamped)
    assert_type(
        ampho.status("blog", "core", all=True, check=True, database=["default", "reports"], x=X, observer=OBSERVER),
        DatabaseStatus,
    )
    assert_type(
        ampho.survey("tenants", thorough=True, connections=4, x=X, observer=OBSERVER),
        FleetStatus,
    )
    assert_type(ampho.current(verbose=True, database=["default", "reports"], x=X, observer=OBSERVER), CurrentState)
    assert_type(ampho.deployment(database=["default", "reports"], x=X, observer=OBSERVER), Deployment)
    assert_type(ampho.wait(timeout=1.5, database=["default", "reports"], x=X, observer=OBSERVER), Deployment)
    assert_type(ampho.log(database=["default", "reports"], x=X, observer=OBSERVER), tuple[Entry, ...])
    assert_type(ampho.show("blog", observer=OBSERVER), tuple[RevisionRecord, ...])
    assert_type(ampho.graph("blog", full=True, database=False, x=X, observer=OBSERVER), Picture)
    assert_type(ampho.provision("tenants/acme", x=X, observer=OBSERVER), Run)
    made = ampho.template("heads", ["blog"], database="default", server="sqlite://", key="seeds", x=X)
    with made as template, template.clone("copy") as clone:
        assert_type(clone.url, URL)

    bound: Callable[[str], Run] = ampho.upgrade
    unbound: Callable[[Ampho, str], Run] = Ampho.upgrade
    assert_type(bound("heads"), Run)
    assert_type(unbound(ampho, "heads"), Run)


async def on_quart(ampho: AsyncAmpho, plan: Plan) -> None:
    assert_type(await ampho.init("blog"), Initialized)
    assert_type(await ampho.init_all(), tuple[Initialized, ...])
    assert_type(
        await ampho.autogenerate(
            "Add posts",
            "blog",
            scratch=True,
            dry_run=True,
            asks=True,
            rename=["posts.name=title"],
            fill=["posts.likes=0"],
            safe=True,
            safe_above=1000,
            split=False,
            phase="post",
            depends_on=["core"],
            head="blog_1",
            splice=True,
            rev_id="blog_2",
            database="reports",
            x=X,
            observer=OBSERVER,
        ),
        tuple[Generated, ...],
    )
    assert_type(
        await ampho.revision(
            "blog",
            "Add posts",
            autogenerate=True,
            phase="post",
            scratch=True,
            depends_on=["core"],
            head="blog_1",
            splice=True,
            rev_id="blog_2",
            database="reports",
            x=X,
            observer=OBSERVER,
        ),
        Revision | None,
    )
    assert_type(await ampho.merge("blog", "Join", rev_id="blog_3"), Revision)
    assert_type(
        await ampho.adopt("migrations", ["blog", "shop"], plan=True, accept=True, x=X, observer=OBSERVER), Adopted
    )
    assert_type(await ampho.rebase("blog", x=X, observer=OBSERVER), Revision)
    assert_type(
        await ampho.squash(
            "blog",
            start="blog_1",
            end="blog_3",
            keep=["blog_2"],
            message="Squash",
            dry_run=True,
            accept=True,
            x=X,
            observer=OBSERVER,
        ),
        Squashed,
    )
    assert_type(await ampho.check_heads("blog"), tuple[HeadsCheck, ...])
    assert_type(await ampho.write_heads(), tuple[Path, ...])
    assert_type(await ampho.prune("blog", dry_run=True, x=X, observer=OBSERVER), Pruned)
    assert_type(
        await ampho.check("blog", "core", scratch=True, database=["default", "reports"], x=X, observer=OBSERVER),
        tuple[Drift, ...],
    )
    assert_type(await ampho.check_phases(diff_base="main", database="reports", x=X, observer=OBSERVER), Plan)
    assert_type(
        await ampho.lint(
            "blog",
            exclude=["data-loss"],
            diff_base="origin/main",
            database=["default", "reports"],
            x=X,
            observer=OBSERVER,
        ),
        LintReport,
    )
    assert_type(
        await ampho.plan(
            "blog", direction=Direction.DOWNGRADE, cascade=True, database="reports", x=X, observer=OBSERVER
        ),
        Plan,
    )
    assert_type(await ampho.plan(direction="downgrade", phase=Phase.PRE), Plan)
    assert_type(
        await ampho.upgrade(
            "blog",
            agreed=plan,
            phase=Phase.PRE,
            keep_going=True,
            create=True,
            database=["reports"],
            x=X,
            observer=OBSERVER,
        ),
        Run,
    )
    assert_type(
        await ampho.downgrade(
            "-1",
            cascade=True,
            accept_sources=True,
            confirm="app",
            fingerprint="3f9a1c02",
            agreed=plan,
            database="reports",
            x=X,
            observer=OBSERVER,
        ),
        Run,
    )
    assert_type(
        await ampho.upgrade_sql("blog", phase="pre", start="base", database="reports", x=X, observer=OBSERVER), str
    )
    assert_type(
        await ampho.downgrade_sql(
            "blog@base", cascade=True, start=["blog_1"], database="reports", x=X, observer=OBSERVER
        ),
        str,
    )
    assert_type(
        await ampho.stamp(
            "heads",
            verify=True,
            purge=True,
            confirm="app",
            fingerprint="3f9a1c02",
            database="reports",
            x=X,
            observer=OBSERVER,
        ),
        Stamped,
    )
    assert_type(await ampho.forget("blog", database="reports", x=X, observer=OBSERVER), Stamped)
    assert_type(await ampho.resolve("blog_1", applied=True, database="reports", x=X, observer=OBSERVER), Stamped)
    assert_type(
        await ampho.status(
            "blog", "core", all=True, check=True, database=["default", "reports"], x=X, observer=OBSERVER
        ),
        DatabaseStatus,
    )
    assert_type(
        await ampho.survey("tenants", thorough=True, connections=4, x=X, observer=OBSERVER),
        FleetStatus,
    )
    assert_type(
        await ampho.current(verbose=True, database=["default", "reports"], x=X, observer=OBSERVER), CurrentState
    )
    assert_type(await ampho.deployment(database=["default", "reports"], x=X, observer=OBSERVER), Deployment)
    assert_type(await ampho.wait(timeout=1.5, database=["default", "reports"], x=X, observer=OBSERVER), Deployment)
    assert_type(await ampho.log(database=["default", "reports"], x=X, observer=OBSERVER), tuple[Entry, ...])
    assert_type(await ampho.show("blog", observer=OBSERVER), tuple[RevisionRecord, ...])
    assert_type(await ampho.graph("blog", full=True, database=False, x=X, observer=OBSERVER), Picture)
    assert_type(await ampho.provision("tenants/acme", x=X, observer=OBSERVER), Run)
    made = await ampho.template("heads", ["blog"], database="default", server="sqlite://", key="seeds", x=X)
    async with made as template, template.clone("copy") as clone:
        assert_type(clone.url, URL)
    last: AsyncClone = await made.clone()
    assert_type(last.url, URL)

    bound: Callable[[str], Coroutine[Any, Any, Run]] = ampho.upgrade
    unbound: Callable[[AsyncAmpho, str], Coroutine[Any, Any, Run]] = AsyncAmpho.upgrade
    assert_type(await bound("heads"), Run)
    assert_type(await unbound(ampho, "heads"), Run)
