"""Everything about one database: connecting to it, locking it, and keeping its records of revisions.

This package contains the version rows, the journal, the locks, and the differences between SQLite, PostgreSQL, and
MariaDB. :mod:`ampho.migrate` decides which revisions should run.
"""
