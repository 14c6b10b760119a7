"""The commands. Each one parses its arguments, calls a method of ``Commands``, and shows the result."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from contextlib import redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from ampho._text import counted, shown_path
from ampho.cli import completion
from ampho.cli.asking import generated
from ampho.cli.call import call
from ampho.cli.databases import (
    database,
    database_option,
    databases,
    listing,
    report_groups,
    split,
)
from ampho.cli.fleet.options import Options, fleet_options
from ampho.cli.graph.output import FORMATS, format_of, print_picture
from ampho.cli.group import AmphoGroup, SpecifierType
from ampho.cli.json import json_option, print_json, print_reserved, reserve_stdout, wants_json
from ampho.cli.lines import say, warn, write
from ampho.cli.progress import reporting
from ampho.cli.reporter import WarningsOnly
from ampho.cli.show import is_verbose, print_text, show, show_text, version_rows
from ampho.cli.show.lists import AllGenerated, AllInitialized, Drifts, Heads, HeadsChecks, Log, Revisions
from ampho.cli.terminal import can_answer, can_ask
from ampho.commands import Commands
from ampho.errors import AmphoError, ProtectedError
from ampho.history.homes import ANY
from ampho.settings import CONFIRM

if TYPE_CHECKING:
    from ampho.history.revision import Revision
    from ampho.migrate.plan import Plan, Run
    from ampho.revise.adopt.adopt import Adopted
    from ampho.revise.squash.squash import Squashed
    from ampho.status.deployment import Deployment
    from ampho.status.fleet import FleetStatus
    from ampho.status.state import CurrentState
    from ampho.status.summary import DatabaseStatus

T = TypeVar("T")

_SPEC = SpecifierType()
_WARNINGS = WarningsOnly()

_x = click.option(
    "-x",
    "x",
    multiple=True,
    metavar="KEY=VALUE",
    help="Pass an argument to env.py and revisions (context.get_x_argument()). Repeatable.",
)
_sql = click.option("-s", "--sql", is_flag=True, help="Print the SQL that would run, without running it.")
_plan = click.option(
    "--plan", "planned", is_flag=True, help="Print the steps and the reason for each, without running them."
)
_confirm = click.option(
    "--confirm", metavar="DATABASE", help="The name of the protected database (AMPHO_PROTECTED), to confirm the change."
)
_phase = click.option(
    "--phase",
    type=click.Choice(["pre", "post"]),
    help="pre: hold back what has to wait until the old release of the app is gone. post: apply the rest.",
)
_scratch = click.option(
    "--scratch", is_flag=True, help="Compare with a temporary database built from all revisions, instead of the app's."
)
_start = click.option(
    "--start",
    multiple=True,
    type=_SPEC,
    metavar="REV",
    help="With --sql, start from this revision or 'base', not from the current state of the database. Repeatable.",
)


def _on_files(command: Callable[..., object]) -> Callable[..., object]:
    """Add ``--json`` to a command that receives Click's context."""
    return json_option(click.pass_context(command))


def _on_database(command: Callable[..., object]) -> Callable[..., object]:
    """Add ``-d``, ``-x``, and ``--json`` to a command that receives Click's context."""
    return database_option(_x(_on_files(command)))


def _on_one_database(command: Callable[..., object]) -> Callable[..., object]:
    """Add the same options to a command for which ``-d`` can only name one database."""
    return database_option(_x(_on_files(command)), is_repeatable=False)


@click.group("ampho", cls=AmphoGroup, invoke_without_command=True)
@click.option("-v", "--verbose", is_flag=True, help="Print more details.")
@click.pass_context
def cli(ctx: click.Context, verbose: bool) -> None:
    """Manage the migrations of a database, package by package.

    SPEC is a package (app), a revision id or the beginning of one, app@head, app@+1, app@-1, app@base, heads, base, or
    a number of steps such as +1 or -1. The prefix db- is optional, as in 'ampho up'.
    """
    begin(ctx, verbose=verbose)


def begin(ctx: click.Context, *, verbose: bool) -> None:
    """Keep the options of the group. Without a command, print what to do next."""
    ctx.meta["ampho.verbose"] = verbose
    if ctx.invoked_subcommand is None:
        from ampho.cli.next_steps import print_next_steps

        print_next_steps(ctx)


@cli.command("db-init")
@click.argument("package", required=False, shell_complete=completion.new_packages)
@_on_files
def db_init(ctx: click.Context, package: str | None) -> None:
    """Create the migrations folder of PACKAGE.

    The folder is called 'migrations'. Use PACKAGE:FOLDER for another name. Without PACKAGE, create the folders of all
    listed packages that have none.
    """
    if package is None:
        show(ctx, AllInitialized(call(ctx, Commands.init_all)))
    else:
        show(ctx, call(ctx, Commands.init, package))


