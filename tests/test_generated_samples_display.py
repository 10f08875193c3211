import numpy as np
import pytest
from matplotlib.figure import Figure
from numpy.testing import assert_array_equal

from skanomaly.plotting import GeneratedSamplesDisplay


class Generator:
    """A detector that draws noise."""

    def generate(self, n, random_state=None):
        return np.random.default_rng(random_state).random((n, 4, 6))


def test_images_stand_row_by_row():
    ax = Figure().add_subplot()
    display = GeneratedSamplesDisplay.from_estimator(Generator(), 5, random_state=3, ax=ax)
    images = Generator().generate(5, 3)
    assert display.ax_ is ax
    assert display.sheet_.shape == (8, 18)
    for i, image in enumerate(images):
        top, left = 4 * (i // 3), 6 * (i % 3)
        assert_array_equal(display.sheet_[top : top + 4, left : left + 6], image)
    assert np.isnan(display.sheet_[4:, 12:]).all()
    assert ax.images[0].get_clim() == (0, 1)


def test_colours_and_columns(rng):
    images = rng.random((4, 3, 2, 3))
    display = GeneratedSamplesDisplay.from_images(images, ax=Figure().add_subplot(), n_columns=4)
    assert_array_equal(display.sheet_, np.concatenate(images, axis=1))


def test_what_generates_nothing_is_refused():
    with pytest.raises(TypeError, match="estimator is a object; it must be a detector with `generate`"):
        GeneratedSamplesDisplay.from_estimator(object())
