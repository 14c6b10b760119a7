"""What the help shows in addition to Click's own: the purposes and the examples of the commands.

A command without a purpose is listed below the others. An example is what to type after ``ampho``, and what it does.
A test runs all of them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import click

PURPOSES: Mapping[str, Sequence[str]] = {
    "Write migrations": ("db-init", "db-rev", "db-merge", "db-rebase"),
    "Change the database": ("db-up", "db-down", "db-stamp", "db-forget", "db-resolve"),
    "See where it is": ("db-status", "db-current", "db-show", "db-graph", "db-heads", "db-log"),
    "Check and wait": ("db-check", "db-lint", "db-wait"),
    "Get help": ("explain",),
}
OTHERS = "More commands"
CHANGING = frozenset(PURPOSES["Write migrations"]) | frozenset(PURPOSES["Change the database"])

EXAMPLES: Mapping[str, Mapping[str, str]] = {
    "ampho": {
        "db-init blog": "create the migrations folder of blog",
        'db-rev blog "Add posts" -a': "write a revision from its models",
        "db-up": "apply everything that is pending",
    },
    "db-init": {
        "db-init blog": "write blog/migrations",
        "db-init acme.billing:alembic": "write acme/billing/alembic",
    },
    "db-rev": {
        'db-rev blog "Add tags"': "an empty revision",
        'db-rev blog "Add tags" -a': "filled from its models",
        'db-rev blog "Add likes" --depends-on shop': "depends on the head of shop",
    },
    "db-merge": {
        "db-merge blog": "merge all heads of blog",
        'db-merge blog "Join tags and likes"': "the same, with a message",
    },
    "db-rebase": {"db-rebase blog": "turn two parallel lines into one"},
    "db-up": {
        "db-up": "everything",
        "db-up blog": "blog, and what it depends on",
        "db-up blog@+1": "the next revision of blog",
        "db-up --plan": "what it would do, and why",
        "db-up -s > up.sql": "the SQL instead",
    },
    "db-down": {
        "db-down": "the revision applied last",
        "db-down blog@-1": "the last one of blog",
        "db-down blog@base --cascade": "all of it, and what depends on it",
        "db-down blog@base --cascade --plan": "what that would revert",
    },
    "db-stamp": {
        "db-stamp blog": "all tables of blog exist",
        "db-stamp blog@base": "none of them exists",
    },
    "db-forget": {"db-forget reviews --yes": "its package was uninstalled"},
    "db-resolve": {
        "db-resolve blog_1767607200 --applied": "it was finished by hand",
        "db-resolve blog_1767607200 --not-applied": "it was reverted by hand",
    },
    "db-status": {
        "db-status": "one row per package",
        "db-status --all": "each revision, with a mark",
        "db-status --check": "fail unless it is up to date",
    },
    "db-current": {
        "db-current": "one line per package",
        "db-current -v": "also each revision",
    },
    "db-show": {
        "db-show": "all revisions",
        "db-show blog": "the revisions of blog",
        "db-show blog@head": "the head of blog, in full",
    },
    "db-graph": {
        "db-graph": "on the terminal",
        "db-graph blog -o blog.svg": "the history of blog, in a file",
    },
    "db-heads": {"db-heads": "the heads of each package"},
    "db-log": {
        "db-log -n 5": "the last five entries",
        "db-log -v": "all details of each entry",
    },
    "db-check": {
        "db-check": "do the models match the database?",
        "db-check blog --scratch": "do the models match the revisions?",
        "db-check --deploy": "can this code run on this database?",
    },
    "db-lint": {
        "db-lint": "all pending revisions",
        "db-lint blog --exclude irreversible": "without this rule",
    },
    "db-wait": {"db-wait --timeout 300": "give up after five minutes"},
    "explain": {
        "explain": "the names of all errors",
        "explain DependentsError": "what it means, and what to do",
    },
}

_MOST_WIDTH = 48


def write_commands(commands: Mapping[str, click.Command], formatter: click.HelpFormatter) -> None:
    """Write the commands, grouped by purpose."""
    known = {name for names in PURPOSES.values() for name in names}
    width = max(map(len, commands), default=0)
    limit = formatter.width - formatter.current_indent - width - 4
    for purpose, names in [*PURPOSES.items(), (OTHERS, [name for name in commands if name not in known])]:
        rows = [(f"{name:<{width}}", commands[name].get_short_help_str(limit)) for name in names if name in commands]
        if rows:
            with formatter.section(purpose):
                formatter.write_dl(rows)


def write_examples(ctx: click.Context, formatter: click.HelpFormatter) -> None:
    """Write the examples of a command, as typed in this context: ``ampho db-up`` or ``flask ampho db-up``."""
    group = ctx if isinstance(ctx.command, click.Group) else ctx.parent
    examples = EXAMPLES.get(str(ctx.command.name), {})
    if group is not None and examples:
        with formatter.section("Examples"):
            formatter.write_dl([(f"{group.command_path} {line}", does) for line, does in examples.items()], _MOST_WIDTH)