@cli.command("db-adopt")
@click.argument("source", required=False, type=click.Path(path_type=Path))
@click.option(
    "--into",
    "package",
    metavar="PACKAGE",
    shell_complete=completion.any_packages,
    help="The package that gets the history, or several, separated by commas, over which it is split. By default, the"
    " only one that is listed.",
)
@click.option("--plan", "planned", is_flag=True, help="Print what would be done, without doing it.")
@click.option(
    "--yes",
    is_flag=True,
    help="With several packages, do not ask about statements that the new revisions contain only as comments.",
)
@_x
@_on_files
def db_adopt(
    ctx: click.Context,
    source: Path | None,
    package: str | None,
    *,
    planned: bool,
    yes: bool,
    x: tuple[str, ...],
) -> None:
    """Move the history of another tool into packages.

    SOURCE is the folder that contains env.py, such as 'migrations', a folder with revision files, an alembic.ini, or a
    pyproject.toml. Without SOURCE, use what the app or the current folder has. With one package, the ids of the
    revisions stay the same; of several branches, those with the label of a listed package go into it. With several
    packages, each gets a first revision that replaces the old ones, which temporary databases prove. No database is
    changed.
    """

    def adopt(*, plan: bool) -> Adopted:
        return call(ctx, Commands.adopt, source, package, plan=plan, accept=True, x=x, observer=_WARNINGS)

    if not planned and not yes and package and "," in package:
        plan = adopt(plan=True)
        if any(part.carried for part in plan.written):
            from ampho.cli.show.revise import print_parts

            print_parts(plan, before_question=True)
            _ask("Split the history, with these statements only as comments?")
    show(ctx, adopt(plan=planned))


@cli.command("db-rev")
@click.argument("package", required=False, shell_complete=completion.packages)
@click.argument("message", required=False, metavar="MESSAGE")
@click.option(
    "--depends-on",
    multiple=True,
    metavar="REV",
    shell_complete=completion.names,
    help="A revision or package that the new revision depends on. Repeatable.",
)
@click.option(
    "--head",
    metavar="REV",
    shell_complete=completion.revisions,
    help="The revision to revise, if PACKAGE has several heads.",
)
@click.option("--splice", is_flag=True, help="Allow a --head that another revision already revises.")
@click.option("--rev-id", metavar="ID", help="Use this id instead of a generated one.")
@click.option(
    "-a",
    "--autogenerate",
    is_flag=True,
    help="Fill in the changes that make the database match the models. Without PACKAGE, do so for all packages.",
)
@click.option("--dry-run", is_flag=True, help="With -a, print what differs, without writing a file.")
@click.option(
    "--rename",
    multiple=True,
    metavar="OLD=NEW",
    help="With -a, a rename, such as users.name=full_name, or carts=baskets for a table. Repeatable.",
)
@click.option(
    "--fill",
    multiple=True,
    metavar="COLUMN=VALUE",
    help="With -a, a value for existing rows of a column that must not be NULL, such as users.age=0; for a dropped"
    " column, the downgrade uses it. Repeatable.",
)
@click.option(
    "--phase",
    type=click.Choice(["pre", "post"]),
    help="Whether the revision runs before a new release of the app starts, or after the old one is gone.",
)
@click.option("--no-split", is_flag=True, help="With -a, write one revision even if its changes belong to both phases.")
@click.option("--safe", is_flag=True, help="With -a, change existing tables in ways that do not block the app.")
@click.option(
    "--safe-above",
    type=click.IntRange(0),
    metavar="ROWS",
    help="With -a, the same, but only for tables with more rows.",
)
@_scratch
@_on_database
def db_rev(
    ctx: click.Context,
    /,
    package: str | None,
    message: str | None,
    *,
    depends_on: tuple[str, ...],
    head: str | None,
    splice: bool,
    rev_id: str | None,
    autogenerate: bool,
    dry_run: bool,
    rename: tuple[str, ...],
    fill: tuple[str, ...],
    phase: str | None,
    no_split: bool,
    safe: bool,
    safe_above: int | None,
    scratch: bool,
    x: tuple[str, ...],
) -> None:
    """Create a revision of PACKAGE.

    With -a and without PACKAGE, create a revision of each package whose models differ from the database.
    """
    if message is None:
        package, message = None, package
    if message is None or (package is None and not autogenerate):
        name = message if message and message.replace(".", "").isidentifier() else "PACKAGE"
        raise click.UsageError(
            f"PACKAGE or MESSAGE is missing. Run 'ampho db-rev {name} MESSAGE', or 'ampho db-rev -a MESSAGE' for all"
            " packages."
        )
    if package is None and (depends_on or head is not None or splice or rev_id is not None):
        raise click.UsageError("--depends-on, --head, --splice, and --rev-id need a PACKAGE.")
    of_autogenerate = {
        "--dry-run": dry_run,
        "--rename": rename,
        "--fill": fill,
        "--no-split": no_split,
        "--safe": safe,
        "--safe-above": safe_above is not None,
        "--database": databases(ctx),
    }
    if not autogenerate and (given := [option for option, value in of_autogenerate.items() if value]):
        raise click.UsageError(f"{given[0]} requires --autogenerate.")
    if scratch and safe_above is not None:
        raise click.UsageError("--safe-above counts the rows of the app's database, so it excludes --scratch.")
    if package is not None and not autogenerate:
        new = call(
            ctx,
            Commands.revision,
            package,
            message,
            phase=phase,
            depends_on=depends_on,
            head=head,
            splice=splice,
            rev_id=rev_id,
            observer=_WARNINGS,
        )
        show(ctx, new, _wrote(new) if new else None)
        return
    found = listing(
        AllGenerated,
        lambda: generated(
            ctx,
            lambda rename, fill, asks: call(
                ctx,
                Commands.autogenerate,
                message,
                *filter(None, [package]),
                scratch=scratch,
                dry_run=dry_run,
                asks=asks,
                rename=rename,
                fill=fill,
                safe=safe,
                safe_above=safe_above,
                split=not no_split,
                phase=phase,
                depends_on=depends_on,
                head=head,
                splice=splice,
                rev_id=rev_id,
                database=databases(ctx),
                x=x,
                observer=_WARNINGS,
            ),
            rename,
            fill,
        ),
    )
    if package is not None and wants_json(ctx) and not dry_run:
        print_json(ctx, next(iter(found[0].revisions), None), AllGenerated(found))
    else:
        show(ctx, found)


