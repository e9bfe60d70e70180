"""What the explorers need from the book's builder.

- The still PNG of each explorer beside it, inside <noscript>. A MyST-NB mime plugin sees one mime
  type at a time, never the PNG beside it; this transform runs one step before MyST-NB picks one,
  while the whole bundle is there.
- A prediction gates what follows it, up to the next heading: one container that
  quantlab-static.js folds until the reader has guessed.
- Each file of the ES modules and each style sheet once per page, however many explorers share it.
"""

import json
import re

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.transforms.post_transforms import SphinxPostTransform

WIDGET = "application/vnd.jupyter.widget-view+json"
SEAM = "/*seam*/\n"  # between the files of a module: quantlab.teach.widgets


class ExplorerStill(SphinxPostTransform):
    default_priority = 3  # MyST-NB's SelectMimeType is 4
    formats = ("html",)

    def run(self, **kwargs) -> None:
        for bundle in list(self.document.findall(nodes.container)):
            if bundle.get("nb_element") != "mime_bundle":
                continue
            parts = {part["mime_type"]: part for part in bundle.children}
            if WIDGET not in parts or "image/png" not in parts:
                continue
            text = parts["text/plain"].astext() if "text/plain" in parts else "explorer"
            for image in parts["image/png"].findall(nodes.image):
                still = image.deepcopy()
                still["alt"] = text
                parts[WIDGET] += [
                    nodes.raw("", "<noscript>", format="html"),
                    still,
                    nodes.raw("", "</noscript>", format="html"),
                ]
            if prediction := re.match(r"Predict\(([a-z0-9-]+): ", text):
                gate(bundle, prediction[1])


def gate(bundle: nodes.Node, name: str) -> None:
    """Put what follows the prediction's cell, up to the next heading, into one container."""
    cell = bundle
    while cell.get("nb_element") != "cell_code":
        cell = cell.parent
    parent, after = cell.parent, cell.parent.index(cell) + 1
    following = parent.children[after:]
    ends = [i for i, node in enumerate(following) if isinstance(node, nodes.section)]
    gated = following[: ends[0]] if ends else following
    if gated:
        container = nodes.container(classes=["ql-gated", f"ql-after-{name}"])
        parent[after : after + len(gated)] = [container]
        container += gated


def share_modules(app: Sphinx, page: str, *_) -> None:
    """In the widget state that MyST-NB embeds, a module becomes places in one list of texts."""
    files = getattr(app.env, "nb_metadata", {}).get(page, {}).get("js_files", {})
    path, options = files.get("ipywidgets_state", (None, {}))
    embedded = json.loads(options.get("body", "{}"))
    if "state" not in embedded or "texts" in embedded:
        return
    models = {k: m for k, m in embedded["state"].items() if "_esm" in m["state"]}
    texts: list[str] = []
    for model in models.values():
        for key in ("_esm", "_css"):
            files_of = model["state"].get(key, "").split(SEAM)
            texts += [text for text in files_of if text not in texts]
            model["state"][key] = [texts.index(text) for text in files_of]
    body = json.dumps({"texts": texts, "state": models}).replace("</", "<\\/")
    files["ipywidgets_state"] = (path, {**options, "body": body})


def setup(app: Sphinx) -> dict:
    app.add_post_transform(ExplorerStill)
    app.connect("html-page-context", share_modules, priority=400)  # before MyST-NB, at 500
    return {"parallel_read_safe": True, "parallel_write_safe": True}
