"""Selection and search with torch, on its CPU and, where there is one, on a GPU."""

import pickle
import subprocess
import sys

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from scipy.spatial.distance import cdist
from sklearn.base import clone

from skanomaly import GreedyCoreset, KNNScorer, load, save
from skanomaly._kernels import coreset as numba_coreset
from skanomaly._kernels import neighbors as numba_neighbors
from skanomaly._torch import coreset, neighbors
from skanomaly._torch import device as devices

CUDA = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA")
NO_CUDA = pytest.mark.skipif(torch.cuda.is_available(), reason="there is CUDA")
DTYPES = [np.float32, np.float64]


@pytest.fixture(params=["cpu", pytest.param("cuda", marks=CUDA)])
def device(request):
    return torch.device(request.param)


@pytest.fixture
def gpu(device, monkeypatch):
    """Name of a GPU for the estimators, for which torch's CPU stands in where there is none."""
    monkeypatch.setattr(devices, "resolve_gpu", lambda name, dtype: device)
    return "cuda"


def separated(n, d, dtype, seed=0):
    """Return points at distances that differ by far more than rounding errors."""
    rng = np.random.default_rng(seed)
    return (rng.normal(0, 3, (6, d))[rng.integers(6, size=n)] + rng.normal(size=(n, d)) + 20).astype(dtype)


def with_ties(n, d, dtype):
    """Return integer points, a third of them duplicates, whose squared distances are exact."""
    X = np.random.default_rng(0).integers(-3, 4, (n, d))
    X[n // 2 :: 3] = X[: len(X[n // 2 :: 3])]
    return X.astype(dtype)


# ----------------------------------------------------------------------------------------- greedy k-centre


@pytest.mark.parametrize("points", [separated, with_ties])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("d", [2, 100])
def test_selection_equals_that_of_numba_and_of_the_plain_loop(d, dtype, points, device):
    X = points(600, d, dtype)
    centers, labels, radius = coreset.greedy_k_center(X, 300, 7, device)
    assert (centers.dtype, labels.dtype) == (np.int64, np.int32)
    expected, expected_labels, expected_radius = numba_coreset.greedy_k_center(X, 300, 7)
    assert_array_equal(centers, expected)
    assert_array_equal(centers, numba_coreset.greedy_k_center_plain(X, 300, 7)[0])
    assert_array_equal(labels, expected_labels)
    assert radius == pytest.approx(expected_radius, rel=1e-6)


def test_selection_in_parts_is_the_same(device, monkeypatch):
    X = separated(500, 5, np.float32)
    expected = coreset.greedy_k_center(X, 50, 0, device)
    monkeypatch.setattr(coreset, "_PART_BYTES", 64 * X[0].nbytes)
    for a, b in zip(coreset.greedy_k_center(X, 50, 0, device), expected, strict=True):
        assert_array_equal(a, b)


@pytest.mark.parametrize("n_centers", [1, 2, 4])
def test_selection_of_identical_points_takes_them_in_order(n_centers, device):
    centers, labels, radius = coreset.greedy_k_center(np.ones((4, 3)), n_centers, 2, device)
    assert_array_equal(centers, [2, 0, 1, 3][:n_centers])
    assert_array_equal(centers[labels[centers]], centers)
    assert radius == 0


def test_selection_shows_runs_and_leaves_the_input_alone(device):
    X = separated(600, 3, np.float32)
    X.flags.writeable = False
    seen = []
    coreset.greedy_k_center(X, 600, 0, device, progress=lambda runs: (seen.append(run) or run for run in runs))
    assert len(seen) == 3  # runs of 256


# ----------------------------------------------------------------------------------------- nearest neighbours


def search(bank, queries, k, device, *groups):
    return neighbors.k_nearest(neighbors.place_bank(bank, device), queries, k, *groups)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("n_bank", "k"), [(1, 1), (3, 3), (300, 1), (300, 9)])