def _wrote(revision: Revision) -> str:
    return f"Wrote {shown_path(revision.path)}"


@cli.command("db-up")
@click.argument("spec", type=_SPEC, default="heads")
@click.option("-k", "--keep-going", is_flag=True, help="If a database fails, continue with the other databases.")
@_plan
@_sql
@_start
@_phase
@click.option("--all", "everything", is_flag=True, help="Upgrade all databases, and then those of all groups.")
@fleet_options
@_on_database
def db_up(
    ctx: click.Context,
    /,
    spec: str,
    *,
    keep_going: bool,
    phase: str | None,
    planned: bool,
    sql: bool,
    start: tuple[str, ...],
    everything: bool,
    x: tuple[str, ...],
    **options: Any,
) -> None:
    """Upgrade the database to SPEC.

    By default, apply all pending revisions.
    """
    wanted = Options(keep_going=keep_going, **options)
    if (sql or planned) and wanted.first:
        raise click.UsageError(
            f"{wanted.first} cannot be combined with {'--sql' if sql else '--plan'}, which runs nothing."
        )
    _check_combination(ctx, planned=planned, sql=sql, start=start)
    if everything and databases(ctx):
        raise click.UsageError("--all and --database are mutually exclusive.")
    names = (ANY,) if everything else databases(ctx)
    if planned:
        plan = call(ctx, Commands.plan, spec, phase=phase, database=names, x=x, observer=_WARNINGS)
        _show_plan(ctx, plan)
        ctx.exit(4 if plan.left_out else 0)  # as for the upgrade itself
    elif sql:
        _print_sql(
            lambda: call(
                ctx,
                Commands.upgrade_sql,
                spec,
                phase=phase,
                start=start or None,
                database=database(ctx),
                x=x,
                observer=_WARNINGS,
            )
        )
    else:
        _upgrade(ctx, spec, names, wanted, x, phase=phase)


def _upgrade(
    ctx: click.Context,
    spec: str,
    names: Sequence[str] | None,
    options: Options,
    x: tuple[str, ...],
    *,
    phase: str | None,
) -> None:
    single, members = (names, []) if names is None else call(ctx, split, names, spec)
    if options.of_groups and not members:
        raise click.UsageError(
            f"{options.of_groups} is only for groups of databases, such as with '--database tenants'."
        )
    results: list[object] = []
    exit_code, is_of_several = 0, False
    if single is None or single:
        try:
            with reporting() as reporter:
                reporter.selected = single or ()
                run = call(
                    ctx,
                    Commands.upgrade,
                    spec,
                    phase=phase,
                    keep_going=options.keep_going,
                    create=options.create,
                    database=single,
                    x=x,
                    observer=reporter,
                )
            print_text(run, ctx)
            results.append(run)
            is_of_several = run.plan.is_of_several
        except AmphoError as exc:
            if not (options.keep_going and members):
                raise
            say(f"Error: {exc}", err=True, colors={"Error:": "red"})
            results.append(exc)
            exit_code = exc.exit_code
    if members:
        from ampho.cli.fleet.run import upgrade_members

        report, code = upgrade_members(ctx, spec, members, options, x, phase=phase)
        print_text(report, ctx)
        results.append(report)
        exit_code = code or exit_code
    elif names is None and is_of_several:
        call(ctx, report_groups, "To upgrade them, add --all.")
    if wants_json(ctx):
        print_json(ctx, *results)
    ctx.exit(exit_code)


