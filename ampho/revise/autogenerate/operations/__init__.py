"""The operations of a revision: correcting and ordering them, adding those that Alembic lacks, and describing them.

Comparing the models with the database belongs in :mod:`ampho.revise.autogenerate.compare`, and rendering the operations
as Python code in :mod:`ampho.revise.autogenerate.write`.
"""
