"""Loaders for labelled images in folders."""

import glob
import re
import warnings
from pathlib import Path

import numpy as np
from PIL import Image
from sklearn.utils import Bunch

from .._inputs.decoding import pixels_of, read_header
from .._inputs.files import IMAGE_SUFFIXES, image_files, is_image_file
from .._inputs.images import MAX_PIXELS
from ..exceptions import DataWarning

_LOSSY = {"JPEG", "WEBP", "MPO"}  # formats that turn a mask of two values into many
_MASK_NAME = r"([_.\- ][A-Za-z][A-Za-z_.\- ]*)?"  # what may follow the stem of the image


class Mask:
    """Label and lazily read defect mask of one image.

    ``np.asarray(mask)`` is a boolean array of the size of the image, True on the defect, which is everything that is
    not 0 in the file (in lossy formats, everything above half of the largest value). It may be all False even if the
    label is -1, because some defects cannot be outlined. Without a file, the mask of an anomaly is not known:
    ``known`` is False, the array is all False, and `evaluate` leaves the image out of the pixel metrics.

    Parameters
    ----------
    label : int
        Label of the image: +1 for normal, -1 for an anomaly.
    image_path : str or path-like
        Path of the image.
    path : str or path-like, default=None
        Path of the mask; None for an image without one.

    See Also
    --------
    load_image_folder : Load labelled images from a folder, with their masks.
    load_mvtec : Load a category in the layout of MVTec AD, with its masks.
    """

    def __init__(self, label, image_path, path=None):
        self.label, self.image_path, self.path = label, image_path, path

    def __repr__(self):
        return f"Mask(label={self.label:+d}, path={None if self.path is None else str(self.path)!r})"

    @property
    def known(self):
        """Whether the defective pixels are known: those of normal images, and of images with a mask."""
        return self.label > 0 or self.path is not None

    @property
    def shape(self):
        """Shape (H, W) of the image, in pixels, as a viewer shows it."""
        return read_header(self.image_path, MAX_PIXELS)[:2]

    def __array__(self, dtype=None, copy=None):
        if self.path is None:
            return np.zeros(self.shape, dtype or bool)
        defect = read_mask(self.path)
        if defect.shape != self.shape:
            raise ValueError(
                f"{self.path} has shape {defect.shape}, but its image {self.image_path} has shape {self.shape}."
            )
        return defect.astype(dtype or bool)


def load_image_folder(root, *, normal="good", masks=None):
    """Load labelled images from a folder with one subfolder per kind.

    Parameters
    ----------
    root : str or path-like
        Folder with one subfolder per kind of image, or with images, which are then all normal.
    normal : str, default="good"
        Name of the subfolder of normal images; images of all other kinds are anomalies.
    masks : str or path-like, default=None
        Folder with masks of anomalous images, called like their image, in `<kind>/`: `<stem>.png`, `<stem>_mask.bmp`,
        `<stem>_GT.tif` and the like. Or a pattern of their paths, relative to `root`, with {stem} and optionally {kind}
        in place of the names of the image and its subfolder: "{kind}/{stem}_mask.*" for masks beside the images, which
        are then not taken as images. If None, or where a mask is missing, the defective pixels are not known.

    Returns
    -------
    Bunch
        Dictionary-like object, sorted by kind and file name, with the following attributes.

        X : ndarray of shape (n,), str
            Paths of the images.
        y : ndarray of shape (n,), int
            Labels: +1 for normal images and -1 for anomalies.
        kinds : ndarray of shape (n,), str
            Names of the subfolders.
        masks : list of Mask, length n
            Masks, each with its label.

    Raises
    ------
    FileNotFoundError
        If the folder or its images are missing.
    ValueError
        If there are several masks of an image, or several images of a mask.

    Warns
    -----
    DataWarning
        If there are no normal images, or images both in the folder and in its subfolders (the subfolders are loaded
        if one of them is that of normal images, and the folder otherwise), or `masks` is given and some are missing.

    See Also
    --------
    load_mvtec : Load training and test images in the layout of MVTec AD.
    make_surfaces : Generate synthetic surfaces with defects and masks.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from PIL import Image
    >>> from skanomaly.datasets import load_image_folder
    >>> with tempfile.TemporaryDirectory() as root:
    ...     for kind in ("good", "scratch"):
    ...         (Path(root) / kind).mkdir()
    ...         Image.new("L", (8, 8)).save(Path(root) / kind / "0.png")
    ...     load_image_folder(root).y
    array([ 1, -1])
    """
    root = Path(root)
    kinds = _images_by_kind(root, normal, None if _is_pattern(masks) else masks)
    items = [(kind, path) for kind, paths in kinds.items() for path in paths]
    mask_paths = [_mask_path(root, masks, kind, path) for kind, path in items]
    images = [i for i, (_, path) in enumerate(items) if path not in mask_paths]
    items, mask_paths = ([values[i] for i in images] for values in (items, mask_paths))
    labels = [1 if kind == normal else -1 for kind, _ in items]
    found = [
        Mask(label, path, mask_path if label < 0 else None)
        for label, (_, path), mask_path in zip(labels, items, mask_paths, strict=True)
    ]
    _check_shared(found)
    if normal not in kinds:
        warnings.warn(
            f"root={str(root)!r} has no subfolder {normal!r} of normal images, only {', '.join(kinds)}, which are all "
            "taken as anomalies; set `normal` to the name of the normal images.",
            DataWarning,
            stacklevel=2,
        )
    if masks:
        warn_of_missing(found, masks)
    return Bunch(
        X=np.array([str(path) for _, path in items]),
        y=np.array(labels),
        kinds=np.array([kind for kind, _ in items]),
        masks=found,
    )


