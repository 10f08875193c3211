import pickle

import numpy as np
import pytest
from scipy.stats import chi2
from sklearn.base import clone
from sklearn.covariance import OAS, EmpiricalCovariance, LedoitWolf, MinCovDet
from sklearn.decomposition import PCA

from skanomaly import PretrainedPatchFeatures, select_anomalies
from skanomaly.datasets import make_surfaces
from skanomaly.detectors import MahalanobisAD
from skanomaly.features._base import BaseFeatures, Layers
from skanomaly.metrics import image_auroc
from skanomaly.testing import parametrize_with_image_checks

pytestmark = pytest.mark.filterwarnings("ignore::skanomaly.exceptions.CalibrationWarning")


class Vectors(BaseFeatures):
    """Rows as images of one cell, whose columns are the features of one or several layers."""

    def __init__(self, sizes):
        self.sizes = sizes

    def check_samples(self, X, *, reset=False):
        return np.asarray(X)

    def fit_samples(self, samples):
        self.layer_shapes_ = [(1, 1, size) for size in self.sizes]
        self.n_features_out_ = sum(self.sizes)
        return self

    def transform_layers(self, X):
        return Layers([part[:, None, None] for part in np.split(X, np.cumsum(self.sizes)[:-1], axis=1)])


@pytest.fixture(scope="module")
def features():
    return PretrainedPatchFeatures(weights="random", layers=(0, 1, 2), neighborhood=1, image_size=64, random_state=0)


@pytest.fixture(scope="module")
def pooled(features, cloth):
    fitted = clone(features).fit(cloth.X_train)
    return [
        [maps.astype(np.float64).mean(axis=(1, 2)) for maps in fitted.transform_layers(X).arrays]
        for X in (cloth.X_train, cloth.X_test)
    ]


@parametrize_with_image_checks(
    [
        MahalanobisAD(
            PretrainedPatchFeatures(
                weights="random", layers=(0, 1, 2, 3, 4), neighborhood=1, image_size=64, random_state=0, batch_size=8
            )
        )
    ],
    n_images=12,
)
def test_common_checks(detector, check):
    check(detector)


def gaussian(rng, n, sizes=(3, 5)):
    """Return rows whose columns are correlated, on a large mean."""
    d = sum(sizes)
    return rng.normal(size=(n, d)) @ rng.normal(size=(d, d)) + 100


@pytest.mark.parametrize(
    ("covariance", "oracle"),
    [
        ("ledoit_wolf", LedoitWolf()),
        ("oas", OAS()),
        (LedoitWolf(assume_centered=True), LedoitWolf(assume_centered=True)),
        (MinCovDet(random_state=0, support_fraction=1), MinCovDet(random_state=0, support_fraction=1)),
    ],
)
def test_scores_are_sums_of_sklearns_distances(features, pooled, cloth, covariance, oracle):
    if isinstance(oracle, MinCovDet):
        rng = np.random.default_rng(0)
        features, train, test = Vectors((3, 5)), gaussian(rng, 60), gaussian(rng, 9)
        layers = [np.split(X, [3], axis=1) for X in (train, test)]
    else:
        train, test, layers = cloth.X_train, cloth.X_test, pooled
    detector = MahalanobisAD(features, covariance=covariance, false_alarm_rate=None).fit(train)
    squared = [clone(oracle).fit(a).mahalanobis(b) for a, b in zip(*layers, strict=True)]
    expected = np.sum(np.sqrt(squared), axis=0)
    np.testing.assert_allclose(-detector.score_samples(test), expected, rtol=1e-6)
    assert len(detector.location_) == len(detector.covariance_) == len(squared) > 1


def test_squared_distances_average_the_number_of_features(rng):
    """With the covariance over n, the mean over the training set is d; over n - 1, it is d (n - 1) / n."""
    X = gaussian(rng, 50, (6,))
    detector = MahalanobisAD(Vectors((6,)), covariance="empirical", false_alarm_rate=None).fit(X)
    squared = detector.score_samples(X) ** 2
    np.testing.assert_allclose(squared.mean(), 6, rtol=1e-10)
    np.testing.assert_allclose(detector.covariance_[0] * 50 / 49, np.cov(X.T), rtol=1e-9)
    np.testing.assert_allclose((squared * 49 / 50).mean(), 6 * 49 / 50, rtol=1e-10)


