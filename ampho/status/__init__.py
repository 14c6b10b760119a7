"""The state of a database: its applied and pending revisions, and its problems with their remedies.

These modules build frozen dataclasses from the graph, the version rows, and the journal. They change nothing, and
:mod:`ampho.cli` prints the results.
"""
