import pickle

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.frozen import FrozenEstimator
from sklearn.pipeline import make_pipeline

import skanomaly
from skanomaly import (
    Augmented,
    Autoencoder,
    Columns,
    ConformalDetector,
    MahalanobisAD,
    PaDiM,
    PatchCore,
    PatchFeatures,
    Pixels,
    PretrainedPatchFeatures,
    SubspaceScorer,
)
from skanomaly._inputs.images import check_images
from skanomaly._inputs.views import View, ViewSource
from skanomaly.exceptions import CalibrationWarning

pytestmark = pytest.mark.filterwarnings("ignore::skanomaly.exceptions.CalibrationWarning")
PATCHES = PatchFeatures(4, 4, image_size=16, normalization=None)


@pytest.fixture
def images(rng):
    return (rng.random((12, 16, 16)) * 255).astype(np.uint8)


def all_views(images):
    """Return four rotations of every image, one image after another."""
    return np.concatenate([[np.rot90(image, k) for k in range(4)] for image in images])


@pytest.mark.parametrize(
    ("parameters", "expected"),
    [
        ({"rotations": 4}, [np.rot90(np.arange(6.0).reshape(2, 3), 2)]),
        ({"flips": "horizontal"}, [np.arange(6.0).reshape(2, 3)[:, ::-1]]),
        ({"flips": "vertical"}, [np.arange(6.0).reshape(2, 3)[::-1]]),
        ({"flips": "both"}, [np.arange(6.0).reshape(2, 3)[::-1, ::-1]]),
        ({"brightness": (0.5,)}, [np.arange(6.0).reshape(2, 3) / 2]),
        ({"brightness": (2,)}, [np.minimum(np.arange(6.0).reshape(2, 3) * 2, 8)]),
    ],
)
def test_views_by_hand(parameters, expected):
    image = np.arange(6.0).reshape(2, 3) / 8
    features = Augmented(Pixels(), **parameters)
    views = features.fit([image]).training_views(features.check_samples([image]))
    found = [views.read(i)[..., 0] for i in range(len(views))]
    np.testing.assert_array_equal(found[0], image.astype(np.float32))
    for view in expected:
        assert any(np.allclose(view / 8, other, atol=1e-7) for other in found)
    assert len(views) == features.n_views == len({view.tobytes() for view in found})


def test_number_of_views():
    """Combinations that are equal count once: a turn by 180 degrees is both flips."""
    assert Augmented(Pixels()).n_views == 1
    assert Augmented(Pixels(), rotations=8).n_views == 8
    assert Augmented(Pixels(), rotations=[90, 450, 0]).n_views == 2
    assert Augmented(Pixels(), rotations=4, flips="both").n_views == 8
    assert Augmented(Pixels(), rotations=4, flips="horizontal", brightness=(0.8, 1.2)).n_views == 24


def test_rotations_move_a_spot_counter_clockwise():
    """A spot to the right of the centre moves up, by any angle and on any canvas."""
    image = np.zeros((41, 61, 1), np.float32)
    image[20, 45] = 1
    for angle in (30, 90, 135, 270):
        rotated = View(angle=angle).of(image)[..., 0]
        place = np.array(np.unravel_index(rotated.argmax(), rotated.shape)) - (20, 30)
        expected = 15 * np.array([-np.sin(np.radians(angle)), np.cos(np.radians(angle))])
        np.testing.assert_allclose(place, expected, atol=0.8)
        assert rotated.shape == (41, 61)
    square = np.random.default_rng(0).random((9, 9, 3)).astype(np.float32)
    np.testing.assert_array_equal(View(angle=90).of(square), np.rot90(square))
    nearly = View(angle=90 - 1e-9).of(square)[1:-1, 1:-1]
    np.testing.assert_allclose(nearly, np.rot90(square)[1:-1, 1:-1], atol=1e-6)


