"""Drawings of the history: lanes in the terminal, SVG, Mermaid, and DOT.

Each module turns a :class:`ampho.status.graph_view.Picture` into text, and ``output`` writes it. Nothing here reads
files or a database: :mod:`ampho.status.graph_view` decides what a picture contains.
"""
