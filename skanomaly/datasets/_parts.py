"""Synthetic parts that lie at about the same place, with defects and exact masks."""

from typing import NamedTuple

import numpy as np
from scipy.ndimage import gaussian_filter
from sklearn.utils import check_random_state

from ._surfaces import bunch_of_images, soft_ellipse

PART_DEFECTS = ("missing_print", "blocked_hole", "scratch", "chip", "stain")

# The drawing of the part, in units of the side of the image, with (0, 0) in the centre of the plate.
_PLATE = (0.26, 0.34)  # half of the height and of the width
_HOLES = [(-0.19, -0.27, 0.035), (-0.19, 0.27, 0.035), (0.19, -0.27, 0.035), (0.19, 0.27, 0.035), (0.02, -0.14, 0.07)]
_BARS = [(-0.12 + 0.075 * i, 0.12, 0.018, length) for i, length in enumerate((0.11, 0.07, 0.1, 0.05))]
_BACKGROUND, _METAL, _EDGE, _INK = 0.2, 0.65, 0.8, 0.3


class _Pose(NamedTuple):
    """Coordinates of the pixels on the drawing, and the size of a pixel there."""

    y: np.ndarray
    x: np.ndarray
    pixel: float


def make_parts(
    *,
    n_train=40,
    n_good=20,
    n_anomalous=40,
    size=128,
    shift=0.04,
    rotation=3.0,
    light=1.0,
    contrast=1.0,
    random_state=None,
):
    """Generate gray images of a part that always looks the same, some of them with a defect and its mask.

    The part is a metal plate with holes, print and bright edges on a dark ground. Every image has its own position,
    rotation, light and noise. The defects are missing print, blocked holes, scratches, chips of the edge, and stains.

    Parameters
    ----------
    n_train : int, default=40
        Number of normal training images.
    n_good : int, default=20
        Number of normal test images.
    n_anomalous : int, default=40
        Number of anomalous test images. The five kinds of defect take turns.
    size : int, default=128
        Side of the images, in pixels.
    shift : float, default=0.04
        Largest shift of the part in either direction, as a share of `size`.
    rotation : float, default=3.0
        Largest rotation of the part in either direction, in degrees.
    light : float, default=1.0
        Strength of the variation of brightness, contrast and shading; 0 is constant light.
    contrast : float, default=1.0
        Strength of the defects; smaller values are harder to detect.
    random_state : int, RandomState instance or None, default=None
        Seed of the images. Pass an int for reproducible results.

    Returns
    -------
    Bunch
        Dictionary-like object with the following attributes, where n_test is ``n_good + n_anomalous``.

        X_train : ndarray of shape (n_train, size, size), uint8
            Normal training images.
        X_test : ndarray of shape (n_test, size, size), uint8
            Test images, the normal ones first.
        y_test : ndarray of shape (n_test,), int
            Labels: +1 for normal images and -1 for anomalies.
        masks_test : ndarray of shape (n_test, size, size), bool
            Masks, True on the defect.
        kinds_test : ndarray of shape (n_test,), str
            Names of the defects, or "good".

    See Also
    --------
    make_surfaces : Generate images of a texture instead of a part.
    load_mvtec : Load training and test images in the layout of MVTec AD.

    Examples
    --------
    >>> from skanomaly.datasets import make_parts
    >>> data = make_parts(n_train=2, n_good=1, n_anomalous=5, size=64, random_state=0)
    >>> data.X_test.shape, data.kinds_test.tolist()
    ((6, 64, 64), ['good', 'missing_print', 'blocked_hole', 'scratch', 'chip', 'stain'])
    """
    rng = check_random_state(random_state)
    jitter = {"size": size, "shift": shift, "rotation": rotation, "rng": rng}
    train = [_expose(_part(_pose(**jitter)), light, rng) for _ in range(n_train)]
    nothing = np.zeros((size, size), bool)
    test = [(_expose(_part(_pose(**jitter)), light, rng), nothing, "good") for _ in range(n_good)]
    for i in range(n_anomalous):
        kind, pose = PART_DEFECTS[i % len(PART_DEFECTS)], _pose(**jitter)
        image, cover = _DEFECT_DRAWERS[kind](pose, contrast, rng)
        test.append((_expose(image, light, rng), cover > 0.4, kind))
    return bunch_of_images(train, test, size)


def _pose(size, shift, rotation, rng):
    """Return the pixels of an image whose part is shifted and rotated at random."""
    centers = (np.arange(size) + 0.5) / size - 0.5
    y, x = np.meshgrid(centers - rng.uniform(-shift, shift), centers - rng.uniform(-shift, shift), indexing="ij")
    angle = np.deg2rad(rng.uniform(-rotation, rotation))
    return _Pose(np.cos(angle) * y - np.sin(angle) * x, np.sin(angle) * y + np.cos(angle) * x, 1 / size)


