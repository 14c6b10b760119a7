"""One database: how to connect to it, lock it, and read and write what it records about revisions.

The version rows, the journal and the locks are here, and what differs between SQLite, PostgreSQL and MariaDB. Which
revisions should run is decided in :mod:`ampho.migrate`.
"""
