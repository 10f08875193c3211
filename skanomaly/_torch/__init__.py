"""Devices, training and inference with torch."""

import os

import numba
import torch


def _start_thread_pools():
    """Start numba's threads now, and restore torch's number of threads.

    Both share one OpenMP runtime. When numba starts, it also sets torch's number of threads, so that results would
    change in the last bits after the first kernel.
    """
    n_threads = torch.get_num_threads()
    numba.set_num_threads(numba.get_num_threads())
    torch.set_num_threads(n_threads)


_start_thread_pools()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=lambda: torch.set_num_threads(1))  # the threads of the parent do not exist there
