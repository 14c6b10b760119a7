"""Deciding what runs, and running it.

Plans are pure: they turn a graph and the version rows into steps. Running them goes through Alembic, whose private
names only :mod:`ampho.migrate.alembic` knows. Nothing is printed here; observers are called instead.
"""
