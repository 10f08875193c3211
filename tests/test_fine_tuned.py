"""What DeepOneClass and MetricFeatures share: training against a reference, scores, features, state."""

import copy
import pickle

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import clone
from sklearn.frozen import FrozenEstimator
from sklearn.metrics import roc_auc_score
from sklearn.neighbors import LocalOutlierFactor, NearestNeighbors
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler

from skanomaly import (
    ConformalDetector,
    DeepOneClass,
    KNNScorer,
    MahalanobisAD,
    MetricFeatures,
    PretrainedPatchFeatures,
    Reference,
    load,
    save,
)
from skanomaly.detectors._metric_features import Mixture
from skanomaly.networks import Training

pytestmark = pytest.mark.filterwarnings("ignore::skanomaly.exceptions.CalibrationWarning")
TINY = PretrainedPatchFeatures(
    "test_efficientnet", layers=("bn2",), weights="random", image_size=32, batch_size=8, random_state=0
)
QUICK = Training(batch_size=16, lr=1e-3, validation_share=0.0, patience=None)
CLASSES = [MetricFeatures, DeepOneClass]
both = pytest.mark.parametrize("kind", CLASSES)


def stripes(angle, n, rng):
    """Stripes (n, 32, 32) at an angle, of random phase, width, contrast and brightness, in noise."""
    y, x = np.indices((32, 32))
    phase, width, contrast, mean = (
        rng.uniform(*limits, (n, 1, 1)) for limits in ((0, 7), (0.4, 1.2), (0.05, 0.3), (0.3, 0.7))
    )
    angle = np.deg2rad(angle)
    waves = np.sin(width * (np.cos(angle) * x + np.sin(angle) * y) + phase)
    return (255 * np.clip(mean + contrast * waves + rng.normal(0, 0.1, waves.shape), 0, 1)).astype(np.uint8)


def directions(n, rng):
    """Stripes of three other directions, n of each, and their labels."""
    return np.concatenate([stripes(angle, n, rng) for angle in (45, 90, 135)]), np.repeat(["/", "-", "\\"], n)


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(0)
    normal, (images, labels) = stripes(0, 48, rng), directions(32, rng)
    fresh, (others, kinds) = stripes(0, 40, rng), directions(14, rng)
    return {"normal": normal, "images": images, "labels": labels, "fresh": fresh, "others": others, "kinds": kinds}


def untrained(kind, **options):
    return kind(TINY, max_epochs=0, false_alarm_rate=None, **options)


@pytest.fixture(scope="module")
def fitted(data):
    """Each class after one epoch, with thresholds."""
    reference = Reference(data["images"], data["labels"])
    return {
        kind: kind(TINY, reference=reference, max_epochs=1, training=QUICK, random_state=0).fit(data["normal"])
        for kind in CLASSES
    }


# Learning


def test_shuffled_labels_are_no_reference(data):
    test, y = np.concatenate([data["fresh"], data["others"]]), np.repeat([0, 1], [40, 42])

    def auroc(labels, max_epochs):
        detector = MetricFeatures(
            TINY,
            reference=(data["images"], labels),
            max_epochs=max_epochs,
            training=QUICK,
            false_alarm_rate=None,
            random_state=0,
        )
        return roc_auc_score(y, -detector.fit(data["normal"]).score_samples(test))

    right, frozen = (auroc(data["labels"], max_epochs) for max_epochs in (4, 0))
    wrong = auroc(np.random.default_rng(1).permutation(data["labels"]), 4)
    assert right > 0.75
    assert max(frozen, wrong) < right - 0.15


def test_compactness_draws_fresh_normal_images_together(data):
    """Their variance falls relative to that of other images, which dividing all vectors by a number would not do."""

    def relative_variance(lam):
        detector = DeepOneClass(
            TINY,
            lam=lam,
            normals_as_class=False,
            batch_statistics=True,
            reference=(data["images"], data["labels"]),
            max_epochs=4,
            training=QUICK,
            false_alarm_rate=None,
            random_state=0,
        ).fit(data["normal"])
        normal, others = (detector.transform(data[name]).var(axis=0).mean() for name in ("fresh", "others"))
        return normal / others

    assert relative_variance(10) < 0.7 * relative_variance(0)


