"""Writing a picture of the history down: as SVG, as Mermaid, as DOT. Pure: from a picture to a text."""

from ampho.drawing.dot import dot
from ampho.drawing.mermaid import mermaid
from ampho.drawing.svg import svg

__all__ = ["dot", "mermaid", "svg"]
