"""Writing a picture of the history down: as SVG, as Mermaid, as DOT. Pure: from a picture to a text."""

from ampho.drawing.dot import as_dot
from ampho.drawing.mermaid import as_mermaid, is_too_large
from ampho.drawing.svg import as_svg

__all__ = ["as_dot", "as_mermaid", "as_svg", "is_too_large"]