def load_mvtec(root, *, normal="good"):
    """Load a category in the layout of MVTec AD.

    Parameters
    ----------
    root : str or path-like
        Folder of the category, with images in `train/good`, `test/good` and `test/<defect>` and masks in
        `ground_truth/<defect>`, called `<stem>_mask.png`, `<stem>.bmp` and the like. Masks may be missing.
    normal : str, default="good"
        Name of the subfolders of normal images.

    Returns
    -------
    Bunch
        Dictionary-like object, sorted by kind and file name, with the following attributes.

        X_train : ndarray of shape (n_train,), str
            Paths of the normal training images.
        X_test : ndarray of shape (n_test,), str
            Paths of the test images.
        y_test : ndarray of shape (n_test,), int
            Labels: +1 for normal images and -1 for anomalies.
        kinds_test : ndarray of shape (n_test,), str
            Names of the subfolders of `test`.
        masks_test : list of Mask, length n_test
            Masks, each with its label.

    Raises
    ------
    FileNotFoundError
        If the folder of the training images or that of the test images is missing.

    Warns
    -----
    DataWarning
        If masks of anomalous images are missing.

    See Also
    --------
    load_image_folder : Load labelled images from a folder with one subfolder per kind.
    make_surfaces : Generate synthetic surfaces with defects and masks.

    References
    ----------
    Bergmann et al., "MVTec AD", CVPR 2019.
    """
    root = Path(root)
    missing = [name for name in (f"train/{normal}", "test") if not (root / name).is_dir()]
    if missing:
        found = sorted(path.relative_to(root).as_posix() for path in root.glob("*/*") if path.is_dir())
        raise FileNotFoundError(
            f"root={str(root)!r} is not in the layout of MVTec AD: it has no {' and no '.join(missing)}"
            + (f", only {', '.join(found)}; set `normal` to the name of the normal images." if found else ".")
        )
    train = image_files(root / "train" / normal)
    if not train:
        raise FileNotFoundError(f"{root / 'train' / normal} contains no images ({', '.join(sorted(IMAGE_SUFFIXES))}).")
    test = load_image_folder(root / "test", normal=normal, masks=root / "ground_truth")
    return Bunch(
        X_train=np.array([str(path) for path in train]),
        X_test=test.X,
        y_test=test.y,
        kinds_test=test.kinds,
        masks_test=test.masks,
    )