@pytest.mark.parametrize("share", [0.5, 0.9, 0.99])
def test_leading_components_are_sklearns(rng, share):
    X, test = gaussian(rng, 30), gaussian(rng, 7)
    detector = MahalanobisAD(Vectors((3, 5)), pca=("leading", share), false_alarm_rate=None).fit(X)
    total = 0
    for a, b, kept in zip(np.split(X, [3], axis=1), np.split(test, [3], axis=1), detector.components_, strict=True):
        pca = PCA(share, svd_solver="full").fit(a)
        total += np.sqrt(LedoitWolf().fit(pca.transform(a)).mahalanobis(pca.transform(b)))
        assert len(kept) == pca.n_components_
    np.testing.assert_allclose(-detector.score_samples(test), total, rtol=1e-9)


def test_trailing_components_are_the_rest(rng):
    """Leading and trailing squared distances add up to those of all, and null directions are in neither."""
    X, test = gaussian(rng, 40, (8,)), gaussian(rng, 7, (8,))
    options = {"covariance": "empirical", "false_alarm_rate": None}
    whole, leading, trailing = (
        MahalanobisAD(Vectors((8,)), pca=pca, **options).fit(X) for pca in (None, ("leading", 0.9), ("trailing", 0.9))
    )
    assert len(leading.components_[0]) + len(trailing.components_[0]) == 8
    sums = leading.score_samples(test) ** 2 + trailing.score_samples(test) ** 2
    np.testing.assert_allclose(sums, whole.score_samples(test) ** 2, rtol=1e-8)
    wide = np.hstack([X, X[:, :1], np.ones((40, 1))])
    kept = MahalanobisAD(Vectors((10,)), pca=("trailing", 0.9), false_alarm_rate=None).fit(wide).components_[0]
    explained = MahalanobisAD(Vectors((10,)), pca=("leading", 0.9), false_alarm_rate=None).fit(wide).components_[0]
    assert len(kept) + len(explained) == 8


def test_chi2_flags_what_was_asked_for_only_with_many_images():
    """Known rate on Gaussian data where n >> d; half of all images where n is not (the docstring)."""
    rng = np.random.default_rng(0)
    for n, low, high in ((20_000, 0.045, 0.055), (60, 0.4, 0.6)):
        mixing = np.random.default_rng(1).normal(size=(20, 20))
        X, fresh = (rng.normal(size=(m, 20)) @ mixing for m in (n, 10_000))
        detector = MahalanobisAD(Vectors((20,)), covariance="empirical", threshold="chi2").fit(X)
        np.testing.assert_allclose(detector.offset_, -np.sqrt(chi2.ppf(0.95, 20)))
        flagged = (detector.predict(fresh) == -1).mean()
        assert low < flagged < high
        np.testing.assert_array_equal(detector.p_values(fresh) < 0.05, detector.predict(fresh) == -1)
    detector.calibrate(fresh[:1000])
    assert (detector.predict(fresh[1000:]) == -1).mean() == pytest.approx(0.05, abs=0.03)
    assert detector.p_values(fresh[:5]).min() >= 1 / 1001


def test_chi2_with_a_shrunk_covariance_follows_no_law():
    """Features of equal variance are flagged at a rate near the one asked for, of steeper spectra never or often."""
    rng, flagged = np.random.default_rng(0), []
    for power in (0, 1, 2):
        scale = np.arange(1, 41.0) ** (-power / 2)
        X, fresh = (rng.normal(size=(n, 40)) * scale for n in (60, 5_000))
        detector = MahalanobisAD(Vectors((40,)), threshold="chi2").fit(X)
        flagged.append((detector.predict(fresh) == -1).mean())
    assert flagged[2] < 0.04 < flagged[0] < 0.12 < flagged[1]


@pytest.mark.parametrize("calibration", ["cv", "split"])
def test_false_alarms_are_as_promised(calibration):
    """Mean over draws with n >> d, where folds cost little; 4 standard errors of a beta-binomial mean."""
    rng, rates = np.random.default_rng(0), []
    for seed in range(30):
        X = rng.normal(size=(400, 6))
        detector = MahalanobisAD(Vectors((2, 4)), false_alarm_rate=0.2, calibration=calibration, random_state=seed)
        rates.append((detector.fit(X[:200]).predict(X[200:]) == -1).mean())
    n = {"cv": 200, "split": 40}[calibration]
    expected = 1 - np.ceil((n + 1) * 0.8) / (n + 1)
    assert abs(np.mean(rates) - expected) < 4 * np.sqrt(0.16 / (n + 2) + 0.16 / 200) / np.sqrt(30)


