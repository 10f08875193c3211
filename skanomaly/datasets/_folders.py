"""Loaders for labelled images in folders."""

from pathlib import Path

import numpy as np
from PIL import Image
from sklearn.utils import Bunch

_SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp"}


class Mask:
    """Label and lazily read defect mask of one image.

    ``np.asarray(mask)`` is a boolean array of the size of the image, True on the defect. It may be all False even if
    the label is -1, because some defects cannot be outlined.

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
    def shape(self):
        """Shape (H, W) of the image, in pixels."""
        with Image.open(self.image_path) as image:
            return image.size[::-1]

    def __array__(self, dtype=None, copy=None):
        if self.path is None:
            return np.zeros(self.shape, dtype or bool)
        with Image.open(self.path) as image:
            pixels = np.asarray(image.convert("L"))
        if pixels.shape != self.shape:
            raise ValueError(
                f"{self.path} has shape {pixels.shape}, but its image {self.image_path} has shape {self.shape}."
            )
        return (pixels > pixels.max() / 2).astype(dtype or bool)


def load_image_folder(root, *, normal="good", masks=None):
    """Load labelled images from a folder with one subfolder per kind.

    Parameters
    ----------
    root : str or path-like
        Folder with one subfolder per kind of image, or with images, which are then all normal.
    normal : str, default="good"
        Name of the subfolder of normal images; images of all other kinds are anomalies.
    masks : str or path-like, default=None
        Folder with a mask `<kind>/<stem>_mask.png` or `<kind>/<stem>.png` for every anomalous image. If None, all
        masks are empty.

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
        If the folder, its images, the normal images or a mask is missing.

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
    if not root.is_dir():
        raise FileNotFoundError(f"root={str(root)!r} is not a folder.")
    kinds = {folder.name: _images(folder) for folder in sorted(root.iterdir()) if folder.is_dir()}
    kinds = {kind: paths for kind, paths in kinds.items() if paths} or {normal: _images(root)}
    if not any(kinds.values()):
        raise FileNotFoundError(f"root={str(root)!r} contains no images ({', '.join(sorted(_SUFFIXES))}).")
    if normal not in kinds:
        raise FileNotFoundError(
            f"root={str(root)!r} has no subfolder {normal!r} of normal images, only {', '.join(kinds)}."
        )
    items = [(kind, path) for kind, paths in kinds.items() for path in paths]
    labels = [1 if kind == normal else -1 for kind, _ in items]
    return Bunch(
        X=np.array([str(path) for _, path in items]),
        y=np.array(labels),
        kinds=np.array([kind for kind, _ in items]),
        masks=[
            Mask(label, path, _mask_path(masks, kind, path) if masks and label < 0 else None)
            for label, (kind, path) in zip(labels, items, strict=True)
        ],
    )


def load_mvtec(root):
    """Load a category in the layout of MVTec AD.

    Parameters
    ----------
    root : str or path-like
        Folder of the category, with images in `train/good`, `test/good` and `test/<defect>` and masks in
        `ground_truth/<defect>`, called `<stem>_mask.png` or `<stem>.png`.

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
        If a folder or a mask is missing.

    See Also
    --------
    load_image_folder : Load labelled images from a folder with one subfolder per kind.
    make_surfaces : Generate synthetic surfaces with defects and masks.

    References
    ----------
    Bergmann et al., "MVTec AD", CVPR 2019.
    """
    root = Path(root)
    missing = [name for name in ("train/good", "test", "ground_truth") if not (root / name).is_dir()]
    if missing:
        raise FileNotFoundError(
            f"root={str(root)!r} is not in the layout of MVTec AD: it has no {' and no '.join(missing)}."
        )
    train = load_image_folder(root / "train" / "good")
    test = load_image_folder(root / "test", masks=root / "ground_truth")
    return Bunch(X_train=train.X, X_test=test.X, y_test=test.y, kinds_test=test.kinds, masks_test=test.masks)


def _images(folder):
    return sorted(path for path in folder.iterdir() if path.suffix.lower() in _SUFFIXES)


def _mask_path(root, kind, image):
    candidates = [Path(root) / kind / f"{image.stem}{end}.png" for end in ("_mask", "")]
    for path in candidates:
        if path.is_file():
            return path
    raise FileNotFoundError(f"No mask for {image}: looked for {' and '.join(map(str, candidates))}.")
