"""What torch needs: devices, seeds, inference."""

import numba
import torch


def _start_thread_pools():
    """Start numba's threads now, and give torch back its own number of threads.

    Both share one OpenMP runtime: numba, when it starts, sets the number of threads for torch as well, and results
    would change in the last bits after the first kernel.
    """
    n_threads = torch.get_num_threads()
    numba.set_num_threads(numba.get_num_threads())
    torch.set_num_threads(n_threads)


_start_thread_pools()