@pytest.mark.parametrize("d", [2, 100])
def test_search_equals_all_distances(d, n_bank, k, dtype, device):
    bank, queries = separated(n_bank, d, dtype), separated(70, d, dtype, seed=1)
    all_distances = cdist(queries.astype(float), bank.astype(float))
    distances, indices = search(bank, queries, k, device)
    assert_array_equal(indices, np.argsort(all_distances, axis=1)[:, :k])
    assert_allclose(distances, np.sort(all_distances, axis=1)[:, :k], rtol=1e-12)
    assert (distances.dtype, indices.dtype) == (np.float64, np.int64)


@pytest.mark.parametrize("k", [1, 3])
def test_search_never_compares_within_a_group(k, device):
    bank = separated(200, 5, np.float64)
    groups = np.random.default_rng(1).integers(0, 4, 200)
    all_distances = np.where(groups[:, None] == groups, np.inf, cdist(bank, bank))
    distances, indices = search(bank, bank, k, device, groups, groups)
    assert_array_equal(indices, np.argsort(all_distances, axis=1)[:, :k])
    assert_allclose(distances, np.sort(all_distances, axis=1)[:, :k])


def test_search_uses_all_rows_outside_the_group(device):
    bank, groups = np.arange(9.0)[:, None], np.array([0, 0, 0, 0, 1, 1, 0, 0, 0])
    distances, indices = search(bank, bank[:1], 2, device, groups, groups[:1])
    assert_array_equal(indices, [[4, 5]])
    assert_array_equal(distances, [[4, 5]])


@pytest.mark.parametrize("n_queries", [1, 7, 8, 9])
@pytest.mark.parametrize("dtype", DTYPES)
def test_search_is_the_same_alone_and_in_a_batch_to_the_bit(dtype, n_queries, device, monkeypatch):
    monkeypatch.setattr(neighbors, "_BLOCK_ROWS", 8)
    bank, queries = separated(300, 31, dtype), separated(25, 31, dtype, seed=1)
    all_at_once = search(bank, queries, 2, device)
    for a, b in zip(search(bank, queries[:n_queries], 2, device), all_at_once, strict=True):
        assert_array_equal(a, b[:n_queries])


@pytest.mark.parametrize("dtype", DTYPES)
def test_search_orders_ties_by_index(dtype, device):
    """More rows tie than there are candidates."""
    bank = with_ties(400, 2, dtype)
    distances, indices = search(bank, bank, 3, device)
    expected, expected_indices = numba_neighbors.k_nearest(bank, bank, 3)
    assert_array_equal(indices, expected_indices)
    assert_array_equal(distances, expected)


def test_search_is_exact_in_narrow_clusters_far_apart(device):
    """Products lose what separates the rows of a cluster; the queries are left to the CPU."""
    rng = np.random.default_rng(0)
    bank = (rng.choice([-3e3, 3e3], (50, 8)).repeat(8, axis=0) + rng.normal(0, 1e-2, (400, 8))).astype(np.float32)
    queries = (bank[::3] + rng.normal(0, 1e-2, bank[::3].shape)).astype(np.float32)
    all_distances = cdist(queries.astype(float), bank.astype(float))
    assert_allclose(search(bank, queries, 1, device)[0][:, 0], all_distances.min(axis=1), rtol=1e-12)


@pytest.mark.parametrize("scale", [1e19, 1e25])
def test_search_measures_all_rows_where_products_overflow(scale, device):
    rng = np.random.default_rng(0)
    bank, queries = ((scale * rng.uniform(-1, 1, (n, 5))).astype(np.float32) for n in (60, 9))
    with np.errstate(all="ignore"):
        distances, _ = search(bank, queries, 3, device)
    assert_allclose(distances, np.sort(cdist(queries.astype(float), bank.astype(float)), axis=1)[:, :3], rtol=1e-12)


def allows_tf32():
    matmul = torch.backends.cuda.matmul
    return matmul.fp32_precision == "tf32" if hasattr(matmul, "fp32_precision") else matmul.allow_tf32


