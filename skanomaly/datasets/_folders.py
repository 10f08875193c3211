"""Labelled images in folders."""

from pathlib import Path

import numpy as np
from PIL import Image
from sklearn.utils import Bunch

_SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp"}


class Mask:
    """The label and the defect mask of one image; the mask is read when it is asked for.

    ``np.asarray(mask)`` is a boolean array of the image's size, True on the defect. It may be all False although
    the label says anomaly: some defects cannot be outlined.

    Parameters
    ----------
    label : int
        +1 for normal, -1 for anomaly.
    image_path : path
        The image.
    path : path or None
        The mask; None for an image without one.
    """

    def __init__(self, label, image_path, path=None):
        self.label, self.image_path, self.path = label, image_path, path

    def __repr__(self):
        return f"Mask(label={self.label:+d}, path={None if self.path is None else str(self.path)!r})"

    @property
    def shape(self):
        """(H, W) of the image."""
        with Image.open(self.image_path) as image:
            return image.size[::-1]

    def __array__(self, dtype=None, copy=None):
        if self.path is None:
            return np.zeros(self.shape, dtype or bool)
        with Image.open(self.path) as image:
            pixels = np.asarray(image.convert("L"))
        if pixels.shape != self.shape:
            raise ValueError(f"{self.path} is {pixels.shape}, its image {self.image_path} is {self.shape}.")
        return (pixels > pixels.max() / 2).astype(dtype or bool)


def load_image_folder(root, *, normal="good", masks=None):
    """Return labelled images of a folder.

    Parameters
    ----------
    root : path
        Holds one folder per kind, or images directly, which are then all normal.
    normal : str, default="good"
        The folder of normal images; all other kinds are anomalies.
    masks : path, optional
        Folder with `<kind>/<stem>_mask.png` or `<kind>/<stem>.png` for every anomalous image.

    Returns
    -------
    Bunch
        ``X``, array of paths (n,); ``y``, array of +1 and -1 (n,); ``kinds``, array of folder names (n,); ``masks``,
        list of `Mask` (n), each with its label. All in sorted order of kind and file name.

    Raises
    ------
    FileNotFoundError
        If the folder, its images, the normal ones among them, or a mask is missing.

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
        raise FileNotFoundError(f"root={str(root)!r} is no folder.")
    kinds = {folder.name: _images(folder) for folder in sorted(root.iterdir()) if folder.is_dir()}
    kinds = {kind: paths for kind, paths in kinds.items() if paths} or {normal: _images(root)}
    if not any(kinds.values()):
        raise FileNotFoundError(f"root={str(root)!r} holds no images ({', '.join(sorted(_SUFFIXES))}).")
    if normal not in kinds:
        raise FileNotFoundError(
            f"root={str(root)!r} has no folder {normal!r} of normal images, only {', '.join(kinds)}."
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
    """Return a category in the layout of MVTec AD.

    Parameters
    ----------
    root : path
        Holds `train/good/*`, `test/good/*`, `test/<defect>/*` and `ground_truth/<defect>/<stem>_mask.png` (or
        `<stem>.png`).

    Returns
    -------
    Bunch
        ``X_train`` and ``X_test``, arrays of paths; ``y_test``, array of +1 and -1; ``kinds_test``, array of folder
        names; ``masks_test``, list of `Mask`. In sorted order.

    Raises
    ------
    FileNotFoundError
        If a folder or a mask is missing.

    References
    ----------
    Bergmann et al., "MVTec AD", CVPR 2019.
    """
    root = Path(root)
    missing = [name for name in ("train/good", "test", "ground_truth") if not (root / name).is_dir()]
    if missing:
        raise FileNotFoundError(f"root={str(root)!r} is no MVTec folder: it has no {' and no '.join(missing)}.")
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
