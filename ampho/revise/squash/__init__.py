"""Replacing a line of old revisions by one that makes the same schema, for ``db-squash``."""
