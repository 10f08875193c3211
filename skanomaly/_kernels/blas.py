"""BLAS without its threads, which wait for the next product on cores that others need."""

from functools import cache


def one_blas_thread():
    """Return a context in which the products of numpy and scipy use one thread.

    OpenBLAS shares products of a hundred rows among threads that spin for tens of milliseconds in wait of the next one;
    the network or the numba kernel that follows has to do with the rest of the cores.

    The limit is the process's. Of callers in several threads one sets it at a time (threadpoolctl 3.8), so that it
    never outlives them.
    """
    return _controller().limit(limits=1, user_api="blas")


@cache
def _controller():
    import numpy as np  # noqa: F401, its BLAS has to be there to be found
    import scipy.linalg.cython_blas  # noqa: F401, the one that numba calls
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController()
