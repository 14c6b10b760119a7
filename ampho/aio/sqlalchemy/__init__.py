"""AsyncSQLAlchemy, the database extension for Quart: engines, sessions and the declarative base.

It knows nothing of migrations, and an app can use it without them.
"""
