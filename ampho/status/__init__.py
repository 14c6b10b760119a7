"""Answers about a database that change nothing: what is applied, what is pending, what is wrong, and what to do.

Each answer is a frozen dataclass, made from the graph, the version rows and the journal. :mod:`ampho.cli` shows it.
"""
