"""Puts the still PNG of each explorer beside it, inside <noscript>.

A MyST-NB mime plugin sees one mime type at a time, never the PNG beside it.
This transform runs one step before MyST-NB picks a mime type, while the whole
bundle is there.
"""

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.transforms.post_transforms import SphinxPostTransform

WIDGET = "application/vnd.jupyter.widget-view+json"


class ExplorerStill(SphinxPostTransform):
    default_priority = 3  # MyST-NB's SelectMimeType is 4
    formats = ("html",)

    def run(self, **kwargs) -> None:
        for bundle in self.document.findall(nodes.container):
            if bundle.get("nb_element") != "mime_bundle":
                continue
            parts = {part["mime_type"]: part for part in bundle.children}
            if WIDGET not in parts or "image/png" not in parts:
                continue
            for image in parts["image/png"].findall(nodes.image):
                still = image.deepcopy()
                text = parts.get("text/plain")
                still["alt"] = text.astext() if text else "explorer"
                parts[WIDGET] += [
                    nodes.raw("", "<noscript>", format="html"),
                    still,
                    nodes.raw("", "</noscript>", format="html"),
                ]


def setup(app: Sphinx) -> dict:
    app.add_post_transform(ExplorerStill)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