def test_partial_fit_and_merge_are_fit(rng):
    X, test = gaussian(rng, 60), gaussian(rng, 9)
    make = MahalanobisAD(Vectors((3, 5)), covariance="empirical", random_state=0)
    whole = clone(make).fit(X)
    parts = clone(make)
    for part in np.split(X, [4, 30, 31]):
        parts.partial_fit(part)
    merged, other = clone(make).fit(X[:20]), clone(make).fit(X[20:])
    before = pickle.dumps(other)
    assert merged.merge(other) is merged
    assert pickle.dumps(other) == before
    for learnt in (parts, merged):
        assert learnt.n_samples_seen_ == 60
        np.testing.assert_allclose(learnt.score_samples(test), whole.score_samples(test), rtol=1e-9)
        for ours, oracle in zip(learnt.covariance_, np.split(X, [3], axis=1), strict=True):
            np.testing.assert_allclose(ours, EmpiricalCovariance().fit(oracle).covariance_, rtol=1e-9)
        with pytest.raises(AttributeError, match="call calibrate"):
            learnt.predict(test)
        assert learnt.calibrate(X).predict(test).shape == (9,)


def test_every_decision_knows_the_chi2_law(rng):
    """Labels, p-values, verdicts and selections agree; what needs calibration samples says that there are none."""
    X, fresh = gaussian(rng, 200, (4,)), gaussian(rng, 50, (4,))
    detector = MahalanobisAD(Vectors((4,)), threshold="chi2", false_alarm_rate=None).fit(X)
    with pytest.raises(AttributeError, match="set one"):
        detector.predict(X)
    detector.set_params(false_alarm_rate=0.1)
    scores, labels, p_values = detector.score_samples(fresh), detector.predict(fresh), detector.p_values(fresh)
    np.testing.assert_allclose(p_values, chi2.sf(scores**2, 4), rtol=1e-12)
    assert set(labels) == {1, -1}
    np.testing.assert_array_equal(labels == -1, p_values < 0.1)
    verdicts = list(detector.iter_verdicts(fresh))
    np.testing.assert_array_equal([verdict.label for verdict in verdicts], labels)
    np.testing.assert_array_equal([verdict.p_value for verdict in verdicts], p_values)
    assert all(verdict.anomaly_map is None and verdict.mask is None for verdict in verdicts)
    np.testing.assert_array_equal(detector.select(fresh, fdr=0.1), select_anomalies(p_values, fdr=0.1))
    for name in ("calibration_scores_", "calibration_peaks_", "calibration_indices_"):
        with pytest.raises(AttributeError, match=f"no {name}: threshold='chi2'"):
            getattr(detector, name)
    with pytest.raises(AttributeError, match="no pixel_threshold_"):
        detector.pixel_threshold_  # noqa: B018
    restored = pickle.loads(pickle.dumps(detector))
    np.testing.assert_array_equal(restored.predict(fresh), labels)
    assert len(detector.calibrate(fresh).calibration_scores_) == 50


def test_layers_without_components_add_nothing(rng):
    """The single direction of the first layer explains all of it, so that nothing trails."""
    X, test = np.hstack([rng.normal(size=(40, 1)) @ [[1.0, 2.0]], gaussian(rng, 40, (5,))]), gaussian(rng, 7, (7,))
    options = {"pca": ("trailing", 0.9), "false_alarm_rate": None}
    with pytest.warns(UserWarning, match=r"in the layers \[0\] .* add nothing"):
        detector = MahalanobisAD(Vectors((2, 5)), **options).fit(X)
    alone = MahalanobisAD(Vectors((5,)), **options).fit(X[:, 2:])
    np.testing.assert_allclose(detector.score_samples(test), alone.score_samples(test[:, 2:]), rtol=1e-12)
    assert [len(axes) for axes in detector.components_] == [0, len(alone.components_[0])]


def test_errors_half_way_change_nothing(rng, monkeypatch):
    X = gaussian(rng, 60)
    detector, other = (MahalanobisAD(Vectors((3, 5)), covariance="empirical").fit(X) for _ in range(2))
    before = pickle.dumps(detector)

    def fail(self, n, gaussians):
        self.n_samples_seen_ = n
        raise MemoryError

    monkeypatch.setattr(MahalanobisAD, "_take_over", fail)
    for act in (lambda: detector.partial_fit(X), lambda: detector.merge(other)):
        with pytest.raises(MemoryError):
            act()
        assert pickle.dumps(detector) == before


