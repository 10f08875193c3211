from itertools import combinations

import numba
import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from scipy import ndimage
from scipy.spatial.distance import cdist
from skimage.morphology import remove_small_objects
from sklearn.metrics import auc, roc_auc_score, roc_curve

from skanomaly._kernels.coreset import cover_again, covering_radius, greedy_k_center, greedy_k_center_plain
from skanomaly._kernels.neighbors import k_nearest
from skanomaly._kernels.pruned_neighbors import build_index, search_index
from skanomaly._kernels.ranking import area_under, weighted_curve
from skanomaly._kernels.regions import label_regions, largest_level, remove_small_regions
from skanomaly._kernels.smoothing import average_grids, harmonic_grids, map_operator, resize_matrix

DTYPES = [np.float32, np.float64]
EIGHT = np.ones((3, 3))


def select(X, n_centers, start=0, by=greedy_k_center):
    """Return the centres and the radius, whatever else the kernel returns."""
    centers, *_, radius = by(X, n_centers, start)
    return centers, radius


def grid_points(n, d, dtype, seed=0):
    """Return points with integer coordinates and many duplicates and ties; float32 sums are exact."""
    X = np.random.default_rng(seed).integers(-3, 4, (n, d))
    X[n // 2 :: 3] = X[: len(X[n // 2 :: 3])]
    return X.astype(dtype)


def clustered_points(n, d, dtype, seed=0):
    """Return points near a curve through few clusters: most distances can be proved superfluous."""
    rng = np.random.default_rng(seed)
    means = rng.normal(0, 5, (8, d))
    return (means[rng.integers(8, size=n)] + rng.normal(size=(n, 2)) @ rng.normal(size=(2, d))).astype(dtype)


def k_center_loop(X, n_centers, start):
    centers, nearest = [], np.full(len(X), np.inf)
    while len(centers) < n_centers:
        centers.append(start if not centers else int(nearest.argmax()))
        nearest = np.minimum(nearest, np.linalg.norm(X.astype(float) - X[centers[-1]].astype(float), axis=1))
        nearest[centers] = -1
    return centers


# Greedy k-centre


@pytest.mark.parametrize("by", [greedy_k_center, greedy_k_center_plain])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("d", [1, 3, 100])
def test_greedy_selects_what_the_numpy_loop_selects_with_ties_and_duplicates(d, dtype, by):
    X = grid_points(400, d, dtype)
    for start in (0, 399):
        assert_array_equal(select(X, 300, start, by)[0], k_center_loop(X, 300, start))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("d", [3, 64, 65, 100])
@pytest.mark.parametrize("seed", range(3))
def test_greedy_equals_the_plain_loop_on_clusters(d, dtype, seed):
    X = clustered_points(1000, d, dtype, seed)
    centers, radius = select(X, 600, start=seed)
    plain_centers, plain_radius = select(X, 600, seed, greedy_k_center_plain)
    assert_array_equal(centers, plain_centers)
    assert radius == pytest.approx(plain_radius, rel=1e-6)


def nested_points(n, d, dtype, seed=0):
    """Return clusters at distances of all magnitudes, so that the farthest points share a single cluster."""
    rng = np.random.default_rng(seed)
    scales = 2.0 ** rng.integers(-10, 10, n)
    return (scales[:, None] * (np.ones(d) + 0.01 * rng.normal(size=(n, d)))).astype(dtype)


def noise_points(n, d, dtype, seed=0):
    return np.random.default_rng(seed).normal(size=(n, d)).astype(dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("d", [2, 30, 100])
@pytest.mark.parametrize("points", [noise_points, clustered_points, nested_points, grid_points])
def test_greedy_equals_the_plain_loop_where_candidates_are_few(points, d, dtype):
    """Of 5,000 points, a fifth are candidates in the first round; the last run of centres is not complete."""
    X = points(5000, d, dtype)
    centers, labels, radius = greedy_k_center(X, 700, 17)
    plain_centers, plain_radius = greedy_k_center_plain(X, 700, 17)
    assert_array_equal(centers, plain_centers)
    assert radius == plain_radius
    assert_array_equal(centers[labels[centers]], centers)
    distances = cdist(X, X[centers])
    assert_allclose(distances[np.arange(5000), labels], distances.min(axis=1), rtol=1e-5)


def test_greedy_is_the_same_for_any_number_of_threads():
    X = noise_points(3000, 40, np.float32)
    before = numba.get_num_threads()
    try:
        numba.set_num_threads(1)
        one = greedy_k_center(X, 500, 0)
    finally:
        numba.set_num_threads(before)
    for a, b in zip(one, greedy_k_center(X, 500, 0), strict=True):
        assert_array_equal(a, b)


@pytest.mark.parametrize("offset", [0, 1e3])
def test_greedy_equals_the_plain_loop_far_from_the_origin(offset):
    X = (grid_points(600, 100, np.float64) + offset).astype(np.float32)
    assert_array_equal(select(X, 500)[0], select(X, 500, by=greedy_k_center_plain)[0])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("d", [3, 100])
def test_greedy_of_all_points_is_a_permutation_with_radius_zero(d, dtype):
    X = grid_points(700, d, dtype)
    centers, radius = select(X, 700, start=5)
    assert centers[0] == 5
    assert_array_equal(np.sort(centers), np.arange(700))
    assert radius == 0


@pytest.mark.parametrize("scale", [1e16, 1e50, 1e99])
def test_greedy_selects_the_same_at_any_scale(scale):
    X = clustered_points(500, 100, np.float64)
    scale = 2.0 ** np.round(np.log2(scale))  # exact
    expected, radius = select(X, 60)
    centers, scaled = select(X * scale, 60)
    assert_array_equal(centers, expected)
    assert scaled == radius * scale


@pytest.mark.parametrize("n_centers", [1, 2, 4])
def test_greedy_of_identical_points_takes_them_in_order(n_centers):
    centers, radius = select(np.ones((4, 3)), n_centers, start=2)
    assert_array_equal(centers, [2, 0, 1, 3][:n_centers])
    assert radius == 0


@pytest.mark.parametrize("d", [3, 100])
def test_greedy_radius_is_the_largest_distance_to_the_centres_and_shrinks(d):
    X = clustered_points(300, d, np.float64)
    radii = []
    for n_centers in (1, 2, 3, 10, 100, 299, 300):
        centers, radius = select(X, n_centers)
        assert radius == pytest.approx(cdist(X, X[centers]).min(axis=1).max(), abs=1e-12)
        radii.append(radius)
    assert (np.diff(radii) < 0).all()


def test_fewer_greedy_centres_are_the_first_of_more():
    X = grid_points(300, 3, np.float32)
    assert_array_equal(select(X, 40)[0], select(X, 290)[0][:40])


@pytest.mark.parametrize("seed", range(20))
def test_greedy_radius_is_at_most_twice_the_optimum(seed):
    X = np.random.default_rng(seed).normal(size=(9, 2))
    distances = cdist(X, X)
    best = min(distances[:, list(three)].min(axis=1).max() for three in combinations(range(9), 3))
    assert best <= select(X, 3, start=seed % 9)[1] <= 2 * best


def test_greedy_progress_sees_all_runs_and_leaves_the_input_alone():
    X = grid_points(600, 3, np.float32)
    before, seen = X.copy(), []
    greedy_k_center(X, 600, 0, progress=lambda runs: (seen.append(run) or run for run in runs))
    assert len(seen) == 3  # runs of 256
    assert_array_equal(X, before)


@pytest.mark.parametrize("n_centers", [2, 50, 400, 600])
@pytest.mark.parametrize("d", [3, 100])
def test_greedy_labels_name_a_nearest_centre_and_give_the_radius(d, n_centers):
    X = clustered_points(600, d, np.float64)
    centers, labels, radius = greedy_k_center(X, n_centers, 7)
    distances = cdist(X, X[centers])
    assert_allclose(distances[np.arange(600), labels], distances.min(axis=1), atol=1e-12)
    assert covering_radius(X, X[centers], labels) == pytest.approx(radius, abs=1e-12)


def test_covering_radius_is_the_largest_labelled_distance():
    rows, centers = np.array([[0.0, 0], [3, 4], [1, 0]]), np.array([[0.0, 0], [1, 1]])
    assert covering_radius(rows, centers, np.array([0, 0, 1])) == 5
    assert covering_radius(rows, centers, np.array([1, 1, 1])) == pytest.approx(np.sqrt(13))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("radius", [0, 1.5, 4, 100])
def test_cover_again_takes_the_farthest_until_all_are_within_the_radius(radius, dtype):
    rows, old = grid_points(80, 3, dtype), grid_points(5, 3, dtype, seed=1)
    distances = cdist(rows, old).min(axis=1).astype(dtype)
    expected, nearest = [], distances.copy()
    while nearest.max() > radius:
        expected.append(int(nearest.argmax()))
        nearest = np.minimum(nearest, cdist(rows, rows[expected[-1:]])[:, 0].astype(dtype))
    assert_array_equal(cover_again(rows, distances, radius), expected)
    assert (radius == 100) == (not expected)


# Nearest neighbours


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("k", [1, 3])
@pytest.mark.parametrize("d", [2, 100])
def test_k_nearest_equals_all_distances(d, k, dtype):
    rng = np.random.default_rng(0)
    bank, queries = (rng.normal(5, 1, (n, d)).astype(dtype) for n in (300, 70))
    all_distances = cdist(queries.astype(float), bank.astype(float))
    distances, indices = k_nearest(bank, queries, k)
    assert_array_equal(indices, np.argsort(all_distances, axis=1)[:, :k])
    assert_allclose(distances, np.sort(all_distances, axis=1)[:, :k], rtol=1e-12)


@pytest.mark.parametrize("k", [1, 3])
def test_k_nearest_never_compares_within_a_group(k):
    rng = np.random.default_rng(1)
    bank = rng.normal(size=(200, 5))
    groups = rng.integers(0, 4, 200)
    all_distances = np.where(groups[:, None] == groups, np.inf, cdist(bank, bank))
    distances, indices = k_nearest(bank, bank, k, groups, groups)
    assert_array_equal(indices, np.argsort(all_distances, axis=1)[:, :k])
    assert_allclose(distances, np.sort(all_distances, axis=1)[:, :k])


def test_k_nearest_uses_all_rows_outside_the_group():
    bank, groups = np.arange(6.0)[:, None], np.array([0, 0, 0, 0, 1, 1])
    distances, indices = k_nearest(bank, bank[:1], 2, groups, groups[:1])
    assert_array_equal(indices, [[4, 5]])
    assert_array_equal(distances, [[4, 5]])


@pytest.mark.parametrize("dtype", DTYPES)
def test_k_nearest_of_a_row_of_the_bank_is_that_row_at_distance_zero(dtype):
    bank = np.random.default_rng(2).normal(100, 1, (500, 50)).astype(dtype)
    distances, indices = k_nearest(bank, bank[::3].copy(), 1)
    assert_array_equal(indices[:, 0], np.arange(0, 500, 3))
    assert_array_equal(distances, 0)


def test_k_nearest_is_exact_in_narrow_clusters_far_apart():
    rng = np.random.default_rng(0)
    bank = np.concatenate([rng.normal(mean, 0.01, (50, 8)) for mean in (1000, -1000)]).astype(np.float32)
    assert_array_equal(k_nearest(bank, bank, 1)[0], 0)


@pytest.mark.parametrize(("scale", "dtype"), [(1e20, np.float32), (1e38, np.float32), (1e200, np.float64)])
def test_k_nearest_measures_all_rows_where_products_overflow(scale, dtype):
    rng = np.random.default_rng(0)
    bank, queries = ((scale * rng.uniform(-1, 1, (n, 5))).astype(dtype) for n in (60, 9))
    with np.errstate(all="ignore"):
        distances, rows = k_nearest(bank, queries, 3)
    assert ((rows >= 0) & (rows < len(bank))).all()
    if dtype == np.float32:
        assert_allclose(distances, np.sort(cdist(queries, bank), axis=1)[:, :3], rtol=1e-12)
    else:
        assert np.isinf(distances).all()


@pytest.mark.parametrize("dtype", DTYPES)
def test_k_nearest_is_the_same_alone_and_in_a_batch_to_the_bit(dtype):
    rng = np.random.default_rng(3)
    bank, queries = (rng.normal(size=(n, 67)).astype(dtype) for n in (5001, 900))  # 838 queries to a block
    distances, indices = k_nearest(bank, queries, 3)
    for i in (0, 1, 500, 837, 838, 899):
        alone = k_nearest(bank, queries[i : i + 1], 3)
        assert_array_equal(alone[0][0], distances[i])
        assert_array_equal(alone[1][0], indices[i])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("d", [2, 33, 100])
def test_k_nearest_orders_ties_by_index(d, dtype):
    rng = np.random.default_rng(4)
    values = rng.normal(size=(3, d)).astype(dtype)
    kinds = rng.permutation(np.repeat(np.arange(3), 41))
    distances, indices = k_nearest(values[kinds], values + dtype(0.01), 3)
    assert_array_equal(indices, [np.flatnonzero(kinds == kind)[:3] for kind in range(3)])
    assert_array_equal(distances, distances[:, :1].repeat(3, axis=1))


@pytest.mark.parametrize("seed", range(5))
def test_k_nearest_orders_ties_of_different_rows_by_index(seed):
    rng = np.random.default_rng(seed)
    step = rng.integers(-9, 10, 33)
    tied = [rng.permutation(step) for _ in range(6)]
    bank = np.concatenate([rng.integers(20, 90, (50, 33)), tied])[rng.permutation(56)].astype(np.float32)
    distances, indices = k_nearest(bank, np.zeros((1, 33), np.float32), 3)
    assert_array_equal(indices[0], np.flatnonzero((bank < 20).all(axis=1))[:3])
    assert_array_equal(distances[0], np.sqrt(step @ step))


# Map operators


def to_map(grid, cropped, resized, out, sigma):
    """Return the map of a grid; all sizes are (H, W)."""
    rows, columns = (map_operator(*sizes, sigma) for sizes in zip(grid.shape, cropped, resized, out, strict=True))
    return rows @ grid @ columns.T


def bilinear(image, size):
    tensor = torch.from_numpy(image)[None, None]
    return torch.nn.functional.interpolate(tensor, size, mode="bilinear", align_corners=False)[0, 0].numpy()


def oracle_map(grid, cropped, resized, out, sigma):
    crop = ndimage.gaussian_filter(bilinear(grid, cropped), sigma, mode="reflect", truncate=4.0)
    margins = [((r - c) // 2, r - c - (r - c) // 2) for c, r in zip(cropped, resized, strict=True)]
    return bilinear(np.pad(crop, margins, mode="edge"), out)


@pytest.mark.parametrize("sigma", [0, 1.5, 4.0, 30.0])
@pytest.mark.parametrize("grid_shape", [(7, 5), (1, 4), (40, 70)])
def test_map_operator_equals_interpolate_then_gaussian_filter(grid_shape, sigma):
    grid, size = np.random.default_rng(0).random(grid_shape), (56, 40)
    assert_allclose(to_map(grid, size, size, size, sigma), oracle_map(grid, size, size, size, sigma), atol=1e-6)


@pytest.mark.parametrize("out", [(48, 60), (96, 120), (31, 200), (20, 15)])
@pytest.mark.parametrize("cropped", [(48, 60), (32, 40), (33, 47)])
def test_map_operator_goes_back_to_the_image_and_knows_nothing_outside_the_crop(cropped, out):
    grid, resized = np.random.default_rng(1).random((8, 10)), (48, 60)
    seen = []
    for n_cropped, n_resized, n_out in zip(cropped, resized, out, strict=True):
        centers = (np.arange(n_out) + 0.5) * n_resized / n_out - (n_resized - n_cropped) // 2
        seen.append((centers >= 0) & (centers <= n_cropped))
    expected = np.where(np.outer(*seen), oracle_map(grid, cropped, resized, out, 2.0), np.nan)
    assert_allclose(to_map(grid, cropped, resized, out, 2.0), expected, atol=1e-6)


@pytest.mark.parametrize("sizes", [(7, 56, 56, 56), (7, 56, 64, 300), (9, 33, 48, 20), (1, 8, 8, 8)])
@pytest.mark.parametrize("sigma", [0, 4.0])
def test_map_operator_keeps_constants_and_is_read_only(sizes, sigma):
    operator = map_operator(*sizes, sigma)
    seen = ~np.isnan(operator[:, 0])
    assert seen.sum() == pytest.approx(sizes[3] * sizes[1] / sizes[2], abs=2)
    assert_allclose(operator[seen].sum(axis=1), 1, rtol=1e-6)
    with pytest.raises(ValueError, match="read-only"):
        operator[0] = 0


@pytest.mark.parametrize(("n_in", "n_out"), [(1, 3), (3, 3), (3, 10), (10, 3)])
def test_resize_matrix_equals_interpolate(n_in, n_out):
    assert_allclose(resize_matrix(n_in, n_out), bilinear(np.eye(n_in), (n_out, n_in)), atol=1e-12)


# Regions


def largest_level_loop(score_map, min_area):
    levels = np.unique(score_map[~np.isnan(score_map)])
    for level in levels[::-1]:
        labels, _ = ndimage.label(score_map >= level, EIGHT)
        if np.bincount(labels.ravel())[1:].max() >= min_area:
            return level
    return -np.inf


@pytest.mark.parametrize("min_area", [1, 2, 3, 10, 40, 108])
@pytest.mark.parametrize("seed", range(4))
def test_largest_level_equals_the_loop_over_thresholds(seed, min_area):
    rng = np.random.default_rng(seed)
    smooth = ndimage.gaussian_filter(rng.normal(size=(9, 12)), 0.7)
    for score_map in (smooth, np.round(smooth, 1), np.where(rng.random((9, 12)) < 0.2, np.nan, smooth)):
        assert largest_level(score_map, min_area) == largest_level_loop(score_map, min_area)
        assert largest_level(score_map.astype(np.float32), min_area) == np.float32(
            largest_level_loop(score_map, min_area)
        )


def test_largest_level_by_hand():
    score_map = np.array([[9.0, 1, 5], [1, 8, 1], [np.nan, 1, 1]])
    expected = {1: 9, 2: 8, 3: 5, 4: 1, 8: 1, 9: -np.inf}  # 9, 8 and 5 touch at corners
    assert {area: largest_level(score_map, area) for area in expected} == expected


@pytest.mark.parametrize("min_area", [0, 1, 2, 3, 7, 1000])
def test_remove_small_regions_equals_skimage(min_area):
    mask = np.random.default_rng(0).random((30, 40)) < 0.25
    expected = remove_small_objects(mask, max_size=min_area - 1, connectivity=2) if min_area else mask
    assert_array_equal(remove_small_regions(mask, min_area), expected)


def test_regions_left_after_removal_decide_like_the_largest_level():
    score_map = np.random.default_rng(5).random((12, 12))
    for min_area in (1, 4, 20):
        level = largest_level(score_map, min_area)
        assert remove_small_regions(score_map >= level, min_area).any()
        assert not remove_small_regions(score_map > level, min_area).any()


def test_label_regions_joins_corners():
    labels, count = label_regions(np.array([[1, 0, 0, 1], [0, 1, 0, 1], [0, 0, 0, 0], [1, 1, 0, 0]], bool))
    assert_array_equal(labels, [[1, 0, 0, 2], [0, 1, 0, 2], [0, 0, 0, 0], [3, 3, 0, 0]])
    assert count == 3


# Curves


def curve_of(labels, scores):
    return weighted_curve(scores, ~labels / (~labels).sum(), labels / labels.sum())


@pytest.mark.parametrize("decimals", [0, 1, 10])  # many, some and no ties
def test_weighted_curve_and_area_equal_the_roc_curve(decimals):
    rng = np.random.default_rng(0)
    labels = rng.random(300) < 0.3
    scores = np.round(rng.normal(size=300) + labels, decimals)
    fpr, tpr, _ = roc_curve(labels, scores, drop_intermediate=False)
    x, y = curve_of(labels, scores)
    assert_allclose(x, fpr, atol=1e-12)
    assert_allclose(y, tpr, atol=1e-12)
    assert area_under(x, y) == pytest.approx(auc(fpr, tpr))
    for limit in (0.01, 0.3, 0.77):
        chance, ceiling = limit / 2, 1  # sklearn maps these to 1/2 and 1 (McClish)
        expected = (1 + (area_under(x, y, limit) - chance) / (ceiling - chance)) / 2
        assert roc_auc_score(labels, scores, max_fpr=limit) == pytest.approx(expected)


def test_weighted_curve_counts_weights():
    x, y = weighted_curve(np.array([1, 3, 1, 2]), np.array([0, 0.7, 0.3, 0]), np.array([0.5, 0, 0.1, 0.4]))
    assert_allclose(x, [0, 0.7, 0.7, 1])
    assert_allclose(y, [0, 0, 0.4, 1])
    assert area_under(x, y) == pytest.approx(0.3 * (0.4 + 1) / 2)
    assert area_under(x, y, 0.85) == pytest.approx(0.15 * (0.4 + 0.7) / 2 / 0.85)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("d", "k"), [(2, 1), (40, 3), (152, 9)])
def test_pruned_search_equals_brute_force(d, k, dtype):
    rng = np.random.default_rng(0)
    blobs = rng.normal(0, 5, (12, d))
    bank = (blobs[rng.integers(12, size=2500)] + rng.normal(size=(2500, d)) + 50).astype(dtype)
    bank[100:110] = bank[5]
    queries = np.concatenate([bank[::50], rng.normal(50, 5, (150, d)).astype(dtype)])
    groups = rng.integers(0, 5, 2500), rng.integers(0, 5, len(queries))
    index = build_index(bank)
    for choice in ((), groups):
        distances, indices = search_index(index, queries, k, *choice)
        expected, expected_indices = k_nearest(bank, queries, k, *choice)
        assert_allclose(distances, expected, rtol=1e-5 if dtype == np.float32 else 1e-12, atol=1e-12)
        assert (indices == expected_indices).mean() > 0.999  # the rest are ties within rounding
        one = (choice[0], choice[1][7:8]) if choice else ()
        assert_array_equal(search_index(index, queries[7:8], k, *one)[0], distances[7:8])
    assert (search_index(index, bank[:20], 1)[0] == 0).all()


def test_means_of_grids_by_hand():
    """A coarse grid of one value is that value everywhere; the means of 1 and 7 are 4 and (2 / (1 + 1/49))^(1/2)."""
    fine, coarse = np.array([[1.0, 7.0], [0.0, 1e300]]), np.array([[7.0]])
    assert_allclose(average_grids([fine, coarse]), [[4, 7], [3.5, 5e299]])
    expected = [[1.4, 7], [0, 7 * np.sqrt(2)]]  # 2 / (1 + 1/49) is 1.96
    assert_allclose(harmonic_grids([fine, coarse]), expected)
    assert_allclose(harmonic_grids([fine * 1e-300, coarse * 1e-300]), np.multiply(expected, 1e-300))
    assert_array_equal(harmonic_grids([fine]), fine)
    assert_array_equal(harmonic_grids([np.zeros((2, 2)), np.zeros((1, 1))]), np.zeros((2, 2)))
