"""Give every figure of a notebook the alternative text that `bnbook.figures.show` displayed beside it.

MyST-NB takes only width and height from an output's metadata, so the text travels in the caption block
that follows the picture.
"""

import html
import re

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.transforms import SphinxTransform

_CAPTION = re.compile(r'<div class="bn-figure" data-alt="([^"]*)"')


class AltText(SphinxTransform):
    """Copy the caption block's ``data-alt`` to the image before it."""

    default_priority = 900

    def apply(self, **_):
        """Walk the document once; remember the last image until its caption comes."""
        picture = None
        for node in self.document.findall(
            lambda node: isinstance(node, nodes.image | nodes.raw)
        ):
            if isinstance(node, nodes.image):
                picture = node
            elif (caption := _CAPTION.search(node.astext())) and picture is not None:
                picture["alt"] = html.unescape(caption.group(1))
                picture = None


def setup(app: Sphinx) -> dict:
    """Register the transform."""
    app.add_transform(AltText)
    return {"version": "1", "parallel_read_safe": True}