@pytest.mark.parametrize("before", ["highest", "high"])
def test_products_are_precise_and_the_setting_of_the_user_is_kept(before):
    initial = torch.get_float32_matmul_precision()
    try:
        torch.set_float32_matmul_precision(before)
        assert allows_tf32() == (before == "high")
        with torch.autocast("cpu", torch.bfloat16), devices.full_precision(torch.device("cpu")):
            assert not allows_tf32()
            assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == torch.float32
        assert torch.get_float32_matmul_precision() == before
        assert allows_tf32() == (before == "high")
    finally:
        torch.set_float32_matmul_precision(initial)


@CUDA
def test_cuda_searches_exactly_although_the_user_allows_tf32():
    bank, queries = separated(2000, 64, np.float32), separated(500, 64, np.float32, seed=1)
    initial = torch.get_float32_matmul_precision()
    try:
        torch.set_float32_matmul_precision("high")
        distances, indices = search(bank, queries, 1, torch.device("cuda"))
    finally:
        torch.set_float32_matmul_precision(initial)
    expected, expected_indices = numba_neighbors.k_nearest(bank, queries, 1)
    assert_array_equal(indices, expected_indices)
    assert_allclose(distances, expected, rtol=1e-12)


# ----------------------------------------------------------------------------------------- estimators


@pytest.mark.parametrize("settings", [{"ratio": 0.1}, {"n_samples": 30, "projection": 4}, {"ratio": 1}])
def test_coreset_keeps_the_same_patches(settings, gpu):
    X = separated(700, 40, np.float32)
    on_cpu = GreedyCoreset(**settings, random_state=0)
    on_gpu = clone(on_cpu).set_params(device=gpu)
    assert_array_equal(on_gpu.fit_transform(X), on_cpu.fit_transform(X))
    assert_array_equal(on_gpu.labels_, on_cpu.labels_)
    assert on_gpu.coverage_radius_ == pytest.approx(on_cpu.coverage_radius_, rel=1e-6)


@pytest.mark.filterwarnings("ignore::skanomaly.exceptions.CalibrationWarning")
@pytest.mark.parametrize("settings", [{}, {"algorithm": "brute", "reweight": 5, "n_neighbors": 2}])
@pytest.mark.parametrize("dtype", DTYPES)
def test_scorer_gives_the_same_scores_and_thresholds(dtype, settings, gpu):
    """The bank has more rows than those above which the CPU prunes."""
    grids, fresh = (separated(n * 20, 30, dtype, n).reshape(n, 4, 5, 30) for n in (40, 9))
    on_cpu, on_gpu = (KNNScorer(device=device, **settings).fit(grids) for device in ("cpu", gpu))
    assert_allclose(on_gpu.score_samples(fresh), on_cpu.score_samples(fresh), rtol=1e-4)
    assert_allclose(on_gpu.anomaly_map(fresh), on_cpu.anomaly_map(fresh), rtol=1e-4)
    assert_allclose(on_gpu.calibration_scores_, on_cpu.calibration_scores_, rtol=1e-4)


def test_scorer_keeps_the_bank_on_the_gpu_but_out_of_files(gpu, tmp_path, monkeypatch):
    X, fresh = separated(600, 20, np.float32), separated(30, 20, np.float32, seed=1)
    placed, place = [], neighbors.place_bank
    monkeypatch.setattr(neighbors, "place_bank", lambda *arguments: placed.append(1) or place(*arguments))
    scorer = KNNScorer(device=gpu, false_alarm_rate=None).fit(X)
    scores = scorer.score_samples(fresh)
    assert_array_equal(scorer.score_samples(fresh), scores)
    assert len(placed) == 1
    assert b"torch" not in pickle.dumps(scorer)
    save(scorer, tmp_path / "model.skops")
    for other in (pickle.loads(pickle.dumps(scorer)), load(tmp_path / "model.skops")):
        assert_array_equal(other.score_samples(fresh), scores)
        assert_allclose(other.set_params(device="cpu").score_samples(fresh), scores, rtol=1e-4)
    assert len(placed) == 3


