"""Run jupyter-book's command line with two notebooks at a time, their kernels on sockets."""

from functools import partial

from jupyter_book import sphinx
from jupyter_book.cli.main import main
from sockets import use_sockets

if __name__ == "__main__":
    use_sockets()
    # Jupyter Book's command line knows no --jobs, Sphinx does.
    sphinx.build_sphinx = partial(sphinx.build_sphinx, jobs=2)
    main(prog_name="jupyter-book")
