"""Comparing the models of packages with a database, and turning the differences into revisions.

Alembic finds the differences; the modules here decide which package owns them, and correct and render them. Writing the
files is left to :mod:`ampho.revise.writer`.
"""
