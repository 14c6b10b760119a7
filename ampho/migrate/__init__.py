"""Planning upgrades and downgrades, running them, and answering questions about a database.

:mod:`ampho.migrate.plan` turns a graph and version rows into steps, and does no I/O; :mod:`ampho.migrate.executor` runs
them. Both use Alembic only through :mod:`ampho.migrate.alembic`. Nothing is printed here: observers receive the
events, and :mod:`ampho.status` computes the answers.
"""
