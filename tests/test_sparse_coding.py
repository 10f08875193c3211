import numba
import numpy as np
import pytest
from sklearn.decomposition import MiniBatchDictionaryLearning, SparseCoder, sparse_encode
from sklearn.feature_extraction.image import extract_patches_2d

from skanomaly._kernels import sparse_coding as kernel
from skanomaly._kernels.sparse_coding import decode, learn_dictionaries, omp_codes, omp_errors
from skanomaly.exceptions import CalibrationWarning
from skanomaly.reduction import SparseCoding
from skanomaly.scoring import SparseCodingScorer


def unit(atoms):
    return atoms / np.linalg.norm(atoms, axis=-1, keepdims=True)


def sklearn_codes(X, atoms, n_nonzero):
    return SparseCoder(atoms, transform_algorithm="omp", transform_n_nonzero_coefs=n_nonzero).transform(X)


def objective(X, atoms, alpha=1.0):
    return lasso_costs(X, atoms, sparse_encode(X, atoms, algorithm="lasso_lars", alpha=alpha), alpha).sum()


def lasso_costs(X, atoms, codes, alpha):
    return ((X - codes @ atoms) ** 2).sum(axis=1) / 2 + alpha * np.abs(codes).sum(axis=1)


@pytest.fixture(scope="module")
def natural():
    """Standardised 8x8 patches of a photograph (4000, 64)."""
    from sklearn.datasets import load_sample_image

    gray = load_sample_image("china.jpg").mean(axis=2)
    patches = extract_patches_2d((gray - gray.mean()) / gray.std(), (8, 8), max_patches=4000, random_state=0)
    return patches.reshape(4000, 64)


@pytest.mark.parametrize(("n_atoms", "n_nonzero"), [(5, 1), (5, 3), (5, 5), (64, 5), (100, 8)])
def test_codes_equal_sklearn(natural, rng, n_atoms, n_nonzero):
    X = natural[:300]
    for atoms in (unit(rng.normal(size=(n_atoms, 64))), unit(natural[1000 : 1000 + n_atoms])):
        codes, expected = omp_codes(X, atoms, n_nonzero), sklearn_codes(X, atoms, n_nonzero)
        np.testing.assert_array_equal(codes != 0, expected != 0)
        np.testing.assert_allclose(codes, expected, rtol=0, atol=1e-5)
        np.testing.assert_allclose(
            omp_errors(X, atoms, n_nonzero), ((X - expected @ atoms) ** 2).sum(axis=1), rtol=1e-7, atol=1e-12
        )


def test_codes_equal_sklearn_for_atoms_of_any_norm(rng):
    X, atoms = rng.normal(size=(50, 12)), rng.normal(size=(8, 12))
    np.testing.assert_allclose(omp_codes(X, atoms, 4), sklearn_codes(X, atoms, 4), atol=1e-10)


def test_channels_equal_one_after_another(rng):
    X, atoms = rng.normal(size=(3, 40, 16)), unit(rng.normal(size=(3, 6, 16)))
    for function in (omp_codes, omp_errors):
        one_by_one = [function(x, a, 2) for x, a in zip(X, atoms, strict=True)]
        np.testing.assert_array_equal(function(X, atoms, 2), one_by_one)
    codes = omp_codes(X, atoms, 2)
    np.testing.assert_allclose(decode(codes, atoms), codes @ atoms, atol=1e-14)
    np.testing.assert_array_equal(decode(codes[1], atoms[1]), decode(codes, atoms)[1])


def test_pursuit_is_greedy_by_hand():
    """Two axes make up (1, 1, 0), but the third atom is nearer to it (1.2), and the first axis can only add so much.

    What is left is (0, 1, 0) outside the direction (0, .6, sqrt(.28)): 1 - .36 / .64.
    """
    atoms = np.array([[1.0, 0, 0], [0, 1.0, 0], [0.6, 0.6, np.sqrt(0.28)]])
    codes = omp_codes(np.array([[1.0, 1.0, 0.0]]), atoms, 2)
    np.testing.assert_array_equal(codes != 0, [[True, False, True]])
    np.testing.assert_allclose(omp_errors(np.array([[1.0, 1.0, 0.0]]), atoms, 2), [0.4375], rtol=1e-14)