def _images_by_kind(root, normal, masks):
    """Return the images of each subfolder; those in the folder itself are normal."""
    if not root.is_dir():
        raise FileNotFoundError(f"root={str(root)!r} is not a folder.")
    direct = [path for path in sorted(root.iterdir()) if is_image_file(path)]
    folders = [path for path in sorted(root.iterdir()) if path.is_dir() and not path.name.startswith(".")]
    folders = [folder for folder in folders if masks is None or folder.resolve() != Path(masks).resolve()]
    kinds = {folder.name: images for folder in folders if (images := image_files(folder))}
    if not direct and not kinds:
        raise FileNotFoundError(f"root={str(root)!r} contains no images ({', '.join(sorted(IMAGE_SUFFIXES))}).")
    if not direct or not kinds:
        return kinds or {normal: direct}
    by_folder = normal in kinds
    warnings.warn(
        f"root={str(root)!r} holds {len(direct)} images of its own besides subfolders with images "
        f"({', '.join(kinds)}); only the images {'in the subfolders' if by_folder else 'of its own'} are loaded.",
        DataWarning,
        stacklevel=3,
    )
    return kinds if by_folder else {normal: direct}


def _check_shared(masks):
    images = {}
    for mask in masks:
        if mask.path is not None:
            images.setdefault(mask.path, []).append(str(mask.image_path))
    shared = {path: names for path, names in images.items() if len(names) > 1}
    if shared:
        path, names = next(iter(shared.items()))
        raise ValueError(f"{path} is called like several images: {', '.join(names)}; give each a mask of its own.")


def _is_pattern(masks):
    return masks is not None and "{stem}" in str(masks)


def _mask_path(root, masks, kind, image):
    """Return the path of the mask of an image, or None."""
    if masks is None:
        return None
    if _is_pattern(masks):
        found = _of_pattern(root, str(masks), kind, image)
    else:
        inner = image.parent.relative_to(root / kind) if (root / kind) in image.parents else Path()
        found = _in_folder(Path(masks) / kind / inner, image) or _in_folder(Path(masks) / kind, image)
    if len(found) > 1:
        raise ValueError(f"{image} has several masks: {', '.join(map(str, found))}; keep one of them.")
    return found[0] if found else None


def _of_pattern(root, pattern, kind, image):
    filled = pattern.replace("{kind}", glob.escape(kind)).replace("{stem}", glob.escape(image.stem))
    found = [root / path for path in sorted(glob.glob(filled, root_dir=root))]
    return [path for path in found if path != image and is_image_file(path)]


def _in_folder(folder, image):
    """Return the masks in a folder that are called like an image; those called like another image belong to that."""
    name = re.compile(re.escape(image.stem) + _MASK_NAME)
    found = [path for path in sorted(folder.glob(glob.escape(image.stem) + "*")) if is_image_file(path)]
    exact = [path for path in found if path.stem in (image.stem, f"{image.stem}_mask")]
    found = [path for path in found if name.fullmatch(path.stem)]
    if exact or not found:
        return exact
    beside = [path for path in image.parent.glob(glob.escape(image.stem) + "?*") if is_image_file(path)]
    longer = tuple(path.stem for path in beside if path.stem != image.stem)
    return [path for path in found if not path.stem.startswith(longer)]


def warn_of_missing(masks, folder):
    """Warn if masks of anomalous images are missing, on behalf of a loader.

    Parameters
    ----------
    masks : list of Mask
        Masks of all images.
    folder : path-like
        Place of the masks, for the message.

    Warns
    -----
    DataWarning
        If any masks are missing; the message says how many.
    """
    unknown = [mask for mask in masks if not mask.known]
    if unknown:
        warnings.warn(
            f"{len(unknown)} of {sum(mask.label < 0 for mask in masks)} anomalous images have no mask in {folder}, for "
            f"example {unknown[0].image_path}; they do not count in pixel metrics.",
            DataWarning,
            stacklevel=3,
        )


def read_mask(path):
    """Read the defective pixels of a mask file.

    Parameters
    ----------
    path : path-like
        Path of the file.

    Returns
    -------
    ndarray of shape (H, W), bool
        True on the defect: everything that is not 0, or above half of the largest value in lossy formats.
    """
    with Image.open(path) as image:
        if image.format in _LOSSY:
            pixels = pixels_of(image.convert("L"))[..., 0]
            return pixels > pixels.max() / 2
        pixels = np.asarray(image)[..., None] if image.mode == "P" else pixels_of(image)  # indices are class ids
    if pixels.shape[2] in (2, 4):
        pixels = pixels[..., :-1] * (pixels[..., -1:] > 0)
    return (pixels != 0).any(axis=2)
