"""Number figures, tables and equations by the chapter number in a page's title.

The titles carry their numbers ("# 2. Uniform quantization"), because chapters appear as they are
finished and chapter 4 must not become chapter 3 meanwhile.
Sphinx takes the first part of "Figure 2.1" from the table of contents, which knows no such
numbers: they are handed to it for the moment in which it numbers figures and equations.
"""

import re
from typing import Any

from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.environment.collectors.toctree import TocTreeCollector


def title_numbers(env: BuildEnvironment) -> dict[str, dict[str, tuple[int, ...]]]:
    """Chapter numbers by page, from the titles, in the shape of ``env.toc_secnumbers``."""
    numbers = {}
    for page, title in env.titles.items():
        if match := re.match(r"(\d+)\. ", title.astext()):
            numbers[page] = {"": (int(match[1]),)}
    return numbers


def number_by_chapter(app: Sphinx, env: BuildEnvironment) -> list[str]:
    """Number every figure and equation once more, with the chapter numbers in place."""
    from_toc, env.toc_secnumbers = env.toc_secnumbers, title_numbers(env)
    try:
        return TocTreeCollector.assign_figure_numbers(None, env)
    finally:
        env.toc_secnumbers = from_toc


def setup(app: Sphinx) -> dict[str, Any]:
    app.connect("env-get-updated", number_by_chapter, priority=900)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
