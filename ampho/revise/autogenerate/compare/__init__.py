"""An Alembic plug-in that corrects and extends Alembic's comparison of the models with the database.

``env.py`` loads it, so plain Alembic uses it, too. It does not know about packages.
"""
