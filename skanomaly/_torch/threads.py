"""Number of threads of torch, for computations that are too small to be shared."""

import threading
from contextlib import contextmanager

import torch

_LOCK = threading.Lock()
_limited = {"users": 0, "before": 1}


@contextmanager
def one_thread(wanted=True):
    """Limit torch to one thread in the block, and restore the number when the last of several threads has left it.

    Threads that share the small products of a network for rows mostly wait for each other, and for cores that other
    processes use.

    Parameters
    ----------
    wanted : bool, default=True
        If False, nothing is changed.

    Yields
    ------
    None
        Control is passed to the block.
    """
    if not wanted:
        yield
        return
    with _LOCK:
        if not _limited["users"]:
            _limited["before"] = torch.get_num_threads()
            torch.set_num_threads(1)
        _limited["users"] += 1
    try:
        yield
    finally:
        with _LOCK:
            _limited["users"] -= 1
            if not _limited["users"]:
                torch.set_num_threads(_limited["before"])
