"""Aligned: motions are recovered, maps come back in the frame of the image, and detectors work on aligned images."""

import pickle

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from PIL import Image
from skimage.registration import phase_cross_correlation
from sklearn.frozen import FrozenEstimator

from skanomaly import (
    Aligned,
    Augmented,
    Autoencoder,
    PaDiM,
    PatchCore,
    PatchFeatures,
    Pixels,
    PretrainedPatchFeatures,
    VariationModel,
)
from skanomaly._inputs.images import check_images
from skanomaly._inputs.samples import Grids
from skanomaly._kernels.registration import Motion, Registration, warp
from skanomaly.datasets import make_parts
from skanomaly.metrics import pixel_auroc
from skanomaly.networks import StridedNetwork


@pytest.fixture(scope="module")
def part():
    return make_parts(n_train=1, n_good=0, n_anomalous=0, shift=0, rotation=0, random_state=0).X_train[0] / 255


@pytest.fixture(scope="module")
def parts():
    return make_parts(n_train=20, n_good=2, n_anomalous=5, size=64, random_state=0)


def moved(image, motion, ground=0.2):
    """Return an image whose object has moved."""
    values, inside = warp(image, *motion.to_reference(image.shape, image.shape))
    return np.where(inside, values, ground)


# Registration


@pytest.mark.parametrize("shift", [(0.0, 0.0), (7.0, -12.0), (-3.4, 5.7)])
def test_shifts_are_recovered(part, shift):
    image = moved(part, Motion(0.0, *shift))
    found = Registration(part, rotates=False).find(0.7 * image + 0.2)
    assert_allclose((found.down, found.right), shift, atol=0.02)
    assert_allclose((found.gain, found.bias), (0.7, 0.2), atol=0.02)
    oracle = -phase_cross_correlation(part, image, upsample_factor=10, normalization=None)[0]
    assert_allclose((found.down, found.right), oracle, atol=0.25)


@pytest.mark.parametrize("degrees", [0, 3, -40, 90, 171])
def test_rotations_are_recovered(part, degrees, rng):
    motion = Motion(np.radians(degrees), 4.3, -6.1)
    image = 0.8 * moved(part, motion) + 0.1 + rng.normal(0, 0.02, part.shape)
    found = Registration(part, rotates=True).find(image)
    turn = (found.angle - motion.angle + np.pi) % (2 * np.pi) - np.pi
    assert abs(np.degrees(turn)) < 0.2
    assert_allclose((found.down, found.right), (4.3, -6.1), atol=0.1)


def test_the_way_back_undoes_the_way(rng):
    motion, size, reference = Motion(0.4, 3.0, -2.0), (80, 60), (40, 30)
    there, back = motion.to_image(size, reference), motion.to_reference(size, reference)
    points = rng.uniform(0, 60, (2, 5))
    assert_allclose(back[0] @ (there[0] @ points + there[1][:, None]) + back[1][:, None], points)
    center = np.array([39.5, 29.5])
    assert_allclose(there[0] @ center + there[1] - center, (6.0, -4.0))  # twice as many pixels, twice the shift


def test_a_quarter_turn_is_that_of_numpy(rng):
    image = rng.random((9, 9))
    values, inside = warp(image, *Motion(np.pi / 2).to_reference((9, 9), (9, 9)))
    assert inside.all()
    assert_allclose(values, np.rot90(image))


# Features


def test_aligned_images_lie_where_the_reference_lies(part):
    images = np.stack([moved(part, Motion(0.0, *shift)) for shift in ((5, 3), (-6, 2), (0, -8), (4, 4))])
    features = Aligned(Pixels(128), reference=part).fit(images)
    for image, aligned in zip(images, features.align(images), strict=True):
        seen = ~np.isnan(aligned)
        assert 0.9 < seen.mean() < 1
        assert np.abs(aligned - part)[seen].max() < 0.1
        assert_array_equal(features.align(image[None])[0], aligned)
    filled = features.transform(images)[..., 0]
    assert np.isfinite(filled).all()
    assert np.abs(filled - part).max() < 0.1  # the rim without data too


def test_light_is_matched_on_request(part):
    images = np.stack([0.7 * part + 0.1, 0.9 * moved(part, Motion(0.0, 3.0, -4.0)) + 0.05])
    kept, matched = (Aligned(Pixels(128), match_light=m, reference=part).fit(images) for m in (False, True))
    assert np.abs(matched.transform(images)[..., 0] - part).max() < 0.12
    assert np.abs(matched.transform(images)[..., 0] - part).mean() < 0.01
    assert np.abs(kept.transform(images)[..., 0] - part).mean() > 0.02
    samples = check_images(images)
    back = matched.inverse_transform(matched.transform(samples), samples)
    assert np.abs(back - images)[:, 8:-8, 8:-8].mean() < 0.01


