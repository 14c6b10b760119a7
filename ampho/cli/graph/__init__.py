"""The history as a picture: lanes in the terminal, SVG, Mermaid and DOT.

What is drawn is in :mod:`ampho.status.graph_view`.
"""
