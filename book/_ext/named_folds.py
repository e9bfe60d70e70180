"""A folded cell says what it holds: "Show the code: the figure" for a cell that begins with
`# The figure`.
"""

import re

from docutils import nodes
from myst_nb.sphinx_ import HideCodeCellNode, depart_HideCellInput, visit_HideCellInput
from sphinx.application import Sphinx
from sphinx.transforms.post_transforms import SphinxPostTransform


class NamedFolds(SphinxPostTransform):
    default_priority = 190  # MyST-NB folds at 199
    formats = ("html",)

    def run(self, **kwargs) -> None:
        shown = self.config.nb_code_prompt_show
        for cell in self.document.findall(nodes.container):
            if not cell.get("hide_mode") or cell.get("prompt_show") != shown:
                continue
            code = next(iter(cell.findall(nodes.literal_block)), None)
            if code is not None and (named := re.match(r"# (.+)", code.astext())):
                for key in ("prompt_show", "prompt_hide"):
                    cell[key] = f"{cell[key]}: {named[1][0].lower()}{named[1][1:].rstrip('.:')}"


def visit(translator, node: HideCodeCellNode) -> None:
    """Write the fold without a label that hides its name."""
    visit_HideCellInput(translator, node)
    start = next(
        i for i in reversed(range(len(translator.body))) if "<summary" in translator.body[i]
    )
    translator.body[start] = "<summary>\n"


def setup(app: Sphinx) -> dict:
    app.add_node(HideCodeCellNode, override=True, html=(visit, depart_HideCellInput))
    app.add_post_transform(NamedFolds)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