@cli.command("db-down")
@click.argument("spec", type=_SPEC, default="-1")
@click.option("--cascade", is_flag=True, help="Also revert dependent revisions of other packages.")
@click.option("-y", "--yes", is_flag=True, help="Do not ask for confirmation.")
@_confirm
@_plan
@_sql
@_start
@_on_one_database
def db_down(
    ctx: click.Context,
    /,
    spec: str,
    *,
    cascade: bool,
    yes: bool,
    confirm: str | None,
    planned: bool,
    sql: bool,
    start: tuple[str, ...],
    x: tuple[str, ...],
) -> None:
    """Downgrade the database to SPEC.

    By default, revert the last revision.
    """
    if (sql or planned) and (yes or confirm is not None):
        given = "--yes" if yes else "--confirm"
        raise click.UsageError(
            f"{given} cannot be combined with {'--sql' if sql else '--plan'}, which changes nothing."
        )
    _check_combination(ctx, planned=planned, sql=sql, start=start)
    if planned:
        _show_plan(ctx, _plan_downgrade(ctx, spec, cascade, x))
    elif sql:
        starts = start or None
        _print_sql(
            lambda: call(
                ctx,
                Commands.downgrade_sql,
                spec,
                cascade=cascade,
                start=starts,
                database=database(ctx),
                x=x,
                observer=_WARNINGS,
            )
        )
    else:
        ask = not yes and confirm is None and can_ask()
        agreed = _agreed_plan(ctx, spec, cascade, x) if ask else None
        accepts = yes or (agreed is not None and any(step.revision.source for step in agreed.steps))
        with reporting() as reporter:
            run = _confirmed(
                lambda name: call(
                    ctx,
                    Commands.downgrade,
                    spec,
                    cascade=cascade,
                    accept_sources=accepts,
                    confirm=name,
                    fingerprint=_fingerprint(),
                    agreed=agreed,
                    database=database(ctx),
                    x=x,
                    observer=reporter,
                ),
                confirm,
            )
        _show_run(ctx, run)


def _check_combination(ctx: click.Context, *, planned: bool, sql: bool, start: tuple[str, ...]) -> None:
    if start and not sql:
        raise click.UsageError(
            "--start requires --sql. Without --sql, the command starts from the current state of the database."
        )
    if sql and wants_json(ctx):
        raise click.UsageError("--json cannot be combined with --sql.")
    if planned and sql:
        raise click.UsageError("--plan and --sql are mutually exclusive.")


def _plan_downgrade(ctx: click.Context, spec: str, cascade: bool, x: tuple[str, ...]) -> Plan:
    return call(
        ctx,
        Commands.plan,
        spec,
        direction="downgrade",
        cascade=cascade,
        database=database(ctx),
        x=x,
        observer=_WARNINGS,
    )


def _show_run(ctx: click.Context, run: Run) -> None:
    if wants_json(ctx):
        # The lines of the steps went to standard error, and the summary belongs below them.
        print_text(run, ctx)
    show(ctx, run)


def _agreed_plan(ctx: click.Context, spec: str, cascade: bool, x: tuple[str, ...]) -> Plan:
    """Return the plan of a downgrade after the user has agreed to it.

    The command only asks if the plan involves several packages, may lose data, leaves the schema as it is, follows a
    failed upgrade, or needs sources from the journal. If the database is protected, it shows the plan, and asks for the
    name of the database later.
    """
    plan = _plan_downgrade(ctx, spec, cascade, x)
    is_unusual = len(plan.packages) > 1 or plan.failed or plan.only_upgrades
    if is_unusual or any(step.losses or step.revision.source for step in plan.steps):
        if plan.failed or plan.only_upgrades:
            warn(plan.warning)
        from ampho.cli.show.migrate import print_plan

        print_plan(plan, before_question=True)
        if not plan.protected:
            click.confirm("Revert these revisions?", abort=True, err=True)
    return plan


def _show_plan(ctx: click.Context, plan: Plan) -> None:
    if plan.warning:
        warn(plan.warning)
    show(ctx, plan)


def _confirmed(change: Callable[[str | None], T], confirm: str | None) -> T:
    """Return the result of ``change``. If the database is protected, ask the user to type its name.

    :param change: a function that changes the database; its argument is the name that confirms the change, or None.
    """
    try:
        return change(confirm)
    except ProtectedError as exc:
        if confirm is not None or not can_ask():
            raise
        say(f"{exc.deed} The database {exc.database} is protected.", err=True)
        typed = click.prompt("Type its name to continue", default="", show_default=False, err=True)
        if not typed:
            raise
    return change(typed)


def _fingerprint() -> str | None:
    """Return the value of ``AMPHO_CONFIRM``, which a process without a terminal needs, or None on a terminal.

    A value without a colon gets one, because a fingerprint alone confirms nothing.
    """
    value = os.environ.get(CONFIRM, "").strip()
    return None if can_answer() else f":{value}" if value and ":" not in value else value


