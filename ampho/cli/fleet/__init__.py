"""``db-up`` for groups of databases: its options, its worker processes, and its output while it runs."""
