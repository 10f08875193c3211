"""Rigid registration of images: cross-correlation over shifts and angles, then least squares."""

from typing import NamedTuple

import numpy as np
from scipy.fft import irfft2, next_fast_len, rfft2
from scipy.ndimage import affine_transform, gaussian_filter

from .smoothing import resize_antialiased

_COARSE_SIDE = 96  # pixels of the longer side of images that are correlated
_ANGLE_STEP = 5.0  # degrees between correlated orientations
_N_CANDIDATES = 4  # correlation peaks that are refined
_N_STEPS = 20
_SMALLEST_GAIN = 1e-5  # of the correlation, below which steps end
_BAND = (1.0, 8.0)  # standard deviations of the Gaussians between which details are correlated, in pixels


class Motion(NamedTuple):
    """Rotation about the centre of an image, followed by a shift.

    Parameters
    ----------
    angle : float
        Angle, counter-clockwise, in radians.
    down, right : float
        Shift, in pixels of the reference.
    gain, bias : float
        Pixels of the image are about ``gain * reference + bias``.
    """

    angle: float = 0.0
    down: float = 0.0
    right: float = 0.0
    gain: float = 1.0
    bias: float = 0.0

    def to_image(self, size, reference_size):
        """Return matrix and offset such that ``matrix @ p + offset`` is where pixel p of the reference is in an image.

        Parameters
        ----------
        size : tuple of int (H, W)
            Size of the image, to which the reference is enlarged.
        reference_size : tuple of int (h, w)
            Size of the reference, whose pixels are the unit of the shift.
        """
        cosine, sine = np.cos(self.angle), np.sin(self.angle)
        scale = np.divide(size, reference_size)
        matrix = np.array([[cosine, -sine], [sine, cosine]]) * scale[:, None] / scale
        center = (np.array(size) - 1) / 2
        return matrix, center - matrix @ center + scale * (self.down, self.right)

    def to_reference(self, size, reference_size):
        """Return matrix and offset of the way back, from an image to the reference."""
        matrix, offset = self.to_image(size, reference_size)
        inverse = np.linalg.inv(matrix)
        return inverse, -inverse @ offset


def warp(image, matrix, offset, shape=None):
    """Return the values of an image at transformed pixels, and where these are inside the image.

    Parameters
    ----------
    image : ndarray of shape (H, W) or (H, W, C)
    matrix : ndarray of shape (2, 2)
    offset : ndarray of shape (2,)
        Pixel p of the result is at ``matrix @ p + offset`` in the image.
    shape : tuple of int (h, w), default=None
        Size of the result; None is that of the image.

    Returns
    -------
    values : ndarray of shape (h, w) or (h, w, C)
        Bilinear interpolation; outside the image, its nearest pixel.
    inside : ndarray of shape (h, w), bool
    """
    shape = image.shape[:2] if shape is None else shape
    rows, columns = np.arange(shape[0])[:, None], np.arange(shape[1])
    inside = np.ones(shape, bool)
    for (a, b), shift, n in zip(matrix, offset, image.shape, strict=False):
        place = a * rows + b * columns + shift
        inside &= (place > -0.5 - 1e-6) & (place < n - 0.5 + 1e-6)
    options = {"output_shape": shape, "order": 1, "mode": "nearest"}
    if image.ndim == 2:
        return affine_transform(image, matrix, offset, **options), inside
    channels = [affine_transform(channel, matrix, offset, **options) for channel in np.moveaxis(image, 2, 0)]
    return np.stack(channels, axis=-1), inside