def test_multiples_of_atoms_have_no_error(rng):
    atoms = unit(rng.normal(size=(7, 64)))
    scale = np.array([1, -3, 1e-9, 1e9, 2, 5, 7])
    codes = omp_codes(scale[:, None] * atoms, atoms, 3)
    np.testing.assert_allclose(codes, np.diag(scale), rtol=1e-14, atol=1e-14 * scale.max())
    assert (omp_errors(scale[:, None] * atoms, atoms, 3) <= 1e-28 * scale**2).all()


def test_errors_never_grow_with_the_atoms(natural, rng):
    atoms = unit(rng.normal(size=(70, 64)))
    X = natural[:100]
    errors = np.array([omp_errors(X, atoms, s) for s in range(1, 71)])
    energy = (X**2).sum(axis=1)
    assert (np.diff(errors, axis=0) <= 1e-14 * energy).all()
    assert (errors[0] <= energy).all()
    assert (errors[-1] <= 1e-12 * energy).all()


@pytest.mark.parametrize(
    ("X", "atoms"),
    [
        pytest.param([[0.0, 0, 0]], np.eye(3), id="zero patch"),
        pytest.param([[1.0, 2, 3]], [[0.0, 0, 0], [0, 0, 1], [0, 0, 0]], id="zero atoms"),
        pytest.param([[1.0, 2, 3]], [[0, 0.6, 0.8], [0, 0.6, 0.8], [0, 0.6, 0.8]], id="duplicate atoms"),
        pytest.param([[1.0, 2, 3]], [[0, 1.0, 0], [0, 0, 1], [0, 0.6, 0.8], [0, -0.6, 0.8]], id="dependent atoms"),
    ],
)
def test_pursuit_stops_where_sklearn_stops(X, atoms):
    X, atoms = np.array(X), np.array(atoms)
    with pytest.warns(RuntimeWarning, match="ended prematurely"):
        expected = sklearn_codes(X, atoms, 3)
    np.testing.assert_allclose(omp_codes(X, atoms, 3), expected, atol=1e-12)
    np.testing.assert_allclose(omp_errors(X, atoms, 3), ((X - expected @ atoms) ** 2).sum(axis=1), atol=1e-12)


def test_bits_depend_on_the_patch_alone(natural, rng):
    atoms = unit(rng.normal(size=(9, 64)))
    codes, errors = omp_codes(natural, atoms, 4), omp_errors(natural, atoms, 4)
    for part in (slice(None, None, -1), slice(7, 8), slice(1000, 2100)):
        np.testing.assert_array_equal(omp_codes(natural[part], atoms, 4), codes[part])
        np.testing.assert_array_equal(omp_errors(natural[part], atoms, 4), errors[part])
    np.testing.assert_array_equal(omp_codes(natural * 2.0**-40, atoms, 4), codes * 2.0**-40)


def test_single_precision_is_coded_in_double(natural, rng):
    X, atoms = natural[:200].astype(np.float32), unit(rng.normal(size=(5, 64)))
    np.testing.assert_array_equal(omp_errors(X, atoms, 3), omp_errors(X.astype(np.float64), atoms, 3))


@pytest.mark.parametrize("n_nonzero", [0, 6])
def test_kernel_refuses_more_atoms_than_there_are(n_nonzero):
    with pytest.raises(ValueError, match=rf"n_nonzero_coefs={n_nonzero} is not accepted.*\[1, 5 atoms\]"):
        omp_codes(np.ones((2, 8)), np.eye(8)[:5], n_nonzero)


