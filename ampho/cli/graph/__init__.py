"""Drawings of the history: lanes in the terminal, SVG, Mermaid, and DOT.

Each module here turns a :class:`ampho.status.graph_view.Picture` into a text, and ``output`` writes it. What a picture
contains is decided in :mod:`ampho.status.graph_view`; nothing here reads files or a database.
"""
