"""Synthetic surfaces with defects and exact masks."""

import numpy as np
from scipy.ndimage import gaussian_filter, gaussian_filter1d
from sklearn.utils import Bunch, check_random_state

SURFACES = ("cloth", "metal", "speckle", "grid")
DEFECTS = ("scratch", "stain", "hole", "missing_thread", "blob")

_THREAD = 8  # distance of neighbouring threads or grid lines, in pixels


def make_surfaces(surface="cloth", *, n_train=40, n_good=20, n_anomalous=40, size=128, contrast=1.0, random_state=None):
    """Generate gray images of a surface, some of them with a defect and its mask.

    Every image has its own phase, tilt, brightness and noise, so that no pixel value by itself reveals a defect. The
    defects are scratches, stains with soft edges, holes, missing threads and low-contrast blobs.

    Parameters
    ----------
    surface : {"cloth", "metal", "speckle", "grid"}, default="cloth"
        Kind of surface: woven cloth, brushed metal, speckle, or a grid of lines.
    n_train : int, default=40
        Number of normal training images.
    n_good : int, default=20
        Number of normal test images.
    n_anomalous : int, default=40
        Number of anomalous test images. The five kinds of defect take turns.
    size : int, default=128
        Side of the images, in pixels.
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

    Raises
    ------
    ValueError
        If the surface is not known.

    See Also
    --------
    make_parts : Generate images of a part instead of a texture.
    load_image_folder : Load labelled images from a folder with one subfolder per kind.
    load_mvtec : Load training and test images in the layout of MVTec AD.

    Examples
    --------
    >>> from skanomaly.datasets import make_surfaces
    >>> data = make_surfaces("grid", n_train=2, n_good=1, n_anomalous=5, size=64, random_state=0)
    >>> data.X_test.shape, data.kinds_test.tolist()
    ((6, 64, 64), ['good', 'scratch', 'stain', 'hole', 'missing_thread', 'blob'])
    """
    if surface not in SURFACES:
        raise ValueError(f"surface={surface!r} is not known; accepted: {', '.join(SURFACES)}.")
    rng = check_random_state(random_state)
    draw = _SURFACE_DRAWERS[surface]
    train = [draw(size, rng) for _ in range(n_train)]
    test = [(draw(size, rng), np.zeros((size, size), bool), "good") for _ in range(n_good)]
    for i in range(n_anomalous):
        kind = DEFECTS[i % len(DEFECTS)]
        image, cover = _DEFECT_DRAWERS[kind](draw(size, rng), contrast, rng)
        test.append((image, cover > 0.4, kind))
    train = [_expose(image, rng) for image in train]
    return bunch_of_images(train, [(_expose(image, rng), mask, kind) for image, mask, kind in test], size)


def bunch_of_images(train, test, size):
    """Return images as a data set.

    Parameters
    ----------
    train : list of ndarray of shape (size, size), uint8
        Training images.
    test : list of tuple (image, mask, kind)
        Test images, with their masks and the names of their defects, or "good".
    size : int
        Side of the images, in pixels.

    Returns
    -------
    Bunch
        Dictionary-like object with X_train, X_test, y_test, masks_test and kinds_test.
    """
    images, masks, kinds = zip(*test, strict=True) if test else ((), (), ())
    return Bunch(
        X_train=np.array(train, np.uint8).reshape(-1, size, size),
        X_test=np.array(images, np.uint8).reshape(-1, size, size),
        y_test=np.array([1 if kind == "good" else -1 for kind in kinds], int),
        masks_test=np.array(masks, bool).reshape(-1, size, size),
        kinds_test=np.array(kinds),
    )


def _expose(image, rng):
    """Return an image as gray levels, with camera noise and a random brightness and contrast."""
    exposed = (image - 0.5) * rng.uniform(0.9, 1.1) + 0.5 + rng.uniform(-0.05, 0.05)
    noisy = exposed + rng.normal(0, 0.02, image.shape)
    return np.clip(np.rint(255 * noisy), 0, 255).astype(np.uint8)


def _tilted_axes(size, rng, degrees=4):
    """Return pixel coordinates (y, x), slightly rotated and shifted at random."""
    y, x = np.mgrid[:size, :size].astype(float)
    angle = np.deg2rad(rng.uniform(-degrees, degrees))
    turned_y = np.cos(angle) * y - np.sin(angle) * x + rng.uniform(0, 4 * _THREAD)
    turned_x = np.sin(angle) * y + np.cos(angle) * x + rng.uniform(0, 4 * _THREAD)
    return turned_y, turned_x


def _cloth(size, rng):
    y, x = _tilted_axes(size, rng)
    wobble = gaussian_filter(rng.normal(size=(size, size)), 6) * 10
    warp = 0.5 + 0.5 * np.cos(2 * np.pi * (x + wobble) / _THREAD)
    weft = 0.5 + 0.5 * np.cos(2 * np.pi * (y + wobble) / _THREAD)
    over = (np.floor(x / _THREAD) + np.floor(y / _THREAD)) % 2 == 0
    fibre = gaussian_filter(rng.normal(size=(size, size)), 0.8) * 0.08
    return 0.3 + 0.35 * np.where(over, warp, weft) + fibre