@pytest.mark.parametrize(("X_shape", "atoms_shape"), [((9, 4), (3, 5)), ((2, 9, 4), (3, 3, 4)), ((9, 4), (1, 3, 4))])
def test_kernel_refuses_shapes_that_do_not_match(X_shape, atoms_shape):
    with pytest.raises(ValueError, match="cannot be coded with dictionaries of shape"):
        omp_errors(np.ones(X_shape), np.ones(atoms_shape), 1)


def lasso_codes(X, atoms, alpha):
    k = len(atoms)
    codes, rest = np.empty((len(X), k)), np.empty(k)
    scratch = np.empty(k, np.int64), np.empty((k, k)), np.empty(k), np.empty(k)
    for code, products in zip(codes, X @ atoms.T, strict=True):
        kernel._lasso(products, atoms @ atoms.T, alpha, rest, code, *scratch)
    return codes


@pytest.mark.parametrize("alpha", [0.1, 1.0, 20.0])
def test_lasso_equals_lars(natural, rng, alpha):
    """Also for atoms that hardly differ, where plain coordinate descent takes hundreds of sweeps."""
    X = natural[:200]
    alike = unit(X[0] + 0.1 * rng.normal(size=(6, 64)))
    for atoms in (unit(rng.normal(size=(40, 64))), alike):
        expected = sparse_encode(X, atoms, algorithm="lasso_lars", alpha=alpha)
        ours = lasso_codes(X, atoms, alpha)
        np.testing.assert_allclose(ours, expected, atol=1e-4)
        assert (lasso_costs(X, atoms, ours, alpha) <= lasso_costs(X, atoms, expected, alpha) + 1e-12).all()


def test_lasso_of_dependent_atoms_is_optimal(natural):
    """Where codes are not unique the objective is: two equal atoms, one opposite, one zero."""
    one, other = unit(natural[5]), unit(natural[900])
    X, atoms = natural[:200], np.array([one, one, -one, 0 * one, other])
    few = np.array([one, other])
    expected = sparse_encode(X, few, algorithm="lasso_lars", alpha=1.0)
    ours = lasso_costs(X, atoms, lasso_codes(X, atoms, 1.0), 1.0)
    np.testing.assert_allclose(ours, lasso_costs(X, few, expected, 1.0), rtol=1e-10)


def test_dictionaries_are_as_good_as_sklearns(natural):
    """On held-out patches, for raw patches and patches without their mean. Random patches as atoms must do worse."""
    centered = natural - natural.mean(axis=1, keepdims=True)
    X = np.array([natural, 3 * centered])
    train, held_out = X[:, :2000], X[:, 3000:3500]
    learnt, n_iter = learn_dictionaries(train, 5, [0, 1])
    assert (np.linalg.norm(learnt, axis=2) <= 1 + 1e-12).all()
    assert ((n_iter >= 2) & (n_iter <= 20)).all()
    margins = []
    for c in range(2):
        oracle = MiniBatchDictionaryLearning(5, alpha=1, batch_size=256, max_iter=5, random_state=0).fit(train[c])
        expected = objective(held_out[c], oracle.components_)
        assert objective(held_out[c], learnt[c]) < 1.03 * expected
        margins.append(objective(held_out[c], unit(train[c, ::400])) / expected)
    assert min(margins) > 1.04, margins


def test_atoms_are_updated_by_hand():
    """One atom with A = 2 has its optimum at B / 2: kept inside the unit ball, projected outside; unused, replaced."""
    for B, use, expected in (((0.6, 0.8), 2, (0.3, 0.4)), ((6, 8), 2, (0.6, 0.8)), ((6, 8), 0, (0, -1))):
        atoms = np.array([[1.0, 0.0]])
        kernel._update(atoms, np.array([[float(use)]]), np.array([B], float), 1e-6, np.array([0.0, -5.0]))
        np.testing.assert_allclose(atoms, [expected], rtol=1e-15)


