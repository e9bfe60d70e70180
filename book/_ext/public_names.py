"""A directive that lists the package's public names: signature, first sentence, chapters.

``{public-names} scheme tensor`` takes the names that the stub of the package imports from these
modules, in its order. Nothing is typed by hand, so nothing on the page can be out of date.
``{package-install}`` shows how to get the package without the book.
"""

import ast
import importlib
import inspect
import re
from pathlib import Path
from typing import Any

from docutils import nodes
from docutils.statemachine import StringList
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

import quantlab


def names_by_module() -> dict[str, list[str]]:
    """Public names of the stub, by the module that they come from."""
    stub = Path(quantlab.__file__).with_suffix(".pyi")
    found = [n for n in ast.parse(stub.read_text("utf8")).body if isinstance(n, ast.ImportFrom)]
    return {n.module: [a.name for a in n.names] for n in found if n.module}


def chapters_of(docstring: str) -> list[int]:
    """Numbers after "Taught in": "Taught in chapters 2 and 3." gives [2, 3]."""
    taught = re.search(r"Taught in (chapters?\s[^.]*)\.", docstring)
    return [int(n) for n in re.findall(r"\d+", taught[1])] if taught else []


def first_sentence(docstring: str) -> str:
    """Up to the first full stop, on one line."""
    text = " ".join(docstring.strip().split("\n\n")[0].split())
    return re.split(r"(?<=\.)\s", text)[0]


def signature(name: str, public: Any) -> str:
    """The call as it is typed, without annotations; a constant or an enumeration has none."""
    if not callable(public) or hasattr(public, "__members__"):
        return name
    plain = inspect.signature(public)
    bare = [p.replace(annotation=p.empty) for p in plain.parameters.values()]
    call = name + str(plain.replace(parameters=bare, return_annotation=plain.empty))
    return re.sub(r"<(\w+\.\w+): [^>]*>", r"\1", call)  # a member of an enumeration, as typed


class PublicNames(SphinxDirective):
    """``{public-names} module ...``: a definition list of what these modules make public."""

    required_arguments = 1
    final_argument_whitespace = True

    def run(self) -> list[nodes.Node]:
        lines = []
        for module in self.arguments[0].split():
            for name in names_by_module()[module]:
                lines += self.entry(module, name)
        box = nodes.container()
        self.state.nested_parse(StringList(lines, "quantlab"), self.content_offset, box)
        return box.children

    def entry(self, module: str, name: str) -> list[str]:
        public, home = getattr(quantlab, name), importlib.import_module(f"quantlab.{module}")
        self.env.note_dependency(inspect.getsourcefile(home))
        if callable(public):
            doc, says = public.__doc__, first_sentence(public.__doc__)
        else:
            doc, says = home.__doc__, f"{public.dtype} array of shape {public.shape}."
        links = ", ".join(self.chapter(n) for n in chapters_of(doc))
        text = f": {says} {f'*Taught in {links}.*' if links else ''}"
        return [f"`{signature(name, public)}`{{#{name}}}", text, ""]

    def chapter(self, number: int) -> str:
        pages = [d for d in self.env.found_docs if d.startswith(f"chapters/{number:02d}-")]
        text = f"chapter {number}"
        return f"[{text}](/{pages[0]}.ipynb)" if pages else text


class PackageInstall(SphinxDirective):
    """``{package-install}``: the line that installs the package from this book's repository."""

    def run(self) -> list[nodes.Node]:
        line = f'pip install "git+{self.config.html_theme_options["repository_url"]}"'
        return [nodes.literal_block(line, line, language="sh")]


def setup(app: Sphinx) -> dict[str, Any]:
    app.add_directive("public-names", PublicNames)
    app.add_directive("package-install", PackageInstall)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
