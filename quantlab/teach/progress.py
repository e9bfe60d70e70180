"""A bar that fills while a sweep runs in a live kernel; on a page it stands full."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from IPython.display import HTML, display

BAR = '<progress aria-label="tasks done" max="{0}" value="{1}"></progress> {1} of {0} tasks'


def progress(tasks: Iterable[Any], total: int) -> Iterator[Any]:
    """Pass on finished tasks one by one, with a bar that counts them below the cell.

    tasks: what to pass on; total: how many they are. For `ql.sweep(..., progress=...)`, where
    `tqdm.auto.tqdm` fits too. Raises nothing of its own. Taught in chapter 10.

    >>> sum(progress([3, 4], total=2))  # doctest: +ELLIPSIS
    <IPython...HTML object>
    7
    """
    bar = display(HTML(BAR.format(total, 0)), display_id=True)
    for done, task in enumerate(tasks, 1):
        yield task
        if bar is not None:  # a plain Python session shows no HTML
            bar.update(HTML(BAR.format(total, done)))