def test_orthogonal_atoms_are_found():
    """Patches are multiples of 4 axes of 10-d: the atoms must be these, whatever the first atoms are."""
    rng = np.random.default_rng(1)
    X = np.zeros((20, 400, 10))
    X[:, np.arange(400), np.arange(400) % 4] = rng.normal(size=(20, 400)) * 5
    atoms, _ = learn_dictionaries(X, 4, np.arange(20), alpha=0.1, max_iter=50, batch_size=40)
    for found in np.abs(atoms):
        np.testing.assert_allclose(np.sort(found @ np.eye(10)[:4].T, axis=0)[-1], 1, atol=1e-3)


def test_learning_depends_on_the_channel_and_its_seed_alone(natural):
    X = np.stack([natural[:600], natural[600:1200], natural[:600]])
    threads = numba.get_num_threads()
    atoms, n_iter = learn_dictionaries(X, 5, [3, 4, 5])
    try:
        numba.set_num_threads(1)
        again, _ = learn_dictionaries(X, 5, [3, 4, 5])
    finally:
        numba.set_num_threads(threads)
    np.testing.assert_array_equal(again, atoms)
    alone, passes = learn_dictionaries(X[1], 5, 4)
    np.testing.assert_array_equal(alone, atoms[1])
    assert passes == n_iter[1]
    assert (atoms[0] != atoms[2]).any()
    with pytest.raises(ValueError, match="seeds must be one number for each of the 3 channels, got 2"):
        learn_dictionaries(X, 5, [3, 4])


@pytest.mark.parametrize("X", [np.zeros((30, 6)), np.ones((2, 6)), np.eye(6)])
def test_learning_survives_poor_patches(X):
    atoms, _ = learn_dictionaries(X, 5, 0)
    assert np.isfinite(atoms).all()
    assert (np.linalg.norm(atoms, axis=1) <= 1 + 1e-12).all()


def test_transformer_codes_as_sklearn_does(rng):
    grids = rng.normal(size=(6, 5, 4, 12))
    coding = SparseCoding(6, n_nonzero_coefs=2, random_state=0).fit(grids)
    codes = coding.transform(grids)
    np.testing.assert_allclose(codes.reshape(-1, 6), sklearn_codes(grids.reshape(-1, 12), coding.components_, 2))
    np.testing.assert_array_equal(coding.transform(grids.reshape(-1, 12)), codes.reshape(-1, 6))
    np.testing.assert_allclose(coding.inverse_transform(codes), codes @ coding.components_, atol=1e-13)
    assert coding.inverse_transform(codes.astype(np.float32)).dtype == np.float32
    assert list(coding.get_feature_names_out()) == [f"sparsecoding{j}" for j in range(6)]
    same = SparseCoding(6, n_nonzero_coefs=2, random_state=0).fit(grids.reshape(-1, 12))
    np.testing.assert_array_equal(same.components_, coding.components_)
    with pytest.raises(ValueError, match=r"codes of shape \(n, 6\).*got shape \(3, 5\)"):
        coding.inverse_transform(np.ones((3, 5)))


def test_scores_sum_the_worst_errors(rng):
    grids = rng.normal(size=(30, 3, 4, 8))
    scorer = SparseCodingScorer(random_state=0).fit(grids)
    rows = grids[:4].reshape(-1, 8)
    residuals = rows - sklearn_codes(rows, scorer.components_, 3) @ scorer.components_
    errors = (residuals**2).sum(axis=1).reshape(4, 12)
    np.testing.assert_allclose(scorer.anomaly_map(grids[:4]), errors.reshape(4, 3, 4), rtol=1e-6)
    np.testing.assert_allclose(scorer.score_samples(grids[:4]), -np.sort(errors)[:, -5:].sum(axis=1))
    np.testing.assert_allclose(scorer.score_samples(grids[:4, :1, :2]), -errors[:, :2].sum(axis=1))
    np.testing.assert_array_equal(scorer.score_samples(grids)[7:8], scorer.score_samples(grids[7:8]))
    assert scorer.offset_ == -scorer.calibration_scores_.max()