@both
def test_frozen_layers_stay_to_the_bit(kind, data):
    detector = kind(
        TINY,
        reference=(data["images"], data["labels"]),
        max_epochs=1,
        training=QUICK,
        batch_statistics=True,
        frozen=("conv_stem", "bn1", "blocks.0", "*.conv_dw"),
        false_alarm_rate=None,
        random_state=0,
    ).fit(data["normal"])
    before = untrained(kind).fit(data["normal"]).features_.features_.network_state()
    after = detector.features_.features_.network_state()
    for name, values in before.items():
        if name.startswith(("conv_stem", "bn1", "blocks.0.")) or ".conv_dw." in name:
            assert_array_equal(values, after[name], name)
    assert not np.array_equal(before["blocks.3.0.conv_pw.weight"], after["blocks.3.0.conv_pw.weight"])
    assert not np.array_equal(before["bn2.running_mean"], after["bn2.running_mean"])


@both
def test_statistics_of_the_pretrained_network_are_kept(kind, data):
    options = {"reference": (data["images"], data["labels"]), "max_epochs": 1, "training": QUICK, "random_state": 0}
    detector = kind(TINY, batch_statistics=False, false_alarm_rate=None, **options).fit(data["normal"])
    before = untrained(kind).fit(data["normal"]).features_.features_.network_state()
    after = detector.features_.features_.network_state()
    assert_array_equal(before["bn2.running_var"], after["bn2.running_var"])
    assert not np.array_equal(before["bn2.weight"], after["bn2.weight"])


@both
def test_the_same_seed_gives_the_same_network(kind, data, fitted):
    state = torch.random.get_rng_state()
    again = clone(fitted[kind]).fit(data["normal"])
    assert torch.equal(torch.random.get_rng_state(), state)
    assert_array_equal(again.transform(data["fresh"]), fitted[kind].transform(data["fresh"]))
    other = clone(fitted[kind]).set_params(random_state=1).fit(data["normal"])
    assert not np.array_equal(other.transform(data["fresh"]), fitted[kind].transform(data["fresh"]))


@both
def test_held_out_images_choose_the_epoch(kind, data):
    settings = Training(batch_size=16, lr=1e-3, validation_share=0.25, patience=1)
    detector = kind(
        TINY, reference=(data["images"], data["labels"]), max_epochs=3, training=settings, random_state=0
    ).fit(data["normal"])
    assert "valid_loss" in detector.history_
    assert len(detector.history_["valid_loss"]) <= 3


def test_a_batch_of_one_image_is_learnt_from(data):
    settings = Training(batch_size=7, lr=1e-3, validation_share=0.0, patience=None)
    detector = MetricFeatures(
        TINY,
        reference=(data["images"][30:50], data["labels"][30:50]),
        batch_statistics=True,
        max_epochs=1,
        training=settings,
        false_alarm_rate=None,
        random_state=0,
    )
    assert np.isfinite(detector.fit(data["normal"][:2]).transform(data["fresh"])).all()


def test_batch_size_auto_is_the_default(data):
    detector = untrained(DeepOneClass, training=Training(lr=1e-3)).fit(data["normal"])
    assert detector.training_.batch_size == detector.default_training().batch_size


# Scores


@both
def test_scores_are_distances_to_normal_vectors(kind, data):
    nearest, mean, lof = (untrained(kind, scoring=s).fit(data["normal"]) for s in ("nearest", "mean", "lof"))
    Z, fresh = (nearest.transform(data[name]).astype(np.float64) for name in ("normal", "fresh"))
    expected = NearestNeighbors(n_neighbors=1).fit(Z).kneighbors(fresh)[0][:, 0]
    assert_allclose(-nearest.score_samples(data["fresh"]), expected, rtol=1e-5)
    assert_allclose(-mean.score_samples(data["fresh"]), np.linalg.norm(fresh - Z.mean(axis=0), axis=1), rtol=1e-5)
    scaler = MinMaxScaler().fit(Z)
    factors = LocalOutlierFactor(5, novelty=True).fit(scaler.transform(Z))
    assert_allclose(lof.score_samples(data["fresh"]), factors.score_samples(scaler.transform(fresh)), rtol=1e-4)