def _print_sql(render: Callable[[], str]) -> None:
    # The output of the app and of revisions must not be mixed with the statements.
    with redirect_stdout(sys.stderr):
        sql = render()
    write(sql)
    if not sql:
        say("Nothing to do.", err=True)


@cli.command("db-merge")
@click.argument("package", shell_complete=completion.packages)
@click.argument("message", default="Merge heads")
@click.option("--rev-id", metavar="ID", help="Use this id instead of a generated one.")
@_on_files
def db_merge(ctx: click.Context, package: str, message: str, rev_id: str | None) -> None:
    """Create a revision that merges the heads of PACKAGE."""
    new = call(ctx, Commands.merge, package, message, rev_id=rev_id)
    show(ctx, new, _wrote(new))


@cli.command("db-rebase")
@click.argument("package", shell_complete=completion.packages)
@_x
@_on_files
def db_rebase(ctx: click.Context, package: str, x: tuple[str, ...]) -> None:
    """Move one of two parallel lines of PACKAGE after the other.

    The later line moves, so its revisions must not have been applied to the database.
    """
    moved = call(ctx, Commands.rebase, package, x=x, observer=_WARNINGS)
    show(ctx, moved, f"{moved.id} now revises {', '.join(moved.down_revisions)}: {shown_path(moved.path)}")


@cli.command("db-squash")
@click.argument("package", shell_complete=completion.packages)
@click.argument("message", default="", metavar="[MESSAGE]")
@click.option(
    "--from", "start", metavar="REV", shell_complete=completion.revisions, help="The first revision to replace."
)
@click.option("--to", "end", metavar="REV", shell_complete=completion.revisions, help="The last revision to replace.")
@click.option(
    "--keep",
    multiple=True,
    metavar="REV",
    shell_complete=completion.revisions,
    help="A revision to keep, with what is before and after it replaced on its own. Repeatable.",
)
@click.option(
    "--plan", "planned", is_flag=True, help="Print what would be replaced, without using a database, or writing."
)
@click.option("-y", "--yes", is_flag=True, help="Do not ask for confirmation.")
@click.option("--prune", is_flag=True, help="Delete the files of revisions that were replaced earlier, instead.")
@_x
@_on_files
def db_squash(
    ctx: click.Context,
    /,
    package: str,
    message: str,
    *,
    start: str | None,
    end: str | None,
    keep: tuple[str, ...],
    planned: bool,
    yes: bool,
    prune: bool,
    x: tuple[str, ...],
) -> None:
    """Replace the revisions of PACKAGE by a single one.

    Temporary databases prove that it makes the same schema. The files of the replaced revisions are kept for databases
    that have only a part of them, until --prune deletes them.
    """
    if prune:
        if message or start or end or keep:
            raise click.UsageError("--prune cannot be combined with MESSAGE, --from, --to, or --keep.")
        _prune(ctx, package, planned=planned, yes=yes, x=x)
        return

    def squash(*, dry_run: bool = False) -> Squashed:
        return call(
            ctx,
            Commands.squash,
            package,
            start=start,
            end=end,
            keep=keep,
            message=message,
            dry_run=dry_run,
            accept=not dry_run,
            x=x,
            observer=_WARNINGS,
        )

    if planned or not yes:
        plan = squash(dry_run=True)
        if planned:
            show(ctx, plan)
            return
        if plan.carried:
            from ampho.cli.show.revise import print_carried

            print_carried(plan, before_question=True)
            _ask("Replace the revisions, with these statements only as comments?")
    show(ctx, squash())


def _prune(ctx: click.Context, package: str, *, planned: bool, yes: bool, x: tuple[str, ...]) -> None:
    if planned or not yes:
        plan = call(ctx, Commands.prune, package, dry_run=True)
        if planned:
            show(ctx, plan)
            return
        say(plan.consequence, err=True)
        _ask(f"Delete {counted(len(plan.files), 'file')}?")
    show(ctx, call(ctx, Commands.prune, package, x=x, observer=_WARNINGS))


def _ask(question: str) -> None:
    """Ask a question, and end the command unless the user agrees."""
    if not can_ask():
        raise click.UsageError("Cannot ask for confirmation without a terminal. Add --yes to confirm.")
    click.confirm(question, abort=True, err=True)


@cli.command("db-heads")
@click.option(
    "--write", "writes", is_flag=True, help="Write the file HEADS of each package, so that git finds conflicts."
)
@_on_files
def db_heads(ctx: click.Context, writes: bool) -> None:
    """Print the heads of each package.

    One head in each package is normal. Several heads in one package are a conflict.
    """
    for path in call(ctx, Commands.write_heads) if writes else ():
        say(f"Wrote {shown_path(path)}")
    show(ctx, Heads.of(call(ctx, Commands.show, "heads", observer=_WARNINGS)))