def _metal(size, rng):
    brushed = gaussian_filter1d(rng.normal(size=(size, size)), 14, axis=1)
    brushed = gaussian_filter1d(brushed, 0.7, axis=0)
    shine = np.linspace(-0.08, 0.08, size)[:, None] * rng.uniform(-1, 1)
    return 0.55 + 0.09 * brushed / brushed.std() + shine


def _speckle(size, rng):
    layers = [gaussian_filter(rng.normal(size=(size, size)), scale) for scale in (1.0, 2.5, 6.0)]
    return 0.5 + sum(0.06 * layer / layer.std() for layer in layers)


def _grid(size, rng):
    y, x = _tilted_axes(size, rng)
    distance = np.minimum(*(np.abs((axis % (2 * _THREAD)) - _THREAD) for axis in (x, y)))
    lines = 1 / (1 + np.exp((distance - 1.8) * 2.5))
    return 0.7 - 0.4 * lines + gaussian_filter(rng.normal(size=(size, size)), 1.0) * 0.06


def _center(size, rng):
    return rng.uniform(0.2 * size, 0.8 * size, 2)


def _scratch(image, contrast, rng):
    size = len(image)
    start, angle = _center(size, rng), rng.uniform(0, np.pi)
    along = np.linspace(-1, 1, 2 * size) * rng.uniform(0.1, 0.25) * size
    bend = rng.uniform(-0.1, 0.1) * along**2 / size
    rows = start[0] + along * np.sin(angle) + bend * np.cos(angle)
    columns = start[1] + along * np.cos(angle) - bend * np.sin(angle)
    line = np.zeros_like(image)
    inside = (rows >= 0) & (rows < size) & (columns >= 0) & (columns < size)
    line[rows[inside].astype(int), columns[inside].astype(int)] = 1
    cover = np.clip(gaussian_filter(line, 0.9) * 3, 0, 1)
    return image + rng.choice([-1, 1]) * 0.22 * contrast * cover, cover


def _soft_ellipse(size, rng, radius, softness):
    """Return the opacity of an irregular ellipse, at a random place of an image."""
    y, x = np.mgrid[:size, :size] - _center(size, rng)[:, None, None]
    return soft_ellipse(y, x, rng, radius, softness)


def soft_ellipse(y, x, rng, radius, softness):
    """Return the opacity of an irregular ellipse around (0, 0): 1 inside, falling to 0 at the edge.

    Parameters
    ----------
    y : ndarray of shape (h, w)
        Vertical coordinates of the pixels.
    x : ndarray of shape (h, w)
        Horizontal coordinates of the pixels.
    rng : RandomState
        Random number generator, which draws the shape.
    radius : float
        Mean radius.
    softness : float
        Width of the edge.

    Returns
    -------
    ndarray of shape (h, w)
        Opacity, in [0, 1].
    """
    angle = np.arctan2(y, x)
    stretch = rng.uniform(0.6, 1.0)
    outline = radius * (1 + 0.15 * np.sin(3 * angle + rng.uniform(0, 6)))
    distance = np.hypot(y, x * stretch) - outline
    return 1 / (1 + np.exp(np.clip(distance / softness, -30, 30)))


def _stain(image, contrast, rng):
    cover = _soft_ellipse(len(image), rng, rng.uniform(0.06, 0.12) * len(image), softness=2.5)
    return image * (1 - 0.3 * contrast * cover), cover


def _hole(image, contrast, rng):
    cover = _soft_ellipse(len(image), rng, rng.uniform(0.025, 0.05) * len(image), softness=0.5)
    return image * (1 - min(1, 0.8 * contrast) * cover), cover


def _missing_thread(image, contrast, rng):
    size = len(image)
    y, x = np.mgrid[:size, :size] - _center(size, rng)[:, None, None]
    length = rng.uniform(0.12, 0.25) * size
    band = (np.abs(y) < 0.4 * _THREAD) & (np.abs(x) < length)
    cover = gaussian_filter((band if rng.randint(2) else band.T).astype(float), 0.7)
    flat = gaussian_filter(image, 2 * _THREAD)
    return image + (flat - image) * np.clip(contrast, 0, 1) * cover, cover


def _blob(image, contrast, rng):
    cover = _soft_ellipse(len(image), rng, rng.uniform(0.05, 0.09) * len(image), softness=1.5)
    return image + rng.choice([-1, 1]) * 0.13 * contrast * cover, cover


_SURFACE_DRAWERS = {"cloth": _cloth, "metal": _metal, "speckle": _speckle, "grid": _grid}
_DEFECT_DRAWERS = {
    "scratch": _scratch,
    "stain": _stain,
    "hole": _hole,
    "missing_thread": _missing_thread,
    "blob": _blob,
}
