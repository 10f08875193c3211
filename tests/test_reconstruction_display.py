import sys

import numpy as np
import pytest
from matplotlib.figure import Figure
from numpy.testing import assert_allclose, assert_array_equal

from skanomaly.plotting import ReconstructionDisplay


class Halver:
    """A detector whose reconstruction is half of the image."""

    def reconstruct(self, X):
        return [image / 2 for image in X]

    def anomaly_map(self, X):
        return [image.reshape(*image.shape[:2], -1).max(axis=2) for image in X]


class Quarterer(Halver):
    """One that projects, too."""

    def project(self, X):
        return [image / 4 for image in X]


@pytest.fixture
def images(rng):
    return rng.random((3, 12, 15, 3))


def titles(display):
    return [ax.get_title() for ax in display.axes_[0]]


def shown(display, i):
    return [ax.images[0].get_array() for ax in display.axes_[i]]


def test_data_and_what_is_drawn(images, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)  # importing it fails
    axes = Figure().subplots(len(images), 4, squeeze=False)
    display = ReconstructionDisplay.from_estimator(Halver(), images, axes=axes)
    assert titles(display) == ["original", "reconstruction", "residual", "anomaly map"]
    for i, image in enumerate(images):
        assert_allclose(display.residuals[i], image.mean(axis=2) / 2, rtol=1e-6)
        drawn = (image, image / 2, image.mean(axis=2) / 2, image.max(axis=2))
        for actual, expected in zip(shown(display, i), drawn, strict=True):
            assert_allclose(actual, expected, atol=1e-6)
    maps = [ax.images[0].get_clim() for ax in display.axes_[:, 3]]
    assert set(maps) == {(images.max(axis=3).min(), images.max())}
    assert {ax.images[0].get_clim()[0] for ax in display.axes_[:, 2]} == {0}


class Scorer(Halver):
    """One whose scores come with the maps."""

    def iter_scores_and_maps(self, X):
        for i, score_map in enumerate(self.anomaly_map(X)):
            yield -1.5 * i, score_map


def test_scores_stand_above_the_maps(images):
    display = ReconstructionDisplay.from_estimator(Scorer(), images)
    assert_array_equal(display.scores, [0, 1.5, 3])
    assert [ax.get_title() for ax in display.axes_[:, 3]] == ["anomaly map\nscore 0", "score 1.5", "score 3"]
    with pytest.raises(ValueError, match=r"scores has shape \(2,\), but there are 3 images"):
        ReconstructionDisplay.from_predictions(images, images, images[..., 0], scores=[1, 2])


def test_projections_come_first(images):
    display = ReconstructionDisplay.from_estimator(Quarterer(), images)
    assert titles(display)[1] == "projection"
    assert_array_equal(display.reconstructions[0], images[0] / 4)


def test_sizes_and_channels_may_differ(rng):
    images = [rng.random((8, 9, 3)), rng.random((5, 6, 3))]
    gray = [image.mean(axis=2) for image in images]
    maps = [np.full(image.shape, np.nan) for image in gray]
    maps[0][2, 2] = maps[1][1, 1] = 1.0
    colour = ReconstructionDisplay.from_predictions(images, gray, maps)
    assert_allclose(colour.residuals[1], np.abs(images[1] - gray[1][..., None]).mean(axis=2), atol=1e-6)
    flat = ReconstructionDisplay.from_predictions(gray, images, maps)
    assert_allclose(flat.residuals[1], 0, atol=1e-6)


def test_axes_of_ones_own(images):
    axes = Figure().subplots(3, 4)
    display = ReconstructionDisplay.from_predictions(images, images, images[..., 0], axes=axes)
    assert display.axes_[2, 3] is axes[2, 3]
    assert display.figure_ is axes[0, 0].figure
    with pytest.raises(ValueError, match=r"axes has shape \(2, 4\); it must have shape \(3, 4\)"):
        display.plot(axes=axes[:2])


def test_what_does_not_fit_is_refused(images):
    with pytest.raises(ValueError, match=r"reconstructions have shapes .*\(11, 15\)"):
        ReconstructionDisplay.from_predictions(images, images[:, 1:], images[..., 0])
    with pytest.raises(ValueError, match="anomaly_maps have shapes"):
        ReconstructionDisplay.from_predictions(images, images, images[:2, ..., 0])
    with pytest.raises(TypeError, match="estimator is a object; it must be a detector with"):
        ReconstructionDisplay.from_estimator(object(), images)