def _expose(image, light, rng):
    """Return an image as gray levels, with brushed metal, random light and the noise of a camera."""
    size = len(image)
    brushed = gaussian_filter(rng.normal(size=image.shape), (0.5, 4))
    y, x = np.mgrid[:size, :size] / size - 0.5
    slope = light * rng.uniform(-0.08, 0.08, 2)
    shaded = (image + 0.02 * brushed / brushed.std()) * (1 + light * rng.uniform(-0.1, 0.1))
    lit = shaded + light * rng.uniform(-0.04, 0.04) + slope[0] * y + slope[1] * x
    return np.clip(np.rint(255 * (lit + rng.normal(0, 0.015, image.shape))), 0, 255).astype(np.uint8)


def _part(pose, holes=_HOLES, bars=_BARS):
    """Return the image of a part, without noise."""
    distance = _to_plate(pose)
    edge = _inside(np.abs(distance + 0.012) - 0.008, pose)
    image = _METAL + (_EDGE - _METAL) * edge
    image = image + (_INK - image) * np.max([_bar(pose, bar) for bar in bars], axis=0, initial=0)
    ground = np.max([1 - _inside(distance, pose), *(_hole(pose, hole) for hole in holes)], axis=0)
    return image + (_BACKGROUND - image) * ground


def _to_plate(pose):
    """Return the distance of each pixel to the plate, a rectangle with round corners; negative inside."""
    radius = 0.05
    y, x = (np.abs(axis) - half + radius for axis, half in zip((pose.y, pose.x), _PLATE, strict=True))
    return np.hypot(np.maximum(y, 0), np.maximum(x, 0)) + np.minimum(np.maximum(y, x), 0) - radius


def _inside(distance, pose):
    """Return the share of each pixel that is inside a shape, given the distance to its outline."""
    return np.clip(0.5 - distance / pose.pixel, 0, 1)


def _hole(pose, hole):
    y, x, radius = hole
    return _inside(np.hypot(pose.y - y, pose.x - x) - radius, pose)


def _bar(pose, bar):
    y, x, half_height, half_width = bar
    return _inside(np.maximum(np.abs(pose.y - y) - half_height, np.abs(pose.x - x) - half_width), pose)


def _without(pose, contrast, **changed):
    """Return the image of a part that lacks something, and where it differs from a whole one."""
    whole, broken = _part(pose), _part(pose, **changed)
    change = np.abs(broken - whole)
    return whole + np.clip(contrast, 0, 1) * (broken - whole), change / max(change.max(), 1e-9)


def _missing_print(pose, contrast, rng):
    gone = rng.randint(len(_BARS))
    return _without(pose, contrast, bars=[bar for i, bar in enumerate(_BARS) if i != gone])


def _blocked_hole(pose, contrast, rng):
    gone = rng.randint(len(_HOLES))
    return _without(pose, contrast, holes=[hole for i, hole in enumerate(_HOLES) if i != gone])


def _chip(pose, contrast, rng):
    side, along = rng.randint(4), rng.uniform(-0.7, 0.7)
    half = _PLATE[side // 2]
    across = _PLATE[1 - side // 2] * along
    sign = (-1) ** side
    center = (sign * half, across) if side < 2 else (across, sign * half)
    return _without(pose, contrast, holes=[*_HOLES, (*center, rng.uniform(0.03, 0.05))])


def _scratch(pose, contrast, rng):
    y, x, angle, half_length = *_place(rng), rng.uniform(0, np.pi), rng.uniform(0.06, 0.12)
    along = np.cos(angle) * (pose.x - x) + np.sin(angle) * (pose.y - y)
    across = np.cos(angle) * (pose.y - y) - np.sin(angle) * (pose.x - x)
    line = _inside(np.maximum(np.abs(across) - 0.009, np.abs(along) - half_length), pose)
    cover = line * _inside(_to_plate(pose), pose)
    return _part(pose) + rng.choice([-1, 1]) * 0.25 * contrast * cover, cover


def _stain(pose, contrast, rng):
    place = np.array(_place(rng))
    y, x = (axis - at for axis, at in zip((pose.y, pose.x), place, strict=True))
    cover = soft_ellipse(y, x, rng, rng.uniform(0.04, 0.07), softness=0.015) * _inside(_to_plate(pose), pose)
    return _part(pose) * (1 - 0.35 * contrast * cover), cover


def _place(rng):
    """Return a random place (y, x) on the plate."""
    return tuple(rng.uniform(-0.8, 0.8) * half for half in _PLATE)


_DEFECT_DRAWERS = {
    "missing_print": _missing_print,
    "blocked_hole": _blocked_hole,
    "scratch": _scratch,
    "chip": _chip,
    "stain": _stain,
}