def test_unlike_patches_score_worse(natural):
    """Photograph against noise of the same variance; a dictionary of noise must not tell them apart so well."""
    rng = np.random.default_rng(0)
    noise = rng.normal(size=(500, 64)) * natural.std()
    normal = natural[3000:3500]
    scorer = SparseCodingScorer(random_state=0).fit(natural[:3000])
    assert (scorer.predict(noise) == -1).mean() > 0.9
    assert (scorer.predict(normal) == 1).mean() > 0.9
    blind = SparseCodingScorer(random_state=0).fit(rng.normal(size=(3000, 64)) * natural.std())
    assert (blind.predict(noise) == -1).mean() < 0.2


def test_atoms_are_fewer_than_features(rng):
    X = rng.normal(size=(100, 3))
    scorer = SparseCodingScorer(random_state=0).fit(X)
    assert scorer.n_nonzero_coefs_ == 2
    assert SparseCodingScorer(1, random_state=0).fit(X).n_nonzero_coefs_ == 1
    codes = SparseCoding(2, n_nonzero_coefs=3, random_state=0).fit_transform(X)
    assert ((codes != 0).sum(axis=1) <= 2).all()
    assert (scorer.score_samples(X) < -1e-6).any()
    assert scorer.score_samples(X[:5] + 50).max() < scorer.score_samples(X).min()
    with pytest.raises(ValueError, match="1 feature"):
        SparseCodingScorer().fit(X[:, :1])


@pytest.mark.parametrize("calibration", ["cv", "split"])
def test_false_alarms_are_as_promised(calibration):
    """Mean over 40 draws; the tolerance is 4 standard errors of a beta-binomial mean, and a little for the folds."""
    rng = np.random.default_rng(0)
    rates = []
    for seed in range(40):
        X = rng.normal(size=(300, 8))
        scorer = SparseCodingScorer(false_alarm_rate=0.2, calibration=calibration, random_state=seed).fit(X[:100])
        rates.append((scorer.predict(X[100:]) == -1).mean())
    n = {"cv": 100, "split": 20}[calibration]
    expected = 1 - np.ceil((n + 1) * 0.8) / (n + 1)
    error = np.sqrt(0.2 * 0.8 / (n + 2) + 0.2 * 0.8 / 200) / np.sqrt(40)
    assert abs(np.mean(rates) - expected) < 4 * error + (0.01 if calibration == "cv" else 0)


def test_rows_give_no_threshold_for_grids(rng):
    scorer = SparseCodingScorer(random_state=0).fit(rng.normal(size=(40, 6)))
    grids = rng.normal(size=(2, 3, 3, 6))
    assert scorer.anomaly_map(grids).shape == (2, 3, 3)
    for method in (scorer.predict, scorer.anomaly_mask, scorer.p_values):
        with pytest.raises(ValueError, match="ConformalDetector"):
            method(grids)
    assert scorer.predict(grids[:, :1, :1]).shape == (2,)


@pytest.mark.parametrize("estimator", [SparseCoding, SparseCodingScorer])
@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"n_nonzero_coefs": 0}, "'n_nonzero_coefs' parameter"),
        ({"n_components": 0}, "'n_components' parameter"),
        ({"alpha": -1}, "'alpha' parameter"),
        ({"batch_size": 0}, "'batch_size' parameter"),
    ],
)
def test_bad_parameters_leave_the_old_fit(estimator, parameters, message, rng):
    X = rng.normal(size=(40, 6))
    fitted = estimator(random_state=0).fit(X)
    before = fitted.components_
    with pytest.raises(ValueError, match=message):
        fitted.set_params(**parameters).fit(X * 2)
    assert fitted.components_ is before


def test_scorer_has_no_leave_one_out(rng):
    with pytest.raises(ValueError, match="'calibration' parameter"):
        SparseCodingScorer(calibration="loo").fit(rng.normal(size=(40, 6)))
    with pytest.warns(CalibrationWarning):
        SparseCodingScorer(calibration="split", random_state=0).fit(rng.normal(size=(40, 6)))
