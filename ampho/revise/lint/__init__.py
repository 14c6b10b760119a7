"""Finding dangerous changes in revisions before they run, for ``db-lint``.

squawk is a separate program that reports PostgreSQL statements that block the app. The rules here report what squawk
does not detect, and the statements that block the app on MariaDB and MySQL. They do not report what only matters for
tables with rows if the table is a new one.
"""
