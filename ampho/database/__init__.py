"""One database: how to connect to it, lock it, and read and write what it records about revisions.

The version rows, the journal and the locks are here, and so are the differences between SQLite, PostgreSQL and MariaDB.
:mod:`ampho.migrate` decides which revisions should run.
"""
