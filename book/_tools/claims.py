"""Run each chapter that measures a claim, one after the other, and write book/claims.json.

Nothing runs beside a chapter, so its times are undisturbed. ``--collect`` runs nothing and takes
what is there already; naming chapters (``03 12``) runs these alone and replaces their records.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

from quantlab.teach import claims

ROOT = Path(__file__).resolve().parents[2]
RECORDED = ROOT / "book" / "claims.json"


def run(chapter: str) -> None:
    """Execute one notebook where it stands and throw the outputs away."""
    command = [sys.executable, "-m", "jupyter", "nbconvert", "--to", "notebook", "--execute"]
    with tempfile.TemporaryDirectory() as away:
        command += ["--output-dir", away, "--log-level", "ERROR"]
        subprocess.run([*command, ROOT / "chapters" / f"{chapter}.ipynb"], cwd=ROOT, check=True)


def collect() -> None:
    """Put the records of this machine into the committed file, in the order of the list."""
    rows = {row["id"]: row["measured"] for row in claims.ledger(RECORDED) if row["measured"]}
    RECORDED.write_text(json.dumps(rows, indent=1, ensure_ascii=False) + "\n", "utf-8")
    missing = [name for name in claims.CLAIMS if name not in rows]
    print(f"{len(rows)} claims measured; missing: {', '.join(missing) or 'none'}")


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--collect", action="store_true", help="run no chapter")
    parser.add_argument("chapters", nargs="*", help="numbers, such as 03; all if none is given")
    options = parser.parse_args()
    chapters = sorted({about["chapter"] for about in claims.CLAIMS.values()})
    for chapter in () if options.collect else chapters:
        wanted = not options.chapters or chapter[:2] in options.chapters
        if wanted and (ROOT / "chapters" / f"{chapter}.ipynb").is_file():
            print(f"running {chapter}", flush=True)
            run(chapter)
    collect()


if __name__ == "__main__":
    main()