def test_maps_come_back_in_the_frame_of_the_image(part):
    images = np.stack([moved(part, Motion(0.0, *shift)) for shift in ((6, 4), (-6, -4), (3, -5), (0, 0))])
    detector = VariationModel(Aligned(Pixels(128), reference=part), sigma=0, false_alarm_rate=None).fit(images)
    spot = moved(part, Motion(0.0, 9.0, -7.0))
    spot[80:84, 40:44] = 1.0
    score_map = detector.anomaly_map(spot[None])[0]
    assert score_map.shape == spot.shape
    peaks = np.argwhere(score_map > 0.9 * np.nanmax(score_map))
    assert peaks.min() >= 40
    assert_allclose(peaks.mean(axis=0), (81.5, 41.5), atol=0.5)
    blank = np.isnan(score_map)
    assert blank[:9].all()  # moved down: the first rows are above the reference
    assert blank[:, -7:].all()
    assert not blank[10:, :120].any()


@pytest.mark.parametrize("size", [(64, 64), (50, 70)])
def test_maps_have_the_size_asked_for(part, size):
    images = np.stack([part, moved(part, Motion(0.0, 8.0, 0.0))])
    detector = VariationModel(Aligned(Pixels(64), reference=part), false_alarm_rate=None).fit(images)
    blank = np.isnan(detector.anomaly_map(images, size=size))
    assert blank.shape == (2, *size)
    assert not blank[0].any()
    assert abs(blank[1].any(axis=1).sum() - 8 * size[0] / 128) <= 1


def test_the_rim_without_data_is_not_a_defect(part):
    images = np.stack([moved(part, Motion(0.0, *shift)) for shift in np.random.default_rng(0).uniform(-3, 3, (12, 2))])
    detector = VariationModel(Aligned(Pixels(128), reference=part), false_alarm_rate=None).fit(images)
    far = moved(part, Motion(0.0, 18.0, 14.0))
    assert -detector.score_samples(far[None])[0] < 1.2
    assert -VariationModel(Pixels(128), false_alarm_rate=None).fit(images).score_samples(far[None])[0] > 2


def test_a_learnt_reference_is_the_sharp_median_of_aligned_images(parts):
    features = Aligned(Pixels(64), "rigid").fit(parts.X_train)
    assert features.learns
    assert features.reference_.shape == (64, 64, 1)
    single = Aligned(Pixels(64), "rigid", reference=parts.X_train[0]).fit(parts.X_train)
    assert not single.learns
    noise = [np.abs(f.transform(parts.X_train)[..., 0] - f.reference_[..., 0]).mean() for f in (features, single)]
    assert noise[0] < noise[1]
    assert features.reference_.std() > 0.9 * single.reference_.std()  # not blurred


def test_colour_and_gray_and_other_sizes(part):
    colour = np.repeat(part[..., None], 3, axis=2) * (1, 0.8, 0.6)
    features = Aligned(Pixels(128), reference=part).fit(colour[None])
    shifted = np.stack([moved(channel, Motion(0.0, 5.0, 4.0), 0.1) for channel in np.moveaxis(colour, 2, 0)], axis=-1)
    aligned = features.align(shifted[None])[0]
    assert np.nanmax(np.abs(aligned - colour)) < 0.1
    large = np.kron(shifted, np.ones((2, 2, 1)))
    assert np.abs(features.transform(large[None]) - features.transform(shifted[None])).mean() < 0.02


# Detectors


@pytest.mark.filterwarnings("ignore::skanomaly.exceptions.CalibrationWarning")
@pytest.mark.parametrize(("motion", "rotation"), [("translation", 0.0), ("rigid", 6.0)])
def test_parts_need_alignment(motion, rotation):
    data = make_parts(n_train=12, n_good=2, n_anomalous=5, rotation=rotation, random_state=0)
    found = []
    for features in (Pixels(), Aligned(Pixels(), motion)):
        detector = VariationModel(features, random_state=0).fit(data.X_train)
        found.append(pixel_auroc(data.masks_test, detector.anomaly_map(data.X_test)))
    assert found[1] > 0.9 > found[0] + 0.1


def patchcore(features):
    return PatchCore(features, coreset_ratio=0.05)


def padim(features):
    return PaDiM(features, n_channels=10)


def autoencoder(features):
    return Autoencoder(features, StridedNetwork(8), max_epochs=1)


@pytest.mark.filterwarnings("ignore::skanomaly.exceptions.CalibrationWarning")
@pytest.mark.parametrize("make", [patchcore, padim, VariationModel, autoencoder])
def test_detectors_look_at_aligned_images(parts, make):
    network = PretrainedPatchFeatures(layers=(1, 2), weights="random", image_size=64, random_state=0)
    inner = network if make in (patchcore, padim) else Pixels(32)
    detector = make(Aligned(inner)).set_params(calibration="split", random_state=0).fit(parts.X_train)
    maps = detector.anomaly_map(parts.X_test)
    assert maps.shape == parts.X_test.shape
    assert np.isnan(maps).any()
    assert np.isfinite(detector.score_samples(parts.X_test)).all()
    again = pickle.loads(pickle.dumps(detector))
    assert_array_equal(again.anomaly_map(parts.X_test), maps)
    assert_array_equal(detector.anomaly_map(parts.X_test[3:5]), maps[3:5])


