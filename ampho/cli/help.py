"""The purposes and examples of the commands, which the help shows in addition to Click's own text.

An example consists of the text to type after ``ampho``, and a short explanation. A test runs all examples. A command
without a purpose is listed below the others.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import click

PURPOSES: Mapping[str, Sequence[str]] = {
    "Write migrations": ("db-init", "db-adopt", "db-rev", "db-merge", "db-rebase", "db-squash"),
    "Change the database": ("db-up", "db-down", "db-stamp", "db-forget", "db-resolve"),
    "Inspect the state": ("db-status", "db-current", "db-show", "db-graph", "db-heads", "db-log"),
    "Check and wait": ("db-check", "db-lint", "db-wait"),
    "Get help": ("explain",),
}
OTHERS = "More commands"
CHANGING = frozenset(PURPOSES["Write migrations"]) | frozenset(PURPOSES["Change the database"])

FIRST_STEPS: Mapping[str, str] = {
    "db-init blog": "create the migrations folder of blog",
    'db-rev blog "Add posts" -a': "create a revision from the models of blog",
    "db-up": "apply everything that is pending",
}
"""The examples of the group."""

EXAMPLES: Mapping[str, str] = {
    "db-init blog": "create blog/migrations",
    "db-init acme.billing:alembic": "create acme/billing/alembic",
    "db-init": "create the folders of all listed packages",
    "db-adopt migrations --into blog": "move its history into blog",
    "db-adopt migrations --into blog --plan": "print what would be moved",
    'db-rev blog "Add tags"': "create an empty revision",
    'db-rev blog "Add tags" -a': "create it from the models",
    'db-rev -a "Add tags"': "do so for all packages",
    'db-rev blog "Add likes" --depends-on shop': "depend on the head of shop",
    "db-merge blog": "merge all heads of blog",
    'db-merge blog "Join tags and likes"': "use another message",
    "db-rebase blog": "put two parallel lines in sequence",
    "db-squash blog --plan": "print which revisions one would replace",
    "db-squash blog --yes": "replace all revisions of blog by one",
    "db-squash blog --prune --yes": "delete the old files later",
    "db-up": "apply everything",
    "db-up blog": "apply blog, and what it depends on",
    "db-up blog@+1": "apply the next revision of blog",
    "db-up --plan": "print what would be applied, and why",
    "db-up -s > up.sql": "write the SQL instead",
    "db-down": "revert the last revision",
    "db-down blog@-1": "revert the last revision of blog",
    "db-down blog@base --cascade": "also revert what depends on it",
    "db-down blog@base --cascade --plan": "print what this would revert",
    "db-stamp blog": "if all tables of blog already exist",
    "db-stamp blog@base": "if no table of blog exists",
    "db-forget reviews --yes": "if the package reviews was uninstalled",
    "db-resolve blog_1767607200 --applied": "if you completed the revision",
    "db-resolve blog_1767607200 --not-applied": "if you reverted the revision",
    "db-status": "print a row for each package",
    "db-status --all": "print each revision with a mark",
    "db-status --check": "fail if revisions are pending",
    "db-current": "print a line for each package",
    "db-current -v": "also print each revision",
    "db-show": "print all revisions",
    "db-show blog": "print the revisions of blog",
    "db-show blog@head": "print the head of blog in full",
    "db-graph": "draw all packages on the terminal",
    "db-graph blog -o blog.svg": "write a drawing of blog to a file",
    "db-heads": "print the heads of each package",
    "db-log -n 5": "print the last five entries",
    "db-log -v": "print all details of each entry",
    "db-check": "do the models match the database?",
    "db-check blog --scratch": "do the models match the revisions?",
    "db-check --deploy": "can this code run on this database?",
    "db-check --heads": "does each package have one head?",
    "db-check --phases": "can the phase pre be applied?",
    "db-lint": "check all pending revisions",
    "db-lint --diff-base origin/main --format github": "annotate what a branch adds",
    "db-lint blog --exclude irreversible": "ignore one rule",
    "db-wait --timeout 300": "give up after five minutes",
    "explain": "list all errors",
    "explain DependentsError": "explain one error",
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


def examples_of(name: str) -> Mapping[str, str]:
    """Return the examples of a command, or of the group ``ampho``."""
    if name == "ampho":
        return FIRST_STEPS
    return {line: does for line, does in EXAMPLES.items() if line.split()[0] == name}


def write_examples(ctx: click.Context, formatter: click.HelpFormatter) -> None:
    """Write the examples of a command, as typed in this context: ``ampho db-up`` or ``flask ampho db-up``."""
    group = ctx if isinstance(ctx.command, click.Group) else ctx.parent
    examples = examples_of(str(ctx.command.name))
    if group is not None and examples:
        with formatter.section("Examples"):
            formatter.write_dl([(f"{group.command_path} {line}", does) for line, does in examples.items()], _MOST_WIDTH)
