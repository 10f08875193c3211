from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from threadpoolctl import threadpool_info, threadpool_limits

from skanomaly._kernels.blas import one_blas_thread
from skanomaly._kernels.smoothing import smooth_and_resize


def numbers_of_threads():
    return {library["num_threads"] for library in threadpool_info() if library["user_api"] == "blas"}


@pytest.fixture(autouse=True)
def two_threads():
    with threadpool_limits(2, user_api="blas"):
        yield


def test_blas_has_one_thread_inside_and_as_many_as_before_afterwards():
    with one_blas_thread():
        assert numbers_of_threads() == {1}
    assert numbers_of_threads() == {2}
    with pytest.raises(np.linalg.LinAlgError), one_blas_thread():
        np.linalg.inv(np.zeros((2, 2)))
    assert numbers_of_threads() == {2}


def test_maps_drawn_in_several_threads_leave_what_was_there(rng):
    grid, size = rng.random((8, 8)), (64, 96)
    expected = smooth_and_resize(grid, size, 4.0)
    assert (expected.shape, expected.dtype) == (size, np.float32)
    with ThreadPoolExecutor(4) as pool:
        drawn = list(pool.map(lambda _: smooth_and_resize(grid, size, 4.0), range(200)))
    np.testing.assert_allclose(drawn, np.broadcast_to(expected, (200, *size)), rtol=1e-6)
    assert numbers_of_threads() == {2}
