"""The structure that readers and later chapters rely on: files, names, floors, habits of prose."""

import ast
import graphlib
import importlib
import inspect
import json
import re
import shutil
import subprocess
import sys
import tomllib
from fnmatch import fnmatch
from pathlib import Path

import pytest
import yaml

import quantlab

ROOT = Path(__file__).resolve().parent.parent
CHAPTERS = sorted((ROOT / "chapters").glob("*.ipynb"))
NOTEBOOKS = [*CHAPTERS, *sorted((ROOT / "book").glob("*.ipynb"))]
PAGES = sorted((ROOT / "book").glob("*.md"))
TOC = yaml.safe_load((ROOT / "_toc.yml").read_text("utf8"))
LISTED = [TOC["root"], *(c["file"] for part in TOC["parts"] for c in part["chapters"])]
CONFIG = yaml.safe_load((ROOT / "_config.yml").read_text("utf8"))


def name(path: Path) -> str:
    """Path inside the repository, for the names of tests and messages."""
    return path.relative_to(ROOT).as_posix()


def tracked() -> list[Path]:
    """Files that git knows, or would add."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        pytest.skip("not a git checkout")
    return [ROOT / p for p in done.stdout.split("\0") if p and (ROOT / p).is_file()]


def cells(path: Path, kind: str) -> list[str]:
    """Sources of a notebook's code or Markdown cells."""
    notebook = json.loads(path.read_text("utf8"))
    return ["".join(c["source"]) for c in notebook["cells"] if c["cell_type"] == kind]


# Directives that hold prose.
READ = r"\{(?:admonition|note|tip|warning|important|dropdown|glossary)"


def prose(path: Path) -> list[str]:
    """Lines of text: no code, no tables, no formulas, no directives, no headings."""
    text = path.read_text("utf8") if path.suffix == ".md" else "\n\n".join(cells(path, "markdown"))
    text = re.sub(rf"^(`{{3,}})(?!{READ}).*?^\1", "", text, flags=re.M | re.S)
    text = re.sub(r"\$\$.*?\$\$(\s*\([\w-]+\))?", "", text, flags=re.S)
    text = re.sub(r"(?<!\\)\$[^$\n]+\$|`[^`\n]*`|<!--.*?-->", "x", text, flags=re.S)
    return [
        line.strip()
        for line in text.splitlines()
        if line.strip() and not re.match(r"\s*(\||#|:{3,}|`{3,}|:\w+:)", line)
    ]


# Notebooks


@pytest.mark.parametrize("path", NOTEBOOKS, ids=name)
def test_notebook_is_stripped(path):
    notebook = json.loads(path.read_text("utf8"))
    for number, cell in enumerate(notebook["cells"]):
        if cell["cell_type"] == "code":
            assert not cell["outputs"], f"cell {number} has outputs: run nbstripout"
            assert cell["execution_count"] is None, f"cell {number} has an execution count"
    assert notebook["metadata"]["kernelspec"]["name"] == "python3"


@pytest.mark.parametrize("path", CHAPTERS, ids=name)
def test_chapter_is_named_and_numbered(path):
    assert re.fullmatch(r"\d\d(-[a-z0-9]+)+\.ipynb", path.name)
    title = cells(path, "markdown")[0].strip().splitlines()
    title = next(line for line in title if line.startswith("# "))
    assert re.match(rf"# {int(path.name[:2])}\. \S", title), title


def test_listed_chapters_are_finished():
    for path in CHAPTERS:
        if name(path.with_suffix("")) not in LISTED:
            continue
        headings = [
            line.lstrip("# ").lower()
            for text in cells(path, "markdown")
            for line in text.splitlines()
            if line.startswith("## ")
        ]
        for part in ("explore", "what you measured", "exercises", "take away"):
            assert any(h.startswith(part) for h in headings), f"{path.name}: no section '{part}'"


