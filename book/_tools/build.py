"""Build the book if its sources changed since the last good build; print where to open it.

Standard library only. ``--check`` builds nothing and exits with 1 if the pages are out of date.
"""

import argparse
import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

TOOLS = Path(__file__).resolve().parent
ROOT = TOOLS.parents[1]
HTML = ROOT / "_build" / "html"
STAMP = HTML / ".sources"
SOURCES = ("_config.yml", "_toc.yml", "requirements.lock", "book", "chapters", "quantlab")
IGNORED = {"__pycache__", ".ipynb_checkpoints"}
VARIABLES = ("QUANTLAB_BYBIT_URL", "QUANTLAB_OFFLINE", "QUANTLAB_KERNELS")


def source_files() -> list[Path]:
    """Return every file that a page is made from, sorted."""
    files = []
    for name in SOURCES:
        path = ROOT / name
        found = path.rglob("*") if path.is_dir() else [path]
        files += [f for f in found if f.is_file() and not IGNORED.intersection(f.parts)]
    return sorted(files)


def fingerprint() -> str:
    """Return a SHA-256 over the sources, the Python version and the VARIABLES."""
    digest = hashlib.sha256(f"{sys.version_info[:2]}".encode())
    for name in VARIABLES:
        digest.update(f"{name}={os.environ.get(name, '')};".encode())
    for path in source_files():
        digest.update(f"{path.relative_to(ROOT).as_posix()}:".encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()


def is_current(state: str) -> bool:
    """Tell whether the pages were built from exactly these sources."""
    return STAMP.is_file() and STAMP.read_text() == state


def build(state: str) -> int:
    """Execute every notebook and write every page anew; return jupyter-book's exit status."""
    shutil.rmtree(HTML, ignore_errors=True)
    shutil.rmtree(ROOT / "_build" / ".doctrees", ignore_errors=True)
    shutil.rmtree(ROOT / "_build" / "claims", ignore_errors=True)  # the ledger shows this run
    command = [sys.executable, TOOLS / "pages.py", "build", ROOT]
    command += ["-W", "-n", "--keep-going", "--all"]
    status = subprocess.run(command, cwd=ROOT, check=False).returncode
    if status == 0:
        STAMP.write_text(state)
    return status


def main() -> int:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="only look whether it is current")
    options = parser.parse_args()
    HTML.parent.mkdir(exist_ok=True)
    with (HTML.parent / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # two builds at once would write into the same pages
        state, started = fingerprint(), time.monotonic()
        current = is_current(state)
        if options.check:
            return int(not current)
        if not current and (status := build(state)):
            print("\nThe book was not built: the warnings above say why.", file=sys.stderr)
            return status
    took = (
        "Nothing changed since the last build."
        if current
        else (f"\nBuilt in {time.monotonic() - started:.0f} s.")
    )
    print(f"{took}\nOpen {(HTML / 'index.html').as_uri()}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
