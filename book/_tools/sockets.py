"""Kernels of the build and of the tests speak over Unix sockets.

By default Jupyter picks free TCP ports, lets go of them, and tells the kernel to take them; on a
busy machine another process is faster, and the kernel then waits forever without a word.
A socket is a file: its name, in a folder of this run's own, is nobody else's.
"""

import atexit
import itertools
import os
import shutil
import tempfile
from pathlib import Path

from jupyter_client.manager import KernelManager


def use_sockets() -> Path:
    """Let every kernel that this process starts use sockets; return their folder.

    The folder goes when the process ends. Processes forked from this one may start kernels too.
    """
    # The system allows about 100 characters, and macOS spends half of them on its own folder.
    parent = "/tmp" if os.path.isdir("/tmp") else None
    folder, owner = Path(tempfile.mkdtemp(prefix="ql-", dir=parent)), os.getpid()
    atexit.register(lambda: os.getpid() == owner and shutil.rmtree(folder, ignore_errors=True))
    number, start = itertools.count(), KernelManager.__init__

    def with_socket(self, *args, **kwargs):
        kwargs.setdefault("transport", "ipc")
        kwargs.setdefault("ip", str(folder / f"{os.getpid()}-{next(number)}"))
        start(self, *args, **kwargs)

    KernelManager.__init__ = with_socket
    return folder
