"""Single-threaded BLAS, for products next to code that has threads of its own."""

from functools import cache


def one_blas_thread():
    """Return a context in which the matrix products of numpy and scipy use a single thread.

    OpenBLAS splits products of as few as a hundred rows among threads that then spin for tens of milliseconds, waiting
    for the next product, and occupy cores that the network or numba kernel that follows could use.

    The limit applies to the whole process. If callers in several threads set it, threadpoolctl (from 3.8 on) lets one
    of them do so at a time, so the limit never outlives them.
    """
    return _controller().limit(limits=1, user_api="blas")


@cache
def _controller():
    import numpy as np  # noqa: F401, loads its BLAS, so that it is found
    import scipy.linalg.cython_blas  # noqa: F401, the BLAS that numba calls
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController()