def test_partial_fit_keeps_a_chi2_threshold(rng):
    X = gaussian(rng, 60, (4,))
    detector = MahalanobisAD(Vectors((4,)), covariance="empirical", threshold="chi2").partial_fit(X[:2])
    with pytest.raises(ValueError, match=r"layer 0 \(4 features, 2 images\) is singular"):
        detector.predict(X)
    assert detector.partial_fit(X[2:]).predict(X).shape == (60,)


def test_only_what_can_be_updated_is(rng):
    X = gaussian(rng, 60)
    empirical = MahalanobisAD(Vectors((3, 5)), covariance="empirical").fit(X)
    for parameters in ({"covariance": "oas"}, {"covariance": EmpiricalCovariance()}, {"pca": ("leading", 0.9)}):
        detector = clone(empirical).set_params(**parameters).fit(X)
        offset = detector.offset_
        with pytest.raises(ValueError, match="partial_fit needs covariance='empirical' and pca=None"):
            detector.partial_fit(X)
        with pytest.raises(ValueError, match="merge needs covariance='empirical' and pca=None"):
            empirical.merge(detector)
        assert detector.offset_ == offset
    with pytest.raises(ValueError, match="other.features_ has features_.sizes=.4, 4."):
        empirical.merge(clone(empirical).set_params(features=Vectors((4, 4))).fit(X))
    assert empirical.n_samples_seen_ == 60
    assert hasattr(empirical, "offset_")


def test_there_are_no_maps(rng):
    detector = MahalanobisAD(Vectors((3, 5)))
    for candidate in (detector, clone(detector).fit(gaussian(rng, 30))):
        for name in ("anomaly_map", "iter_anomaly_maps", "iter_scores_and_maps", "anomaly_mask"):
            assert not hasattr(candidate, name)


def test_batches_do_not_matter(features, cloth):
    detector = MahalanobisAD(features, pca=("leading", 0.99), random_state=0).fit(cloth.X_train)
    singles = [detector.score_samples(image[None])[0] for image in cloth.X_test]
    np.testing.assert_array_equal(detector.score_samples(cloth.X_test), singles)
    restored = pickle.loads(pickle.dumps(detector))
    np.testing.assert_array_equal(restored.score_samples(cloth.X_test), singles)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"covariance": "shrunk"}, "'covariance' parameter of MahalanobisAD"),
        ({"calibration": "loo"}, "'calibration' parameter of MahalanobisAD"),
        ({"threshold": "sigma"}, "'threshold' parameter of MahalanobisAD"),
        ({"threshold": "chi2"}, "threshold='chi2' needs features of a single layer, got 2 layers"),
        ({"pca": ("top", 0.9)}, "pca=.'top', 0.9. must be None"),
        ({"pca": ("leading", 2)}, "share in .0, 1."),
        ({"pca": ("leading",)}, "must be None"),
        ({"pca": ("trailing", 1 - 1e-12), "calibration": "split"}, "leaves no component .* in any layer"),
        ({"covariance": "empirical", "features": Vectors((8, 60))}, r"layer 1 \(60 features, \d+ images\) is singular"),
    ],
)
def test_bad_parameters_leave_the_old_fit(rng, parameters, message):
    X = gaussian(rng, 60, (8, 60))
    detector = MahalanobisAD(Vectors((3, 65))).fit(X)
    location = detector.location_
    with pytest.raises(ValueError, match=message):
        detector.set_params(**parameters).fit(X)
    assert detector.location_ is location


def test_one_image_is_too_few(features, cloth):
    with pytest.raises(ValueError, match="at least 2 images .in every fold., got 1"):
        MahalanobisAD(features, false_alarm_rate=None).fit(cloth.X_train[:1])


@pytest.mark.weights
def test_finds_defects_and_its_controls_do_not():
    """Real weights tell defects apart; labels shuffled or weights random do clearly worse."""
    data = make_surfaces("grid", n_train=40, n_good=20, n_anomalous=30, size=64, random_state=0)
    scores = {}
    for weights in (None, "random"):
        features = PretrainedPatchFeatures(
            weights=weights, layers=(0, 1, 2, 3, 4), neighborhood=1, image_size=128, random_state=0
        )
        scores[weights] = -MahalanobisAD(features, false_alarm_rate=None).fit(data.X_train).score_samples(data.X_test)
    auroc = image_auroc(data.y_test, scores[None])
    assert auroc > 0.7
    assert image_auroc(data.y_test, scores["random"]) < auroc - 0.15
    assert image_auroc(np.random.default_rng(1).permutation(data.y_test), scores[None]) < auroc - 0.15
