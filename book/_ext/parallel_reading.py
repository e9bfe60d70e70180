"""Lets Sphinx read two notebooks at a time.

Three extensions do not say whether they allow that, so Sphinx would assume they do not.
One copies files after the build, one numbers sections after all pages are read (and is
switched off here), one serves LaTeX only: none does anything while pages are read.
"""

from sphinx.application import Sphinx

SILENT = ("sphinx-mathjax-offline", "sphinx_multitoc_numbering", "sphinx_jupyterbook_latex")


def setup(app: Sphinx) -> dict:
    for name in SILENT:
        app.setup_extension(name)
        app.extensions[name].parallel_read_safe = True
        app.extensions[name].parallel_write_safe = True
    return {"parallel_read_safe": True, "parallel_write_safe": True}
