"""Answers about a database that change nothing: what is applied, what is pending, and what is wrong.

Each answer is a frozen dataclass, made from the graph, the version rows and the journal. How it is shown is up to
:mod:`ampho.cli`.
"""