@cli.command("db-stamp")
@click.argument("spec", type=_SPEC)
@click.option(
    "--verify", is_flag=True, help="First compare the database with what these revisions make; fail if it differs."
)
@click.option("--purge", is_flag=True, help="First remove all version rows, including those of missing revisions.")
@_confirm
@_on_one_database
def db_stamp(
    ctx: click.Context, /, spec: str, *, verify: bool, purge: bool, confirm: str | None, x: tuple[str, ...]
) -> None:
    """Mark revisions as applied or not applied, without running them.

    SPEC and everything that it depends on are marked as applied, and everything that depends on SPEC as not applied.
    """
    done = _confirmed(
        lambda name: call(
            ctx,
            Commands.stamp,
            spec,
            verify=verify,
            purge=purge,
            confirm=name,
            fingerprint=_fingerprint(),
            database=database(ctx),
            x=x,
            observer=_WARNINGS,
        ),
        confirm,
    )
    show(ctx, done)


@cli.command("db-forget")
@click.argument("name", metavar="PACKAGE")
@click.option("-y", "--yes", is_flag=True, help="Do not ask for confirmation.")
@_on_one_database
def db_forget(ctx: click.Context, name: str, yes: bool, x: tuple[str, ...]) -> None:
    """Forget the missing revisions of PACKAGE, but keep its tables.

    To forget only one of them, pass its id instead of PACKAGE.
    """
    from ampho.cli.show.status import print_missing

    def look(commands: Commands) -> CurrentState:
        name = commands.project().homes.select_one(database(ctx), "db-forget")
        return commands.current(database=name, x=x, observer=_WARNINGS)

    state = call(ctx, look)
    missing = print_missing(state, name, stderr=not yes)
    if missing and not yes:
        _ask("Forget these revisions?")
    show(ctx, call(ctx, Commands.forget, name, database=database(ctx), x=x, observer=_WARNINGS))


@cli.command("db-resolve")
@click.argument("revision", metavar="REV", shell_complete=completion.revisions)
@click.option("--applied/--not-applied", default=None, help="Whether the database now contains the change of REV.")
@_on_one_database
def db_resolve(ctx: click.Context, revision: str, applied: bool | None, x: tuple[str, ...]) -> None:
    """Mark the unfinished revision REV as applied or not applied.

    A revision is unfinished if it was interrupted, or failed halfway, and the database could not roll it back.
    """
    if applied is None:
        raise click.UsageError("Add --applied or --not-applied.")
    done = call(ctx, Commands.resolve, revision, applied=applied, database=database(ctx), x=x, observer=_WARNINGS)
    state = "applied" if applied else "not applied"
    show(ctx, done, f"{revision} is now marked as {state}. Version rows: {version_rows(done.after)}")


@cli.command("db-log")
@click.option("-n", "--number", type=click.IntRange(min=1), metavar="N", help="Print only the last N entries.")
@click.option("-v", "--verbose", is_flag=True, help="Print all details of each entry.")
@_on_database
def db_log(ctx: click.Context, number: int | None, verbose: bool, x: tuple[str, ...]) -> None:
    """Print what was done to the database, by whom, and when.

    The entries come from the journal, with the oldest first.
    """
    last = slice(-number if number else None, None)
    show(
        ctx,
        listing(
            lambda found: Log(found[last]),
            lambda: call(ctx, Commands.log, database=databases(ctx), x=x, observer=_WARNINGS),
        ),
    )


@cli.command("db-check")
@click.argument("packages", nargs=-1, metavar="[PACKAGE]...", shell_complete=completion.packages)
@_scratch
@click.option("--deploy", is_flag=True, help="Check only whether this code can run on this database.")
@click.option("--heads", is_flag=True, help="Check only whether each package has one head, without a database.")
@click.option("--phases", is_flag=True, help="Check only whether 'db-up --phase pre' can run on this database.")
@click.option(
    "--phase",
    type=click.Choice(["pre"]),
    help="With --deploy, ignore pending revisions that can wait until the old release is gone.",
)
@click.option(
    "--diff-base",
    metavar="REF",
    help="With --phases, check what the git branch adds since it left REF, without a database.",
)
@click.option("-v", "--verbose", is_flag=True, help="Also print the operations of a revision as code.")
@_on_database
def db_check(
    ctx: click.Context,
    /,
    packages: tuple[str, ...],
    *,
    scratch: bool,
    deploy: bool,
    heads: bool,
    phases: bool,
    phase: str | None,
    diff_base: str | None,
    verbose: bool,
    x: tuple[str, ...],
) -> None:
    """Compare the models with the database.

    By default, compare the models of all packages. The exit code is 1 if there are differences.
    """
    if phase and not deploy:
        raise click.UsageError("--phase requires --deploy. To check the phases, use --phases.")
    if diff_base and not phases:
        raise click.UsageError("--diff-base requires --phases.")
    if deploy and phases:
        raise click.UsageError("--deploy and --phases are mutually exclusive.")
    if (deploy or phases) and (packages or scratch):
        raise click.UsageError(f"{'--deploy' if deploy else '--phases'} cannot be combined with packages or --scratch.")
    if heads:
        _check_heads(ctx, packages)
    elif deploy:
        _check_deployment(ctx, phase, x)
    elif phases:
        _check_phases(ctx, diff_base, x)
    else:
        _check_models(ctx, packages, x, scratch=scratch)