@pytest.mark.parametrize("path", NOTEBOOKS, ids=name)
def test_notebook_leaves_the_system_alone(path):
    forbidden = r"os\.chdir|sys\.path|site\.addsitedir|^\s*[%!]\s*(cd|pip|conda|apt)|PYTHONPATH"
    for code in cells(path, "code"):
        assert not re.search(forbidden, code, flags=re.M), code


FOLDED = {"hide-input", "hide-cell", "remove-input", "remove-cell"}


def open_cells(path: Path) -> list[list[str]]:
    """Lines of code that a reader of the page meets, cell by cell: no blanks, no comments."""
    shown = []
    for cell in json.loads(path.read_text("utf8"))["cells"]:
        if cell["cell_type"] == "code" and not FOLDED & set(cell["metadata"].get("tags", ())):
            lines = [line.strip() for line in "".join(cell["source"]).splitlines()]
            shown.append([line for line in lines if line and not line.startswith("#")])
    return shown


@pytest.mark.parametrize("path", CHAPTERS, ids=name)
def test_open_code_is_the_idea(path, record_property):
    cells_shown = open_cells(path)
    total = sum(map(len, cells_shown))
    record_property("open lines of code", total)
    assert total < 150, f"{total} lines of code stand open: fold what is not the idea"
    for lines in cells_shown:
        text = "\n".join(lines)
        assert len(lines) <= 15, f"an open cell of {len(lines)} lines:\n{text}"
        assert not re.search(r"^assert\b", text, flags=re.M), f"an open assertion:\n{text}"
        drawn = re.search(r"figures\.figure\(|\bax\w*\.(plot|set|legend|bar|hist|step)\(", text)
        assert not drawn, f"open plotting:\n{text}"


@pytest.mark.parametrize("path", CHAPTERS, ids=name)
def test_folds_say_what_they_hold(path):
    for cell in json.loads(path.read_text("utf8"))["cells"]:
        if cell["cell_type"] == "code" and FOLDED & set(cell["metadata"].get("tags", ())):
            text = "".join(cell["source"])
            assert text.startswith("# "), (
                f"a fold begins with a comment that names it:\n{text[:200]}"
            )


@pytest.mark.parametrize("path", CHAPTERS, ids=name)
def test_object_comes_before_formula_and_prediction_before_answer(path):
    """The first drawn thing stands before the first formula and the first section."""
    kinds = []
    for cell in json.loads(path.read_text("utf8"))["cells"]:
        text = "".join(cell["source"])
        if cell["cell_type"] == "code":
            kinds += re.findall(r"ql\.teach\.(\w+)\(", text)
        else:
            kinds += [
                "section" if line.startswith("## ") else "formula"
                for line in text.splitlines()
                if line.startswith(("## ", "$$"))
            ]
    grabbed = [k for k in kinds if k not in ("Quiz", "Predict")]
    assert kinds and kinds[0] in grabbed, f"{path.name} begins with {kinds[:3]}, not with an object"
    assert "Predict" in kinds, f"{path.name} asks for no guess"


# Prose

SENTENCE_END = re.compile(
    r"(?<!\be\.g)(?<!\bi\.e)(?<!\bvs)(?<!\bal)(?<!\bcf)(?<!\bNo)(?<!\b[A-Z])"
    r"[.!?][\"')*_]*\s+[\"'(*_]*[A-Z]"
)


@pytest.mark.parametrize("path", [*NOTEBOOKS, *PAGES], ids=name)
def test_one_sentence_per_line(path):
    broken = [
        line
        for line in prose(path)
        if SENTENCE_END.search(re.sub(r"^([-*>]\s+)?([*_]*\d+\.\s+)?", "", line))
    ]
    assert not broken, "\n".join(broken)


BRITISH = re.compile(
    r"\b(colour|neighbour|behaviour|favour|grey|cent(re|red)|catalogue|modelling|"
    r"labelled|(quant|normal|optim|random|regular|initial|general|summar|"
    r"visual|memor)is(e|ed|es|ing|ation|er))\w*",
    re.I,
)


@pytest.mark.parametrize("path", [*NOTEBOOKS, *PAGES, ROOT / "README.md"], ids=name)
def test_american_spelling(path):
    found = [m.group(0) for line in prose(path) if (m := BRITISH.search(line))]
    assert not found