def test_leave_one_out_needs_a_given_reference(parts):
    detector = PatchCore(Aligned(PatchFeatures(8, image_size=64)), coreset_ratio=0.1, random_state=0)
    with pytest.raises(ValueError, match="calibration='loo' does not suit Aligned"):
        detector.fit(parts.X_train)
    detector.set_params(features__reference=parts.X_train[0]).fit(parts.X_train)
    assert len(detector.calibration_scores_) == 20


def test_reconstructions_come_back_in_the_frame_of_the_image(parts):
    features = Aligned(Pixels(64), reference=parts.X_train[0]).fit(parts.X_train)
    samples = check_images(parts.X_test[:2])
    back = features.inverse_transform(features.transform(samples), samples)
    difference = np.abs(back - parts.X_test[:2] / 255)[:, 8:-8, 8:-8]
    assert difference.mean() < 0.03
    assert not hasattr(Aligned(PatchFeatures(4)), "inverse_transform")
    assert not hasattr(features, "fill")


def test_every_image_is_registered_once(parts, monkeypatch):
    calls = []
    find = Registration.find
    monkeypatch.setattr(Registration, "find", lambda self, image: calls.append(1) or find(self, image))
    detector = VariationModel(Aligned(Pixels(64), reference=parts.X_train[0]), false_alarm_rate=None)
    detector.fit(parts.X_train)
    assert len(calls) == 20
    detector.anomaly_map(parts.X_test)
    assert len(calls) == 20 + 7


def test_merging_needs_the_same_reference(parts):
    options = {"false_alarm_rate": None}
    with pytest.raises(ValueError, match="reference_"):
        VariationModel(Aligned(Pixels(64)), **options).fit(parts.X_train[:8]).merge(
            VariationModel(Aligned(Pixels(64)), **options).fit(parts.X_train[8:])
        )
    features = Aligned(Pixels(64), reference=parts.X_train[0])
    halves = [VariationModel(features, **options).fit(X) for X in (parts.X_train[:8], parts.X_train[8:])]
    whole = VariationModel(features, **options).fit(parts.X_train)
    assert_allclose(halves[0].merge(halves[1]).spread_, whole.spread_, atol=1e-12)


def test_fitted_features_can_be_frozen(parts):
    features = Aligned(Pixels(64)).fit(parts.X_train)
    detector = VariationModel(FrozenEstimator(features), false_alarm_rate=None).fit(parts.X_train)
    direct = VariationModel(Aligned(Pixels(64)), false_alarm_rate=None).fit(parts.X_train)
    assert_array_equal(detector.anomaly_map(parts.X_test), direct.anomaly_map(parts.X_test))


def test_what_cannot_be_aligned_is_refused(parts):
    with pytest.raises(TypeError, match=r"features=Grids\(\) is not accepted: only images can be aligned"):
        Aligned(Grids("a scorer")).fit(np.zeros((3, 2)))
    with pytest.raises(TypeError, match="put Augmented around Aligned instead"):
        Aligned(Augmented(Pixels(), rotations=4)).fit(parts.X_train)


@pytest.mark.parametrize("value", [0, 128, 255])
def test_a_blank_image_is_flagged_and_spoils_no_others(parts, value):
    """Nothing of the reference is in it, so that there is no light to match."""
    detector = VariationModel(Aligned(Pixels(32), match_light=True), false_alarm_rate=0.3, random_state=0)
    X = parts.X_test[:3].copy()
    expected = detector.fit(parts.X_train).score_samples(X)
    X[0] = value
    scores = detector.score_samples(X)
    assert_array_equal(scores[1:], expected[1:])
    assert scores[0] < detector.offset_
    assert_array_equal(np.isfinite(detector.anomaly_map(X[:1])).any(), True)


def test_a_given_reference_is_read_as_the_images_are(part, tmp_path):
    images = np.stack([part, moved(part, Motion(0.0, 3.0, -4.0))])
    grey = (4095 * images).astype(np.uint16)
    features = Aligned(Pixels(128, data_range=4095), reference=grey[0]).fit(grey)
    assert_allclose(features.reference_[..., 0], part, atol=1e-3)
    frames = np.repeat((255 * images).astype(np.uint8)[..., None], 3, axis=3)
    frames[..., 0] //= 2  # blue, for OpenCV
    features = Aligned(Pixels(128, channels="bgr"), reference=frames[0]).fit(frames)
    assert_array_equal(np.argmin(features.reference_.mean(axis=(0, 1))), 2)
    Image.fromarray(frames[0]).save(tmp_path / "r.png")
    assert Aligned(Pixels(128), reference=tmp_path / "r.png").fit(frames).reference_.shape == (128, 128, 3)
