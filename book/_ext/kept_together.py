"""A number and its unit stay on one line: "8 bits" and "0.14 %" never part at the end of a line."""

import re

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.transforms.post_transforms import SphinxPostTransform

UNITS = r"%|dB|bits?|bytes?|KB|MB|GB|s|ms|µs|us|ns|px|points?|levels?|codes?|steps?|candles?|times"
NUMBER = re.compile(rf"(\d) (?=(?:{UNITS})\b|%)")
SPACE = "\u00a0"


class KeptTogether(SphinxPostTransform):
    default_priority = 800
    formats = ("html",)

    def run(self, **kwargs) -> None:
        for text in list(self.document.findall(nodes.Text)):
            above = text.parent
            while above is not None and not isinstance(above, nodes.literal | nodes.literal_block):
                above = above.parent
            if above is None and (new := NUMBER.sub(rf"\1{SPACE}", text.astext())) != text:
                text.parent.replace(text, nodes.Text(new))


def setup(app: Sphinx) -> dict:
    app.add_post_transform(KeptTogether)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