@pytest.mark.parametrize("path", [*NOTEBOOKS, *PAGES, ROOT / "README.md"], ids=name)
def test_links_between_pages_resolve(path):
    text = path.read_text("utf8") if path.suffix == ".md" else "\n".join(cells(path, "markdown"))
    for target in re.findall(r"\]\((?!https?:|mailto:|#)([^)\s#]+)", text):
        linked = (path.parent / target).resolve()
        assert linked.exists(), f"{target} does not exist"
        if linked.suffix in (".md", ".ipynb") and path.name != "README.md":
            assert name(linked.with_suffix("")) in LISTED, f"{target} is not in _toc.yml"


# Files


@pytest.mark.parametrize("command", (["check"], ["format", "--check"]), ids=" ".join)
def test_style(command):
    done = subprocess.run(
        [sys.executable, "-m", "ruff", *command, "--no-cache", "--quiet", ROOT],
        capture_output=True,
        text=True,
    )
    assert not done.returncode, done.stdout + done.stderr


@pytest.fixture(scope="module")
def biome():
    program = shutil.which("biome", path=str(Path(sys.executable).parent))
    if program is None:
        pytest.skip("no biome: the JavaScript is not linted (it comes with the test extra)")
    return program


def test_javascript_style(biome):
    done = subprocess.run(
        [biome, "lint", "--error-on-warnings", "--max-diagnostics=50", "."],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert not done.returncode, done.stdout + done.stderr
    seen = int(re.search(r"Checked (\d+) files", done.stdout + done.stderr)[1])
    assert seen >= sum(p.suffix == ".js" for p in tracked())  # biome.json counts too


def test_a_widget_carries_every_name_that_its_javascript_uses(biome, tmp_path):
    """A module beside the Python is joined with its parts: nothing in it may be undeclared."""
    for file in (ROOT / "quantlab" / "teach").glob("*.py"):
        module = importlib.import_module(f"quantlab.teach.{file.stem}")
        for kind in vars(module).values():
            if isinstance(kind, type) and isinstance(script := getattr(kind, "_esm", None), str):
                (tmp_path / f"{kind.__name__}.js").write_text(script, "utf8")
    assert len(list(tmp_path.iterdir())) > 2
    rule = "correctness/noUndeclaredVariables"
    done = subprocess.run(
        [biome, "lint", "--error-on-warnings", f"--only={rule}", "."],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert not done.returncode, done.stdout + done.stderr


def test_docstrings_name_what_they_raise_in_one_way():
    """As a sentence: "Raises ValueError for ...". Ruff holds the rest of the form."""
    headed = r"^ *(?:Args|Parameters|Returns|Raises|Examples?):? *$|\bRaises:"
    for path in SOURCES:
        found = re.search(headed, path.read_text("utf8"), flags=re.M)
        assert not found, f"{name(path)}: {found[0].strip()}"


def test_table_of_contents_lists_files_in_order():
    for entry in LISTED:
        assert (ROOT / f"{entry}.ipynb").exists() or (ROOT / f"{entry}.md").exists(), entry
    chapters = [e for e in LISTED if e.startswith("chapters/")]
    assert chapters == sorted(chapters)
    assert len(LISTED) == len(set(LISTED))


def test_no_large_file():
    large = {name(p): p.stat().st_size for p in tracked() if p.stat().st_size > 500_000}
    assert not large


def test_repository_address_stands_in_one_place():
    address = CONFIG["repository"]["url"].removeprefix("https://")
    holders = [
        name(p)
        for p in tracked()
        if p.suffix != ".png" and address in p.read_text("utf8", errors="ignore")
    ]
    assert holders == ["_config.yml"]


def pins(lock: str) -> set[str]:
    """Lines of a lock file."""
    return set((ROOT / lock).read_text("utf8").split("\n")) - {""}


def test_locks_pin_everything_and_agree():
    assert all("==" in line for line in pins("requirements-test.lock"))
    assert pins("requirements.lock") <= pins("requirements-test.lock")
    assert any(re.match(r"jupyter-book==1\.", line) for line in pins("requirements.lock"))
    assert pins(".binder/requirements.txt") == pins("requirements.lock")


def test_readme_names_what_exists():
    text = (ROOT / "README.md").read_text("utf8")
    targets = set(re.findall(r"^(\w+):", (ROOT / "Makefile").read_text("utf8"), flags=re.M))
    assert set(re.findall(r"\bmake (\w+)", text)) <= targets
    tree = re.search(r"```text\n(.*?)```", text, flags=re.S)[1]
    for line in tree.splitlines():
        assert (ROOT / line.split()[0]).exists(), line


# The package

# Names whose chapter is being written, or does not use them yet. A name that it uses leaves.
TO_COME: set[str] = set()
CHAPTER_CODE = {
    int(entry.split("/")[1][:2]): "\n".join(cells(ROOT / f"{entry}.ipynb", "code"))
    for entry in LISTED
    if entry.startswith("chapters/")
}
TAUGHT = [n for n in quantlab.__all__ if callable(getattr(quantlab, n))]


def makers(public: str) -> list[str]:
    """The name, and for a class the functions that return one: a chapter may only use those."""
    functions = (n for n in TAUGHT if inspect.isfunction(getattr(quantlab, n)))
    annotation = {n: inspect.signature(getattr(quantlab, n)).return_annotation for n in functions}
    return [public, *(n for n, returned in annotation.items() if returned == public)]


@pytest.mark.parametrize("public", TAUGHT)
def test_the_chapter_that_teaches_a_name_uses_it(public, record_property):
    text = " ".join(getattr(quantlab, public).__doc__.split())
    taught = [
        int(n) for n in re.findall(r"\d+", re.search(r"Taught in (chapters? [^.]*)", text)[1])
    ]
    record_property("chapters to come", [n for n in taught if n not in CHAPTER_CODE])
    word = rf"\b({'|'.join(makers(public))})\b"
    stale = [n for n in taught if not re.search(word, CHAPTER_CODE.get(n, public))]
    if public in TO_COME:
        assert stale or not set(taught) & set(CHAPTER_CODE), f"take {public} out of TO_COME"
    else:
        assert taught and not stale, f"chapters {stale} do not use {public}"


def test_api_page_lists_every_module():
    text = (ROOT / "book/api.md").read_text("utf8")
    listed = " ".join(re.findall(r"\{public-names\} (.*)", text)).split()
    stub = ast.parse((ROOT / "quantlab/__init__.pyi").read_text("utf8"))
    modules = [n.module for n in stub.body if isinstance(n, ast.ImportFrom) and n.module]
    assert sorted(listed) == sorted(modules)


SOURCES = sorted((ROOT / "quantlab").rglob("*.py"))
FLOORS = {
    "kernels": 1,
    "scheme": 2,
    "calibration": 2,
    "tensor": 2,
    "integer": 2,
    "observers": 2,
    "mismatch": 2,
    "codebook": 2,
    "binary": 2,
    "error": 2,
    "nn": 3,
    "market": 3,
    "export": 4,
    "study": 4,
    "strategies": 4,
    "teach": 5,
}


def dotted(path: Path) -> str:
    """Import name of a source file."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def room(module: str) -> str:
    """First part below the package: 'quantlab.nn.layers' -> 'nn'; 'quantlab' -> ''."""
    return module.split(".")[1] if "." in module else ""


MODULES = {dotted(p) for p in SOURCES}


def imported(path: Path) -> set[str]:
    """Modules of quantlab that a file imports anywhere, also inside functions."""
    found = set()
    here = dotted(path).split(".")
    package = here if path.name == "__init__.py" else here[:-1]
    for node in ast.walk(ast.parse(path.read_text("utf8"))):
        if isinstance(node, ast.Import):
            found |= {a.name for a in node.names if a.name.split(".")[0] == "quantlab"}
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            if base.split(".")[0] == "quantlab":
                found |= {
                    f"{base}.{a.name}" if f"{base}.{a.name}" in MODULES else base
                    for a in node.names
                }
    return found - {dotted(path)}


@pytest.mark.parametrize("path", [p for p in SOURCES if room(dotted(p))], ids=name)
def test_rooms_import_downward_only(path):
    mine = room(dotted(path))
    if mine.startswith("_"):
        assert not imported(path), "a private helper of all rooms imports none of them"
        return
    assert mine in FLOORS, f"{mine} has no floor"
    for module in imported(path):
        other = room(module)
        assert other, f"{name(path)} imports the whole package"
        if other == mine or other.startswith("_"):
            continue
        same = FLOORS[other] == FLOORS[mine] == 2
        assert same or FLOORS[other] < FLOORS[mine], f"{name(path)} imports {module}"


def test_no_import_circles():
    # A package that collects the names of its modules is no circle: they import their siblings.
    graph = {
        dotted(p): {m for m in imported(p) if m in MODULES}
        for p in SOURCES
        if p.name != "__init__.py"
    }
    tuple(graphlib.TopologicalSorter(graph).static_order())


def code_lines(path: Path) -> int:
    """Lines that hold code: no blank lines, no comments, no docstrings."""
    text = path.read_text("utf8")
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef)
    strings = [
        node.body[0]
        for node in ast.walk(ast.parse(text))
        if isinstance(node, documented) and ast.get_docstring(node, clean=False) is not None
    ]
    silent = {n for s in strings for n in range(s.lineno, s.end_lineno + 1)}
    return sum(
        bool(line.strip()) and not line.strip().startswith("#") and number not in silent
        for number, line in enumerate(text.splitlines(), 1)
    )


# Lines of code a room may have. The goal for all together is 4,700; a ceiling moves down only.
CEILINGS = {
    "kernels": 1_151,
    "floor 2": 1_660,
    "nn": 1_766,
    "market": 1_303,
    "export": 755,
    "teach": 1_974,
    "strategies": 183,
}


def test_package_is_small(record_property):
    # Docstrings teach: what must stay small is the code.
    lines = dict.fromkeys(CEILINGS, 0)
    for path in SOURCES:
        where = room(dotted(path))
        lines[where if where in lines else "floor 2"] += code_lines(path)
    said = ", ".join(f"{name} {n:,} of {CEILINGS[name]:,}" for name, n in lines.items())
    said += f"; in all {sum(lines.values()):,} of {sum(CEILINGS.values()):,}"
    record_property("lines of code", said)
    assert all(n <= CEILINGS[name] for name, n in lines.items()), said


def test_test_files_have_names_of_their_own():
    names = [p.name for p in (ROOT / "tests").rglob("test_*.py")]
    twice = {n for n in names if names.count(n) > 1}
    assert not twice, f"pytest takes two files of one name for one module: {twice}"


def test_package_ships_all_its_files():
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text("utf8"))["tool"]["setuptools"]
    patterns = ["*.py", *settings["package-data"]["*"]]
    files = [p.name for p in tracked() if p.is_relative_to(ROOT / "quantlab")]
    assert {"py.typed", "__init__.pyi"} <= set(files)
    assert not [f for f in files if not any(fnmatch(f, pattern) for pattern in patterns)]


def test_import_is_light(record_property):
    code = """
import sys, time
import quantlab
heavy = {"numba", "llvmlite", "matplotlib", "requests", "scipy", "ipywidgets", "anywidget"}
print(time.process_time(), sorted(heavy & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    seconds, modules = done.stdout.split(maxsplit=1)
    record_property("import seconds, the start of Python included", seconds)
    assert modules.strip() == "[]"


PUBLIC = [n for n in quantlab.__all__ if callable(getattr(quantlab, n))]


@pytest.mark.parametrize("public", PUBLIC)
def test_public_docstring_teaches(public):
    text = getattr(quantlab, public).__doc__ or ""
    assert "Taught in chapter" in " ".join(text.split())
    assert text.strip().splitlines()[0].rstrip().endswith((".", ":")), "first line is one sentence"