def test_a_new_device_takes_effect_on_a_fitted_scorer(gpu, monkeypatch):
    X, searched = separated(600, 20, np.float32), []
    k_nearest = neighbors.k_nearest
    monkeypatch.setattr(neighbors, "k_nearest", lambda *arguments: searched.append(1) or k_nearest(*arguments))
    scorer = KNNScorer(calibration="split", random_state=0).fit(X)
    for n_searches, device_name in enumerate(["cpu", gpu, "cpu"]):
        del searched[:]
        scores = scorer.set_params(device=device_name).score_samples(X)
        assert len(searched) == n_searches % 2
        assert_allclose(
            scores, KNNScorer(calibration="split", random_state=0).fit(X).score_samples(X), rtol=1e-4, atol=1e-6
        )


@NO_CUDA
@pytest.mark.parametrize(
    "estimator", [GreedyCoreset(device="cuda"), GreedyCoreset(1, device="cuda"), KNNScorer(device="cuda")]
)
def test_a_device_that_is_not_there_is_an_error(estimator, rng):
    with pytest.raises(ValueError, match="device='cuda' is not available on this machine; it must be one of auto, cpu"):
        estimator.fit(rng.normal(size=(30, 2)))
    assert not [name for name in vars(estimator) if name.endswith("_")]


@NO_CUDA
def test_scoring_on_a_device_that_is_not_there_is_an_error_until_it_is_changed(rng):
    scorer = KNNScorer(calibration="split").fit(rng.normal(size=(100, 2))).set_params(device="cuda")
    with pytest.raises(ValueError, match="device='cuda' is not available"):
        scorer.score_samples(np.zeros((1, 2)))
    assert scorer.set_params(device="cpu").score_samples(np.zeros((1, 2))).shape == (1,)


@NO_CUDA
@pytest.mark.skipif(torch.backends.mps.is_available(), reason="there is MPS")
@pytest.mark.parametrize("algorithm", ["auto", "pruned", "brute"])
def test_auto_without_a_gpu_computes_what_the_cpu_computes(algorithm):
    X, fresh = separated(600, 20, np.float32), separated(30, 20, np.float32, seed=1)
    scores = [
        KNNScorer(algorithm=algorithm, device=device, false_alarm_rate=None).fit(X).score_samples(fresh)
        for device in ("auto", "cpu")
    ]
    assert_array_equal(*scores)
    kept = [GreedyCoreset(device=device, random_state=0).fit(X).indices_ for device in ("auto", "cpu")]
    assert_array_equal(*kept)


@pytest.mark.parametrize("algorithm", ["pruned", "pynndescent"])
@pytest.mark.parametrize("device_name", ["cuda", "mps"])
def test_algorithms_of_the_cpu_are_refused_on_a_gpu(device_name, algorithm, rng):
    scorer = KNNScorer(algorithm=algorithm, device=device_name)
    with pytest.raises(ValueError, match=f"algorithm='{algorithm}' runs on the CPU only, but device='{device_name}'"):
        scorer.fit(rng.normal(size=(30, 2)))


@pytest.mark.parametrize("estimator", [GreedyCoreset(device="tpu"), KNNScorer(device="tpu")])
def test_an_unknown_device_is_an_error(estimator, rng):
    with pytest.raises(ValueError, match="'device' parameter"):
        estimator.fit(rng.normal(size=(30, 2)))


def test_rows_need_no_torch():
    code = (
        "import sys, numpy as np; from skanomaly import GreedyCoreset, KNNScorer; X = np.eye(30);"
        "KNNScorer(false_alarm_rate=None).fit(GreedyCoreset(0.5).fit_transform(X)).score_samples(X);"
        "print('torch' in sys.modules)"
    )
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "False"