def test_lof_needs_neighbors(data):
    with pytest.raises(ValueError, match="n_neighbors=5 is too large"):
        untrained(MetricFeatures, scoring="lof").fit(data["normal"][:5])


@both
def test_scores_do_not_depend_on_the_batch(kind, data, fitted):
    detector, images = fitted[kind], data["fresh"][:11]
    scores, vectors = detector.score_samples(images), detector.transform(images)
    assert_array_equal(np.concatenate([detector.score_samples(images[i : i + 1]) for i in range(11)]), scores)
    assert_array_equal(detector.transform(images[::-1])[::-1], vectors)
    center = np.mean([detector.transform(image[None])[0] for image in data["normal"]], axis=0, dtype=np.float64)
    whole = detector.transform(data["normal"]).mean(axis=0, dtype=np.float64)
    assert_array_equal(center, whole)


# The network as a function


@both
def test_feature_network_is_transform(kind, data, fitted):
    detector, images = fitted[kind], data["fresh"][:8]
    x = torch.from_numpy(np.repeat(images[:, None], 3, axis=1)) / 255
    net = detector.feature_network()
    assert_array_equal(net.module(x).numpy(), detector.transform(images))
    assert_allclose(net.module(x[:1]).numpy(), detector.transform(images[:1]), atol=1e-5)
    assert net.module(torch.rand(2, 3, 48, 40)).shape == (2, 256)
    assert not net.module.training
    assert not any(p.requires_grad for p in net.module.parameters())


