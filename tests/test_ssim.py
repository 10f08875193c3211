import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from skimage.metrics import structural_similarity

from skanomaly._torch.ssim import ssim_map


@pytest.fixture
def pair(rng):
    """Two batches (n, C, H, W) that share some structure, in [0, 1]."""
    x = rng.random((2, 3, 24, 31))
    return x, np.clip(0.6 * x + 0.4 * rng.random(x.shape), 0, 1)


def compute(x, y, **options):
    return ssim_map(torch.from_numpy(x), torch.from_numpy(y), **options).numpy()


def scikit_image(x, y, window, c1, c2, data_range):
    """Return the SSIM maps (n, C, H, W) of scikit-image, with (K L)^2 equal to our c L^2."""
    options = {"win_size": window, "data_range": data_range, "K1": c1**0.5, "K2": c2**0.5, "full": True}
    pairs = zip(x.reshape(-1, *x.shape[2:]), y.reshape(-1, *y.shape[2:]), strict=True)
    return np.array([structural_similarity(p, q, **options)[1] for p, q in pairs]).reshape(x.shape)


@pytest.mark.parametrize("window", [3, 11])
@pytest.mark.parametrize(("c1", "c2"), [(0.01, 0.03), (1e-4, 9e-4)])
@pytest.mark.parametrize("data_range", [1.0, 255.0])
def test_equals_scikit_image(pair, window, c1, c2, data_range):
    x, y = (data_range * part for part in pair)
    expected = scikit_image(x, y, window, c1, c2, data_range)
    actual = compute(x, y, window=window, c1=c1, c2=c2, data_range=data_range)
    assert_allclose(actual, expected, atol=1e-9)
    single = compute(x.astype(np.float32), y.astype(np.float32), window=window, c1=c1, c2=c2, data_range=data_range)
    assert_allclose(single, expected, atol=1e-5)


def test_equal_images_have_similarity_one(pair):
    assert_allclose(compute(pair[0], pair[0]), 1, rtol=1e-12)
    assert_allclose(compute(np.zeros((1, 1, 11, 11)), np.zeros((1, 1, 11, 11))), 1)


def test_lies_within_one(pair):
    x, y = pair
    assert np.abs(compute(x, 1 - x)).max() <= 1
    assert compute(x, 1 - x).mean() < compute(x, y).mean() < 1


def test_by_hand():
    """One window of two constants a and b: only the means count."""
    a, b = 0.2, 0.6
    similarity = compute(np.full((1, 1, 11, 11), a), np.full((1, 1, 11, 11), b), c1=0.01)
    assert_allclose(similarity, (2 * a * b + 0.01) / (a**2 + b**2 + 0.01), rtol=1e-9)


def test_gradient(pair):
    x, y = (torch.from_numpy(part[:1, :1, :7, :6]) for part in pair)
    assert torch.autograd.gradcheck(lambda y: ssim_map(x, y, window=3), y.requires_grad_())


def test_too_small_images_are_refused(pair):
    with pytest.raises(ValueError, match="window=11 is larger than the images of 10 x 31"):
        compute(pair[0][:, :, :10], pair[1][:, :, :10])