def _check_deployment(ctx: click.Context, phase: str | None, x: tuple[str, ...]) -> None:
    names = databases(ctx)

    def look(commands: Commands) -> Deployment | FleetStatus:
        if commands.project().homes.select_groups(names):
            return commands.survey(names, thorough=True, x=x, observer=_WARNINGS).in_phase(phase)
        found = commands.deployment(database=names, x=x, observer=_WARNINGS).in_phase(phase)
        if names is None:
            report_groups(commands)
        return found

    deployment = call(ctx, look)
    code, number = deployment.status.exit_code, deployment.total
    have = "The database has" if number == 1 else f"All {number:,} databases have"
    is_ready = phase and number and code == 0
    show(ctx, deployment, f"{have} what this release of the app needs." if is_ready else None)
    ctx.exit(code)


def _check_phases(ctx: click.Context, diff_base: str | None, x: tuple[str, ...]) -> None:
    plan = call(ctx, Commands.check_phases, diff_base=diff_base, database=databases(ctx), x=x, observer=_WARNINGS)
    if plan.warning:
        warn(plan.warning)
    pre, post = (len({step.revision.id for step in steps}) for steps in (plan.steps, plan.held_back))
    show(ctx, plan, f"The phases are in order: {counted(pre)} in phase pre, {post} held back for phase post.")


def _check_models(ctx: click.Context, packages: tuple[str, ...], x: tuple[str, ...], *, scratch: bool) -> None:
    drifts = listing(
        Drifts,
        lambda: call(ctx, Commands.check, *packages, scratch=scratch, database=databases(ctx), x=x, observer=_WARNINGS),
    )
    show(ctx, drifts)
    if any(drift.operations for drift in drifts):
        ctx.exit(1)


def _check_heads(ctx: click.Context, packages: tuple[str, ...]) -> None:
    others = [name for name, value in ctx.params.items() if value and name not in ("heads", "packages", "verbose")]
    if others or databases(ctx):
        other = "-x" if others == ["x"] else f"--{(others or ['database'])[0]}"
        raise click.UsageError(f"--heads cannot be combined with {other}, because it only reads files.")
    checks = HeadsChecks(call(ctx, Commands.check_heads, *packages))
    show(ctx, checks)
    if any(each.problem for each in checks):
        ctx.exit(1)


def _reserve(ctx: click.Context, param: click.Parameter, value: str) -> str:
    if value != "text":
        reserve_stdout(ctx)
    return value


@cli.command("db-lint")
@click.argument("names", nargs=-1, metavar="[PACKAGE|REV]...", shell_complete=completion.names)
@click.option("--exclude", multiple=True, metavar="RULE", help="Ignore this rule. Repeatable.")
@click.option("--diff-base", metavar="REF", help="Check what the git branch adds or changes since it left REF.")
@click.option(
    "--format",
    "format_",
    type=click.Choice(["text", "github", "gitlab", "sarif"]),
    default="text",
    callback=_reserve,
    help="Print annotations for GitHub or GitLab, or SARIF.",
)
@_on_database
def db_lint(
    ctx: click.Context,
    *,
    names: tuple[str, ...],
    exclude: tuple[str, ...],
    diff_base: str | None,
    format_: str,
    x: tuple[str, ...],
) -> None:
    """Check revisions for dangerous operations before they run.

    By default, check all pending revisions. PACKAGE limits this to the pending revisions of a package, and REV to a
    single revision, even if it has already been applied. The exit code is 1 if there are findings.
    """
    if wants_json(ctx) and format_ != "text":
        raise click.UsageError("--json and --format are mutually exclusive.")
    report = call(
        ctx,
        Commands.lint,
        *names,
        exclude=exclude,
        diff_base=diff_base,
        database=databases(ctx),
        x=x,
        observer=_WARNINGS,
    )
    if format_ == "text":
        show(ctx, report)
    else:
        from ampho.cli.show.annotations import annotate
        from ampho.revise.lint.branch import repository_root

        print_reserved(ctx, annotate(report, format_, repository_root() or Path()))
    if report.violations:
        ctx.exit(1)