@both
def test_feature_network_is_differentiable(kind, data, fitted):
    module = fitted[kind].feature_network(dtype=np.float64).module
    x = torch.rand(2, 3, 32, 32, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    step = torch.randn(x.shape, dtype=x.dtype, generator=torch.Generator().manual_seed(1))
    weights = torch.randn(256, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    x.requires_grad_()
    (slope,) = torch.autograd.grad((module(x) @ weights).sum(), x)
    ahead, behind = ((module(x.detach() + sign * 1e-6 * step) @ weights).sum() for sign in (1, -1))
    assert_allclose((slope * step).sum().item(), ((ahead - behind) / 2e-6).item(), rtol=1e-4)
    copies = fitted[kind].feature_network().module
    with torch.no_grad():
        next(copies.parameters()).zero_()  # which belongs to the caller
    assert not np.array_equal(fitted[kind].feature_network().module.body.conv_stem.weight, copies.body.conv_stem.weight)


# As features of others


@both
def test_features_of_other_detectors_learn_what_these_learn(kind, data):
    features = kind(TINY, reference=(data["images"], data["labels"]), max_epochs=1, training=QUICK, random_state=0)
    detector = MahalanobisAD(features, calibration="split", random_state=0).fit(data["normal"])
    assert not hasattr(detector, "anomaly_map")
    held_out = np.isin(np.arange(48), detector.calibration_indices_)
    alone = clone(features).set_params(false_alarm_rate=None).fit(data["normal"][~held_out])
    vectors = alone.transform(data["normal"][~held_out])
    assert_allclose(detector.location_[0], vectors.mean(axis=0), rtol=1e-4, atol=1e-6)
    with pytest.raises(ValueError, match="must be a str among"):
        clone(detector).set_params(calibration="loo").fit(data["normal"])


@both
def test_fitted_vectors_go_into_any_pipeline(kind, data, fitted):
    frozen = MahalanobisAD(FrozenEstimator(fitted[kind])).fit(data["normal"])
    assert frozen.score_samples(data["fresh"]).shape == (40,)
    pipeline = make_pipeline(untrained(kind), KNNScorer(false_alarm_rate=None)).fit(data["normal"])
    assert_allclose(
        pipeline.score_samples(data["fresh"]), untrained(kind).fit(data["normal"]).score_samples(data["fresh"])
    )
    labelled = ConformalDetector(fitted[kind], random_state=0).fit(data["normal"])
    assert set(labelled.predict(data["fresh"])) <= {1, -1}


# State


@both
def test_the_reference_is_never_stored(kind, data, fitted, tmp_path):
    detector, scores = fitted[kind], fitted[kind].score_samples(data["fresh"])
    outer = MahalanobisAD(clone(detector), calibration="split", random_state=0).fit(data["normal"])
    save(detector, tmp_path / "model.skops")
    save(outer, tmp_path / "outer.skops")
    secret = data["images"].tobytes()[:64]
    for stored in (pickle.dumps(detector), pickle.dumps(outer), pickle.dumps(clone(detector))):
        assert secret not in stored
    for again in (pickle.loads(pickle.dumps(detector)), load(tmp_path / "model.skops")):
        assert again.reference is None
        assert_array_equal(again.score_samples(data["fresh"]), scores)
        with pytest.raises(ValueError, match="reference=None; pass a folder"):
            again.fit(data["normal"])
        assert_array_equal(again.score_samples(data["fresh"]), scores)
    assert_array_equal(load(tmp_path / "outer.skops").score_samples(data["fresh"]), outer.score_samples(data["fresh"]))
    assert detector.reference is not None
    assert copy.copy(detector).reference is detector.reference


@both
def test_paths_of_references_are_for_workers_not_for_files(kind, tmp_path):
    waiting = kind(TINY, reference="classes", max_epochs=1)
    assert pickle.loads(pickle.dumps(waiting)).reference == "classes"
    save(waiting, tmp_path / "model.skops")
    assert load(tmp_path / "model.skops").reference is None


@both
def test_clones_share_a_reference(kind, data):
    reference = Reference(data["images"], data["labels"])
    assert clone(kind(reference=reference)).reference is reference
    assert clone(MahalanobisAD(kind(reference=reference))).features.reference is reference


@both
def test_what_is_missing_is_said(kind, data):
    with pytest.raises(ValueError, match="learns from a labelled reference, but reference=None"):
        kind(TINY).fit(data["normal"])
    with pytest.raises(ValueError, match="frozen: 'blocks.9' matches no module"):
        kind(TINY, reference=(data["images"], data["labels"]), frozen=("blocks.9",)).fit(data["normal"])
    with pytest.raises(ValueError, match="reference has 1 class"):
        kind(TINY, reference=(data["images"][:9], np.zeros(9))).fit(data["normal"])


def test_normals_may_be_a_class(data):
    """Items of the data set are batches of images and classes, normal images first."""
    normals, reference = torch.arange(3.0), torch.arange(10.0, 14.0)
    labels = torch.tensor([0, 1, 0, 1])
    x, y = Mixture(normals, reference, labels, 2)[torch.tensor([5, 0, 2, 3])]
    assert (x.tolist(), y.tolist()) == ([0, 2, 10, 12], [2, 2, 0, 0])
    alone = Mixture(normals, reference, labels, -1)
    assert len(alone) == 4
    assert [part.tolist() for part in alone[torch.tensor([3, 0])]] == [[10, 13], [0, 1]]


@both
def test_the_generators_of_other_devices_are_left_alone(kind, data, monkeypatch):
    seeded = []
    monkeypatch.setattr(torch.cuda, "manual_seed_all", seeded.append)
    monkeypatch.setattr(torch.cuda, "manual_seed", seeded.append)
    before = torch.get_rng_state()
    options = {"max_epochs": 1, "training": QUICK, "false_alarm_rate": None, "random_state": 0}
    kind(clone(TINY), reference=Reference(data["images"], data["labels"]), **options).fit(data["normal"])
    assert seeded == []
    assert torch.equal(torch.get_rng_state(), before)
