"""Taking over the history of another tool, for ``db-adopt``."""
