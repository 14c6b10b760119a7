"""The state of a database: what is applied, what is pending, what is wrong, and what to do. Nothing is changed.

The results are frozen dataclasses, made from the graph, the version rows, and the journal. :mod:`ampho.cli` shows them.
"""
