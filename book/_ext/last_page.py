"""Lets Sphinx read the ledger of claims when all other chapters have run and left their records.

Sphinx hands pages to its processes in the order of their names and waits for none of them, so
the ledger would run beside chapters that it reads from.
"""

from sphinx.application import Sphinx

LAST = "chapters/16-claims"


def read_last(app: Sphinx) -> None:
    """Read all pages but the last two at a time, then the last one."""
    builder = app.builder
    read_parallel = builder._read_parallel

    def read(docnames: list[str], nproc: int) -> None:
        read_parallel([name for name in docnames if name != LAST], nproc)
        if LAST in docnames:
            builder._read_serial([LAST])

    builder._read_parallel = read


def setup(app: Sphinx) -> dict:
    app.connect("builder-inited", read_last)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
