"""Kernels that tests and the build start cannot lose a port: they use sockets of their own."""

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbval.kernel import RunningKernel


def test_nbval_starts_kernels_on_sockets_and_leaves_none():
    kernel = RunningKernel("python3")
    try:
        info = kernel.km.get_connection_info()
        assert info["transport"] == "ipc"
        files = [Path(f"{info['ip']}-{info[k]}") for k in info if k.endswith("_port")]
        assert len(files) == 5 and all(f.is_socket() for f in files)
        assert all(f.is_absolute() and len(os.fspath(f)) < 100 for f in files)
    finally:
        kernel.stop()
    assert not any(f.exists() for f in files)


def executed(folder: Path) -> str:
    """What a notebook of one cell prints, run in ``folder``."""
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("print(6 * 7)")])
    resources = {"metadata": {"path": str(folder)}}
    NotebookClient(notebook, kernel_name="python3", resources=resources).execute()
    return "".join(output.get("text", "") for output in notebook.cells[0].outputs)


def test_notebooks_run_at_once_and_warn_of_nothing(tmp_path, capfd):
    with ThreadPoolExecutor(3) as pool:
        assert set(pool.map(executed, [tmp_path] * 3)) == {"42\n"}
    assert not list(tmp_path.iterdir()), "a socket lies beside the notebook"
    assert "TCP" not in capfd.readouterr().err