@cli.command("db-wait")
@click.option(
    "--timeout",
    type=click.FloatRange(min=0),
    default=60.0,
    metavar="SECONDS",
    help="How long to wait; 60 seconds by default.",
)
@_on_database
def db_wait(ctx: click.Context, timeout: float, x: tuple[str, ...]) -> None:
    """Wait until another process has brought the database up to date.

    A database that is ahead of this code is also considered up to date.
    """
    names = databases(ctx)

    def wait(commands: Commands) -> Deployment:
        found = commands.wait(timeout=timeout, database=names, x=x, observer=_WARNINGS)
        if names is None:
            report_groups(commands)
        return found

    show(ctx, call(ctx, wait))


@cli.command("db-status")
@click.argument("packages", nargs=-1, metavar="[PACKAGE]...", shell_complete=completion.packages)
@click.option(
    "-a",
    "--all",
    "all_",
    is_flag=True,
    help="List each revision instead of a table of the packages. For a group, list all databases not up to date.",
)
@click.option("--check", is_flag=True, help="Exit with a code other than 0 if the database is not up to date.")
@_on_database
def db_status(ctx: click.Context, packages: tuple[str, ...], all_: bool, check: bool, x: tuple[str, ...]) -> None:
    """Print what is applied and pending, one row per package.

    By default, print all packages.
    """
    names = databases(ctx)

    def look(commands: Commands) -> DatabaseStatus | FleetStatus:
        if not commands.project().homes.select_groups(names):
            found = commands.status(*packages, all=all_, check=check, database=names, x=x, observer=_WARNINGS)
            if names is None and not packages:
                report_groups(commands)
            return found
        if packages:
            raise click.UsageError("PACKAGE cannot be combined with a group of databases. Name one of its databases.")
        return commands.survey(names, x=x, observer=_WARNINGS)

    status = call(ctx, look)
    show(ctx, status)
    if check:
        ctx.exit(status.status.exit_code)


@cli.command("db-current")
@click.option("-v", "--verbose", is_flag=True, help="List each revision.")
@_on_database
def db_current(ctx: click.Context, verbose: bool, x: tuple[str, ...]) -> None:
    """Print what is applied, one line per package."""
    show(ctx, call(ctx, Commands.current, verbose=is_verbose(ctx), database=databases(ctx), x=x, observer=_WARNINGS))


@cli.command("db-graph")
@click.argument("packages", nargs=-1, metavar="[PACKAGE]...", shell_complete=completion.packages)
@click.option("--full", is_flag=True, help="Draw each revision instead of collapsing chains of revisions.")
@click.option("--no-database", is_flag=True, help="Draw only the revision files, without connecting to the database.")
@click.option(
    "--format",
    "form",
    type=click.Choice(FORMATS),
    help="The output format; by default, the format for the extension of FILE, or text.",
)
@click.option("--mermaid", is_flag=True, help="The same as --format mermaid.")
@click.option(
    "-o",
    "--output",
    "file",
    type=click.Path(dir_okay=False, writable=True, allow_dash=True),
    metavar="FILE",
    help="Write to this file instead of standard output.",
)
@_on_database
def db_graph(
    ctx: click.Context,
    /,
    packages: tuple[str, ...],
    *,
    full: bool,
    no_database: bool,
    form: str | None,
    mermaid: bool,
    file: str | None,
    x: tuple[str, ...],
) -> None:
    """Draw the history, and mark what is applied.

    Each package has a lane. If you name packages, the drawing contains only these, and the revisions of other packages
    that are connected to them.
    """
    if mermaid and form not in (None, "mermaid"):
        raise click.UsageError(f"--mermaid and --format {form} are mutually exclusive.")
    if wants_json(ctx) and (mermaid or form or file):
        raise click.UsageError("--json cannot be combined with --format, --mermaid, or -o.")
    form = "mermaid" if mermaid else form or format_of(file or "")
    picture = call(
        ctx,
        Commands.graph,
        *packages,
        full=full,
        database=False if no_database else databases(ctx),
        x=x,
        observer=_WARNINGS,
    )
    if wants_json(ctx):
        print_json(ctx, picture)
    elif form == "text" and file in (None, "-"):
        show_text(ctx, picture)
    elif picture.databases:
        raise click.UsageError(
            f"A file contains the history of one database, and there are {len(picture.databases)}. Add --database, or"
            " --no-database for all packages without what is applied."
        )
    else:
        print_picture(picture, form, file)


@cli.command("db-show")
@click.argument("spec", type=_SPEC, required=False)
@_on_files
def db_show(ctx: click.Context, spec: str | None) -> None:
    """List revisions, or print one revision in full.

    By default, list the revisions of all packages.
    """
    show(ctx, Revisions(call(ctx, Commands.show, spec, observer=_WARNINGS)))


@cli.command("explain")
@click.argument("name", required=False, shell_complete=completion.errors)
def explain(name: str | None) -> None:
    """Explain an error, and what to do about it.

    Without NAME, list all errors.
    """
    from ampho.cli.show.errors import print_entry, print_names

    if name is None:
        print_names()
    else:
        print_entry(name)