def test_a_detector_learns_from_all_views_and_scores_images_as_they_are(images):
    """Fitting on views equals fitting on images that were turned before, which have the same groups."""
    augmented = PatchCore(Augmented(PATCHES, rotations=4), random_state=0).fit(images)
    turned = PatchCore(PATCHES, random_state=0).fit(all_views(images), groups=np.repeat(np.arange(12), 4))
    np.testing.assert_array_equal(augmented.scorers_[0].bank_, turned.scorers_[0].bank_)
    np.testing.assert_array_equal(augmented.score_samples(images), turned.score_samples(images))
    np.testing.assert_array_equal(augmented.calibration_scores_, turned.calibration_scores_[::4])
    np.testing.assert_array_equal(augmented.calibration_peaks_, turned.calibration_peaks_[::4])
    np.testing.assert_array_equal(augmented.calibration_indices_, np.arange(12))


@pytest.mark.parametrize(
    ("detector", "calibration"),
    [
        (PatchCore(coreset_ratio=1.0, random_state=0), "cv"),
        (PatchCore(coreset_ratio=1.0, random_state=0), "split"),
        (PatchCore(coreset_ratio=1.0, combine="concatenated", random_state=0), "loo"),
        (PaDiM(n_channels=5, random_state=0), "loo"),
        (PaDiM(n_channels=5, random_state=0), "split"),
        (MahalanobisAD(random_state=0), "split"),
    ],
    ids=lambda value: value if isinstance(value, str) else type(value).__name__,
)
def test_no_view_of_an_image_helps_to_judge_it(detector, calibration, images):
    """Each calibration image is scored as a detector fitted without all its views scores it."""
    features = Augmented(PATCHES, rotations=4)
    detector = clone(detector).set_params(features=features, calibration=calibration).fit(images)
    if calibration == "cv":
        np.testing.assert_array_equal(detector.calibration_indices_, np.arange(12))
        assert (detector.calibration_scores_ > 0).all()  # at ratio 1, an image would score 0 by its own view
        return
    held_out = detector.calibration_indices_
    for position in (0, len(held_out) - 1):
        own = held_out[[position]] if calibration == "loo" else held_out
        rest = clone(detector).set_params(false_alarm_rate=None).fit(np.delete(images, own, axis=0))
        expected = -rest.score_samples(images[held_out[[position]]])
        np.testing.assert_allclose(detector.calibration_scores_[position], expected, rtol=1e-5)


def test_turned_parts_are_normal_only_with_views(rng):
    """Stripes in one direction: a detector without views calls turned stripes anomalous."""
    stripes = np.broadcast_to((np.arange(32) % 4 < 2)[:, None] * 120, (40, 32, 32))
    images = (stripes + rng.integers(0, 60, stripes.shape)).astype(np.uint8)
    turned = np.stack([np.rot90(image) for image in images[30:]])
    plain, augmented = (
        PatchCore(features, false_alarm_rate=0.1, random_state=0).fit(images[:30])
        for features in (PATCHES, Augmented(PATCHES, rotations=4))
    )
    assert (plain.predict(turned) == -1).all()
    assert (augmented.predict(turned) == -1).mean() < 0.5
    assert (augmented.predict(images[30:]) == -1).mean() < 0.5


def test_copies_are_still_found(images):
    with pytest.warns(CalibrationWarning, match="Copies among the 24 images: 12"):
        detector = PatchCore(Augmented(PATCHES, rotations=2), coreset_ratio=1.0).fit(np.concatenate([images, images]))
    assert detector.calibration_.n == 12
    assert (detector.calibration_scores_ > 0).all()
    with pytest.warns(CalibrationWarning, match="were in the data"):
        detector.calibrate(images)


def test_networks_train_on_views(images):
    """A warm start, too, learns from views; early stopping holds out whole images."""
    features = Augmented(Pixels(16), rotations=4)
    detector = Autoencoder(features, max_epochs=1, random_state=0).fit(images)
    assert detector.score_samples(images).shape == (12,)
    assert len(detector.calibration_scores_) == 2  # 20 % of 12 images, not of 48 views
    untrained, plain = (Autoencoder(f, max_epochs=2, random_state=0).fit(images) for f in (features, Pixels(16)))
    assert not np.array_equal(untrained.score_samples(images), plain.score_samples(images))


