"""The parts of the structural similarity."""

import numpy as np
import pytest
from matplotlib.figure import Figure
from numpy.testing import assert_allclose, assert_array_equal
from skimage.metrics import structural_similarity

from skanomaly.metrics import ssim_parts
from skanomaly.plotting import SSIMDisplay


@pytest.fixture
def pair(rng):
    x = rng.random((24, 31)).cumsum(axis=1) / 31
    return x, np.clip(0.8 * x + 0.1 * rng.random(x.shape), 0, 1)


@pytest.mark.parametrize("window", [3, 7, 11])
def test_the_product_is_scikit_images(pair, window):
    options = {"win_size": window, "data_range": 1.0, "K1": 0.1, "K2": 0.03**0.5, "full": True}
    expected = structural_similarity(*pair, gaussian_weights=False, **options)[1]
    assert_allclose(ssim_parts(*pair, window=window).ssim, expected, atol=1e-6)


def test_each_part_answers_to_its_own_change(rng):
    x = 0.2 + 0.3 * rng.random((20, 20))
    same, brighter, flatter = (
        ssim_parts(x, y, c1=1e-9, c2=1e-9) for y in (x, x + 0.3, x.mean() + 0.5 * (x - x.mean()))
    )
    assert_allclose(same, 1, atol=1e-4)
    assert brighter.luminance.max() < 0.95
    assert_allclose((brighter.contrast, brighter.structure), 1, atol=1e-3)
    assert_allclose(flatter.contrast, 2 * 0.5 / (1 + 0.25), rtol=1e-3)
    assert_allclose(flatter.structure, 1, atol=1e-3)
    shuffled = ssim_parts(x, rng.permutation(x.ravel()).reshape(x.shape), c2=1e-9)
    assert abs(shuffled.structure.mean()) < 0.4 < shuffled.contrast.mean()
    inverted = ssim_parts(x, 0.7 - x, c2=1e-9)
    assert_allclose(inverted.structure, -1, atol=1e-3)


def test_bytes_and_colours(rng):
    x, y = rng.integers(0, 256, (2, 16, 18, 3)).astype(np.uint8)
    parts = ssim_parts(x, y, window=5)
    assert parts.luminance.shape == (16, 18, 3)
    assert_allclose(
        parts.structure[..., 1], ssim_parts(x[..., 1] / 255, y[..., 1] / 255, window=5).structure, atol=1e-5
    )


def test_what_does_not_fit_is_refused(pair):
    with pytest.raises(ValueError, match=r"other has shape \(24, 30\), but image has shape \(24, 31\)"):
        ssim_parts(pair[0], pair[1][:, 1:])
    for window in (4, 1, 25):
        with pytest.raises(ValueError, match=f"window={window} is not accepted; it must be an odd number from 3 to 24"):
            ssim_parts(*pair, window=window)


class Halver:
    def reconstruct(self, X):
        return np.asarray(X) / 2


def test_the_display_shows_the_parts(rng, tmp_path):
    images = rng.random((2, 16, 16))
    display = SSIMDisplay.from_estimator(Halver(), images, window=5)
    assert display.axes_.shape == (2, 6)
    parts = ssim_parts(images[1], images[1] / 2, window=5)
    for ax, part in zip(display.axes_[1, 2:], (*parts, parts.ssim), strict=True):
        assert_allclose(ax.images[0].get_array(), part, atol=1e-5)
    assert [ax.get_title() for ax in display.axes_[0]][2:] == ["luminance", "contrast", "structure", "SSIM"]
    display.figure_.savefig(tmp_path / "sheet.png")
    own = Figure().subplots(2, 6)
    assert_array_equal(display.plot(axes=own).axes_, own)
    with pytest.raises(ValueError, match=r"axes has shape \(6,\); it must have shape \(2, 6\)"):
        display.plot(axes=own[0])
    with pytest.raises(ValueError, match="reconstructions have shapes"):
        SSIMDisplay.from_predictions(images, images[:, 1:])