class Registration:
    """Registration of images to a reference.

    Parameters
    ----------
    reference : ndarray of shape (h, w)
        Gray reference.
    rotates : bool
        Whether images may be rotated, by any angle.
    """

    def __init__(self, reference, rotates):
        self.reference, self.rotates = reference.astype(np.float64), rotates
        scale = min(1, _COARSE_SIDE / max(reference.shape))
        self.coarse_shape = tuple(max(1, round(scale * n)) for n in reference.shape)
        coarse = self._reduced(self.reference)
        self.padded = tuple(next_fast_len(2 * n, real=True) for n in self.coarse_shape)
        self.angles = np.radians(np.arange(0, 360, _ANGLE_STEP)) if rotates else np.zeros(1)
        self.smooth = [gaussian_filter(view, 1.0) for view in (coarse, self.reference)]
        details = [_details(self._turned(coarse, angle)) for angle in self.angles]
        self.spectra = [np.conj(rfft2(turned, self.padded)) / np.linalg.norm(turned) for turned in details]

    def find(self, image):
        """Return the `Motion` from the reference to an image (h, w), of the same size."""
        image = image.astype(np.float64)
        coarse = self._reduced(image)
        coarse_smooth, smooth = (gaussian_filter(view, 1.0) for view in (coarse, image))
        found = [self._refine(coarse_smooth, self.smooth[0], start) for start in self._candidates(coarse)]
        _, motion = max(found, key=lambda pair: pair[0])
        return self._refine(smooth, self.smooth[1], motion)[1]

    def _reduced(self, image):
        return resize_antialiased(image[..., None], self.coarse_shape)[..., 0].astype(np.float64)

    def _turned(self, image, angle):
        """Return an image rotated about its centre; outside, its mean."""
        if angle == 0:
            return image
        values, inside = warp(image, *Motion(angle).to_reference(image.shape, image.shape))
        return np.where(inside, values, image.mean())

    def _candidates(self, coarse):
        """Return the motions with the highest correlations: the best shift of the best angles."""
        spectrum = rfft2(_details(coarse), self.padded)
        peaks = []
        for angle, reference in zip(self.angles, self.spectra, strict=True):
            correlation = irfft2(spectrum * reference, self.padded)
            place = np.unravel_index(correlation.argmax(), self.padded)
            shift = [i - n if i > n // 2 else i for i, n in zip(place, self.padded, strict=True)]
            shift = np.multiply(shift, self.reference.shape) / self.coarse_shape
            peaks.append((correlation[place], Motion(float(angle), *map(float, shift))))
        peaks.sort(key=lambda peak: -peak[0])
        return [motion for _, motion in peaks[: _N_CANDIDATES if self.rotates else 1]]

    def _refine(self, image, reference, motion):
        """Return the correlation of an image with the reference, and the motion, after Gauss-Newton steps."""
        best = -np.inf, motion
        for _ in range(_N_STEPS):
            warped, inside = warp(image, *motion.to_image(image.shape, self.reference.shape))
            gain, bias, correlation = _fit_light(warped[inside], reference[inside])
            if correlation < best[0] + _SMALLEST_GAIN:
                break
            motion = motion._replace(gain=gain, bias=bias)
            best = correlation, motion
            step = self._step(warped, reference, inside, motion)
            motion = motion._replace(**{name: getattr(motion, name) + value for name, value in step.items()})
        return best

    def _step(self, warped, reference, inside, motion):
        """Return the change of the motion that brings a warped image closer to the reference."""
        slope_down, slope_right = np.gradient(warped)
        columns = [slope_down[inside], slope_right[inside], np.ones(inside.sum()), reference[inside]]
        if self.rotates:
            rows = np.arange(warped.shape[0])[:, None] - (warped.shape[0] - 1) / 2
            across = np.arange(warped.shape[1]) - (warped.shape[1] - 1) / 2
            columns.append((slope_right * rows - slope_down * across)[inside])
        A = np.stack(columns)
        residual = motion.gain * reference[inside] + motion.bias - warped[inside]
        step = np.linalg.lstsq(A @ A.T, A @ residual, rcond=None)[0]
        step[:2] *= np.divide(self.reference.shape, warped.shape)
        cosine, sine = np.cos(motion.angle), np.sin(motion.angle)
        moved = {"down": cosine * step[0] - sine * step[1], "right": sine * step[0] + cosine * step[1]}
        return {**moved, "angle": step[4]} if self.rotates else moved


def _details(image):
    """Return the band of an image between two Gaussians, which light hardly changes."""
    low, high = _BAND
    return gaussian_filter(image, low) - gaussian_filter(image, high)


def _fit_light(pixels, reference):
    """Return gain and bias of pixels (n,) with respect to those of the reference, and their correlation."""
    if len(pixels) < 2:
        return 1.0, 0.0, -np.inf
    a, b = pixels - pixels.mean(), reference - reference.mean()
    gain = (a @ b) / max(b @ b, 1e-12)
    return gain, pixels.mean() - gain * reference.mean(), (a @ b) / max(np.sqrt((a @ a) * (b @ b)), 1e-12)
