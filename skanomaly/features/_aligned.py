"""Registration of images to a reference."""

import copy
import hashlib
from os import PathLike

import numpy as np
from sklearn.utils._param_validation import StrOptions
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import check_is_fitted

from .._inputs.views import ChangedSource
from .._kernels.registration import Registration, warp
from .._kernels.smoothing import resize_antialiased
from ._base import OuterImageFeatures

_SIDE = 256  # largest side of the reference, in pixels
_LEAST_GAIN = 1e-6  # of the light in which an image shows the reference
_N_AVERAGED = 16  # training images that the reference is the median of
_OF_PIXELS_IN_PLACE = ("fill", "transform_masks")  # these would need masks in the frame of the reference


def _inner_has_way_back(features):
    found = vars(features).get("features_", features.features)
    return hasattr(found, "inverse_transform")


class Aligned(OuterImageFeatures):
    """Let detectors see images in which the object is always at the same place.

    Every image is shifted, and rotated if necessary, such that it matches a reference; the other features then see the
    aligned image. Anomaly maps are returned in the frame of the image as it was passed. They are NaN for pixels that
    were shifted or rotated out of the frame, which the detector did not see. Where an aligned image has no data, at its
    rim, it is filled with the reference, at the brightness and contrast of the image, so that it looks normal.

    Use it for objects whose place varies, together with detectors that compare images position by position, such as
    `VariationModel`, `PaDiM` and `Autoencoder`.

    Parameters
    ----------
    features : estimator
        Features of images, such as `Pixels` or `PretrainedPatchFeatures`, or a `FrozenEstimator` of fitted features.
    motion : {"translation", "rigid"}, default="translation"
        How images may differ from the reference: "translation" by a shift, "rigid" by a rotation of any angle and a
        shift.
    match_light : bool, default=False
        If True, the brightness and the contrast of images are changed to those of the reference, so that they do not
        matter.
    reference : array of shape (H, W[, C]), str, path-like or None, default=None
        Image to which all images are aligned, or the path of one. None learns it from the training images: it is the
        median of up to 16 of them, aligned to the first. With a given reference, the features do not depend on the
        training images, so that every `calibration` is accepted, and detectors can be merged.

    Attributes
    ----------
    features_ : estimator
        Fitted features.
    reference_ : ndarray of shape (h, w, C), float32
        Reference, reduced to a longer side of at most 256 pixels.
    motion_ : str
        Value of `motion` in `fit`.
    match_light_ : bool
        Value of `match_light` in `fit`.

    See Also
    --------
    Augmented : Let detectors learn from rotated views instead.
    VariationModel : Detector that compares images pixel by pixel.

    Notes
    -----
    Images are registered at the size of `reference_`, by the maximum of their cross-correlation with the reference in
    72 orientations and at all shifts, followed by Gauss-Newton steps that also fit brightness and contrast. Images of
    another shape are stretched to that of the reference. An image that does not show the object cannot be aligned, and
    is usually flagged.

    A learnt reference is learnt again in every part of the training data whose complement is used to calibrate a
    detector; ``calibration="split"`` needs one, "cv" needs 11, and "loo" is not accepted.

    Fitted attributes of the inner features, such as ``grid_shape_``, are attributes of these features too. Pickles hold
    the parameters and the attributes above.

    References
    ----------
    Baker and Matthews, "Lucas-Kanade 20 Years On", IJCV 2004, for the Gauss-Newton steps.

    Examples
    --------
    >>> from skanomaly import Aligned, Pixels, VariationModel
    >>> from skanomaly.datasets import make_parts
    >>> data = make_parts(n_train=10, n_good=1, n_anomalous=0, size=64, rotation=0, random_state=0)
    >>> features = Aligned(Pixels(64)).fit(data.X_train)
    >>> jitter, rest = data.X_train.std(axis=0).mean(), features.transform(data.X_train).std(axis=0).mean()
    >>> bool(255 * rest < 0.8 * jitter)
    True
    """

    _parameter_constraints = {
        **OuterImageFeatures._parameter_constraints,
        "motion": [StrOptions({"translation", "rigid"})],
        "match_light": ["boolean"],
        "reference": [np.ndarray, "array-like", str, PathLike, None],
    }
    _why_images = "only images can be aligned"

    def __init__(self, features, motion="translation", *, match_light=False, reference=None):
        self.features = features
        self.motion = motion
        self.match_light = match_light
        self.reference = reference

    def __getattr__(self, name):
        if name in _OF_PIXELS_IN_PLACE:
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        return super().__getattr__(name)

    def __getstate__(self):
        return {name: value for name, value in super().__getstate__().items() if name != "_registration"}

    @property
    def learns(self):
        """Whether the features depend on the samples of `fit`."""
        return self.reference is None or self._inner().learns

    def check_samples(self, X, *, reset=False):
        """Check `X` and return it as images.

        Parameters
        ----------
        X : array-like
            Images, in any form that the features accept.
        reset : bool, default=False
            If True, fresh features are created first.

        Returns
        -------
        ImageSource
            Checked images, not aligned yet.

        Raises
        ------
        TypeError
            If the features are not features of images, or make views.
        """
        if reset and hasattr(self.features, "training_views"):
            name = type(self.features).__name__
            raise TypeError(
                f"features={name}(...) makes views, which Aligned would align; put {name} around Aligned instead."
            )
        return super().check_samples(X, reset=reset)

    def fit_samples(self, samples):
        """Learn the reference, unless it is given, and fit the features to aligned images.

        Parameters
        ----------
        samples : ImageSource
            Images, as returned by `check_samples`.

        Returns
        -------
        self
            Fitted estimator.
        """
        vars(self).pop("_registration", None)
        self.motion_, self.match_light_ = self.motion, bool(self.match_light)
        if self.reference is None:
            self.reference_ = self._learn_reference(samples)
        else:
            self.reference_ = _reduced(self.features_.check_samples([self.reference]).read(0))
        self.features_ = copy.copy(self.features_).fit_samples(self._aligned(samples))
        return self

    def transform(self, X):
        """Compute the features of aligned images.

        Parameters
        ----------
        X : array-like
            Images, in any form that the features accept.

        Returns
        -------
        ndarray
            Features.
        """
        check_is_fitted(self)
        return self.features_.transform(self._aligned(self.check_samples(X)))

    def transform_layers(self, X):
        """Compute the features of each layer of aligned images at its own resolution.

        Parameters
        ----------
        X : array-like
            Images, in any form that the features accept.

        Returns
        -------
        Layers
            Features of the layers.
        """
        check_is_fitted(self)
        return self.features_.transform_layers(self._aligned(self.check_samples(X)))

    def align(self, X):
        """Align images.

        Parameters
        ----------
        X : array-like
            Images, in any form that the features accept.

        Returns
        -------
        list of ndarray of shape (H, W) or (H, W, 3), float32
            Aligned images, in [0, 1] and in their original sizes; NaN where there is no data.
        """
        check_is_fitted(self)
        samples = self.check_samples(X)
        images = []
        for i in range(len(samples)):
            pixels, inside, _ = self._warped(samples, i)
            pixels[~inside] = np.nan
            images.append(pixels[..., 0] if pixels.shape[2] == 1 else pixels)
        return images

    @available_if(_inner_has_way_back)
    def inverse_transform(self, Z, samples=None):
        """Turn features into images, and undo their alignment.

        Parameters
        ----------
        Z : ndarray of shape (n, h, w, C)
            Features, as returned by `transform`.
        samples : ImageSource, default=None
            Images whose sizes and places the result has; None leaves it aligned.

        Returns
        -------
        list of ndarray of shape (H, W) or (H, W, 3), float32
            Images, in [0, 1]. Pixels that are outside the aligned image have the value of its nearest pixel.
        """
        images = self.features_.inverse_transform(Z, samples)
        if samples is None:
            return images
        moved = [self._to_own_frame(image, samples[i])[0] for i, image in enumerate(images)]
        return [self._in_own_light(image, samples[i]) for i, image in enumerate(moved)]

    def map_to_image(self, grid, sample, sigma=4.0, *, size=None):
        """Turn a grid of scores into a smooth map of the image, in its own frame.

        Parameters
        ----------
        grid : ndarray of shape (h, w)
            Scores of the aligned image.
        sample : ImageSample or None
            Image that the scores belong to; None leaves the map aligned.
        sigma : float, default=4.0
            Standard deviation of the Gaussian that smooths anomaly maps, in pixels of a 224 x 224 image.
        size : tuple of int (H, W), default=None
            Size of the map; None gives it the size of the image.

        Returns
        -------
        ndarray of shape (H, W), float32
            Anomaly map: higher is more anomalous. NaN for pixels that are outside the aligned image.
        """
        score_map = self.features_.map_to_image(grid, sample, sigma, size=size)
        if sample is None:
            return score_map
        score_map, inside = self._to_own_frame(score_map, sample)
        score_map[~inside] = np.nan
        return score_map

    # ----------------------------------------------------------------------------------------- registration

    def _learn_reference(self, samples):
        """Return the median of some training images, aligned to the first."""
        chosen = np.linspace(0, len(samples) - 1, min(len(samples), _N_AVERAGED)).astype(int)
        first = _reduced(samples.read(int(chosen[0])))
        registration, layers = self._register_to(first), [first]
        for i in chosen[1:]:
            image = _reduced(samples.read(int(i)), first.shape[:2], first.shape[2])
            found = registration.find(_gray(image))
            values, inside = warp(image, *found.to_image(first.shape[:2], first.shape[:2]))
            gain, bias = _light(found)
            layers.append(np.where(inside[..., None], (values - bias) / gain, np.nan))
        return np.clip(np.nanmedian(layers, axis=0), 0, 1).astype(np.float32)

    def _register_to(self, reference):
        return Registration(_gray(reference), self.motion_ == "rigid")

    def _named_registration(self):
        """Return the registration, which is built once, and a name that differs for each reference."""
        if "_registration" not in vars(self):
            digest = hashlib.blake2b(f"{self.reference_.shape}".encode(), digest_size=8)
            digest.update(np.ascontiguousarray(self.reference_))
            light = " in its light" if self.match_light_ else ""
            name = f"aligned by {self.motion_} to {digest.hexdigest()}{light}"
            self._registration = self._register_to(self.reference_), name
        return self._registration

    def _aligned(self, samples):
        return ChangedSource(samples, self._filled, self._named_registration()[1])

    def _motion(self, source, i, pixels=None):
        """Return the motion from the reference to image i of a source, which is found once."""
        registration, name = self._named_registration()
        size = self.reference_.shape[:2]
        return source.note(
            i, name, lambda: registration.find(_gray(_reduced(source.read(i) if pixels is None else pixels, size)))
        )

    def _warped(self, source, i):
        """Return image i aligned, where there is data, and the light (gain, bias) in which it shows the reference."""
        pixels = source.read(i)
        motion = self._motion(source, i, pixels)
        pixels, inside = warp(pixels, *motion.to_image(pixels.shape[:2], self.reference_.shape[:2]))
        gain, bias = _light(motion)
        if not self.match_light_:
            return pixels, inside, (gain, bias)
        return np.clip((pixels - bias) / gain, 0, 1).astype(np.float32), inside, (1.0, 0.0)

    def _filled(self, source, i):
        """Return image i aligned; where there is no data, the reference in the light of the image."""
        pixels, inside, (gain, bias) = self._warped(source, i)
        if not inside.all():
            reference = resize_antialiased(_with_channels(self.reference_, pixels.shape[2]), pixels.shape[:2])
            pixels[~inside] = np.clip(gain * reference[~inside] + bias, 0, 1)
        return pixels

    def _in_own_light(self, image, sample):
        """Return an image in the light of its sample."""
        if not self.match_light_:
            return image
        gain, bias = _light(self._motion(sample.source, sample.i))
        return np.clip(gain * image + bias, 0, 1).astype(np.float32)

    def _to_own_frame(self, image, sample):
        """Return an aligned image or map in the frame of its sample, and where there is data."""
        motion = self._motion(sample.source, sample.i)
        return warp(image, *motion.to_reference(image.shape[:2], self.reference_.shape[:2]))


def _reduced(pixels, size=None, n_channels=None):
    """Return an image (H, W, C) reduced to a size, or to a longer side of at most `_SIDE` pixels."""
    if size is None:
        scale = min(1, _SIDE / max(pixels.shape[:2]))
        size = tuple(max(1, round(scale * n)) for n in pixels.shape[:2])
    if n_channels is not None:
        pixels = _with_channels(pixels, n_channels)
    return pixels if pixels.shape[:2] == size else resize_antialiased(pixels, size)


def _with_channels(pixels, n_channels):
    if pixels.shape[2] == n_channels:
        return pixels
    return pixels.mean(axis=2, keepdims=True) if n_channels == 1 else np.repeat(pixels, 3, axis=2)


def _gray(pixels):
    return pixels.mean(axis=2)


def _light(motion):
    """Return gain and bias; an image that shows nothing of the reference, such as a blank one, stays as it is."""
    return (motion.gain, motion.bias) if motion.gain > _LEAST_GAIN else (1.0, 0.0)