def test_statistics_of_views_add_up(images):
    whole, parts = (PaDiM(Augmented(PATCHES, rotations=4), n_channels=5, random_state=0) for _ in range(2))
    whole.fit(images)
    parts.partial_fit(images[:5]).partial_fit(images[5:])
    np.testing.assert_allclose(parts.scatter_, whole.scatter_, rtol=1e-9)
    assert parts.n_samples_seen_ == 48


def test_wrappers_and_frozen_features(images):
    detector = ConformalDetector(PatchCore(Augmented(PATCHES, rotations=4), random_state=0), calibration="split")
    detector.set_params(random_state=0).fit(images)
    alone = PatchCore(Augmented(PATCHES, rotations=4), calibration="split", random_state=0).fit(images)
    np.testing.assert_array_equal(detector.score_samples(images), alone.score_samples(images))
    frozen = Augmented(FrozenEstimator(PATCHES.fit(images)), rotations=4)
    again = PatchCore(frozen, calibration="split", random_state=0).fit(images)
    np.testing.assert_array_equal(again.score_samples(images), alone.score_samples(images))


def test_pipelines_learn_from_views_in_a_conformal_detector(images):
    augmented, turned = (
        ConformalDetector(make_pipeline(features, SubspaceScorer(0.5, image_score=0.2)), false_alarm_rate=None).fit(X)
        for features, X in ((Augmented(PATCHES, rotations=4), images), (PATCHES, all_views(images)))
    )
    np.testing.assert_array_equal(augmented.score_samples(images), turned.score_samples(images))


def test_reading_again_gives_the_same(images, tmp_path):
    detector = PatchCore(Augmented(PATCHES, rotations=3, brightness=(0.9,)), random_state=0).fit(images)
    skanomaly.save(detector, tmp_path / "model.skops")
    for other in (pickle.loads(pickle.dumps(detector)), skanomaly.load(tmp_path / "model.skops")):
        np.testing.assert_array_equal(other.score_samples(images), detector.score_samples(images))
        np.testing.assert_array_equal(other.anomaly_map(images), detector.anomaly_map(images))


def test_the_cache_tells_views_apart(images, tmp_path):
    options = {"weights": "random", "layers": (0, 1), "image_size": 32, "random_state": 0}
    plain, cached = (
        Augmented(PretrainedPatchFeatures(**options, memory=memory), rotations=4)
        for memory in (None, tmp_path / "cache")
    )
    expected = PatchCore(plain, random_state=0).fit(images).score_samples(images)
    for _ in range(2):
        np.testing.assert_array_equal(PatchCore(cached, random_state=0).fit(images).score_samples(images), expected)


def test_views_can_be_sliced(images):
    source = check_images(images)
    views = ViewSource(source, [View(), View(angle=90.0)])
    np.testing.assert_array_equal(views[3:7][np.array([2])].read(0), views.read(5))
    np.testing.assert_array_equal(views[5].read(), np.rot90(source.read(2)))
    assert views[5].size == (16, 16)
    np.testing.assert_array_equal(views.digests(), np.repeat(source.digests(), 2))


@pytest.mark.parametrize(
    ("features", "error", "message"),
    [
        (Augmented(Columns()), TypeError, "'features' parameter of Augmented"),
        (Augmented(Pixels(), rotations=0), ValueError, "'rotations' parameter of Augmented"),
        (Augmented(Pixels(), rotations=("a",)), ValueError, "angles in degrees"),
        (Augmented(Pixels(), flips=True), ValueError, "'flips' parameter of Augmented"),
        (Augmented(Pixels(), brightness=(0,)), ValueError, "positive factors"),
    ],
)
def test_bad_parameters(features, error, message, images):
    X = images if error is ValueError else images.reshape(12, -1)
    with pytest.raises(error, match=message):
        features.fit(X)
