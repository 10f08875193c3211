"""Loaders for the folder layouts of published data sets."""

import csv
import json
import warnings
from pathlib import Path

import numpy as np
from PIL import Image
from sklearn.utils import Bunch

from .._inputs.files import image_files
from ..exceptions import DataWarning
from ._folders import Mask, load_mvtec, read_mask, warn_of_missing


class RegionsMask(Mask):
    """Label and lazily read defect regions of one image, each with its saturation area.

    ``np.asarray(mask)`` is a boolean array of the size of the image, True on any of the regions.

    Parameters
    ----------
    label : int
        Label of the image: +1 for normal, -1 for an anomaly.
    image_path : str or path-like
        Path of the image.
    paths : sequence of path-like, default=()
        Paths of the masks of the regions.
    saturation_areas : dict, default=None
        For each value of mask pixels, a number of pixels (int) or a share of the region (float). None takes the whole
        area of each region.

    See Also
    --------
    load_mvtec_loco : Load a category of MVTec LOCO AD, with its masks.
    skanomaly.metrics.auspro : Metric that uses the saturation areas.
    """

    def __init__(self, label, image_path, paths=(), saturation_areas=None):
        super().__init__(label, image_path, paths[0].parent if paths else None)
        self.paths, self.saturation_areas = paths, saturation_areas

    @property
    def regions(self):
        """List of (mask (H, W), saturation area in pixels) of the regions."""
        return [self._region(path) for path in self.paths]

    def _region(self, path):
        region = read_mask(path)
        if self.saturation_areas is None:
            return region, np.count_nonzero(region)
        with Image.open(path) as image:
            value = int(np.asarray(image).max())
        if value not in self.saturation_areas:
            raise ValueError(f"{path} has the value {value}, which defects_config.json does not list.")
        saturation = self.saturation_areas[value]
        return region, saturation if isinstance(saturation, int) else saturation * np.count_nonzero(region)

    def __array__(self, dtype=None, copy=None):
        defect = np.zeros(self.shape, bool)
        for path in self.paths:
            defect |= read_mask(path)
        return defect.astype(dtype or bool)


def load_mvtec_loco(root):
    """Load a category in the layout of MVTec LOCO AD.

    Parameters
    ----------
    root : str or path-like
        Folder of the category, with images in `train/good`, `validation/good` and `test/<kind>`, one mask per defect
        region in `ground_truth/<kind>/<stem>`, and the saturation areas of defects in `defects_config.json`.

    Returns
    -------
    Bunch
        Dictionary-like object with the attributes of `load_mvtec`, whose masks list their regions with saturation
        areas, and further

        X_validation : ndarray of shape (n_validation,), str
            Paths of the normal validation images, for `calibrate`.

    Raises
    ------
    FileNotFoundError
        If the folder of the training images or that of the test images is missing.

    Warns
    -----
    DataWarning
        If masks of anomalous images are missing, or there is no `defects_config.json`, so that regions saturate at
        their own area.

    See Also
    --------
    load_mvtec : Load a category in the layout of MVTec AD.
    skanomaly.metrics.auspro : Saturated per-region overlap, for which the masks list their regions.

    References
    ----------
    Bergmann et al., "Beyond Dents and Scratches: Logical Constraints in Unsupervised Anomaly Detection and
    Localization", IJCV 2022.
    """
    root = Path(root)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*anomalous images have no mask", DataWarning)  # of files, here of folders
        data = load_mvtec(root)
    areas = _saturation_areas(root / "defects_config.json")
    data.masks_test = [
        RegionsMask(mask.label, mask.image_path, _region_files(root / "ground_truth" / kind, mask), areas)
        for kind, mask in zip(data.kinds_test, data.masks_test, strict=True)
    ]
    warn_of_missing(data.masks_test, root / "ground_truth")
    data.X_validation = np.array([str(path) for path in image_files(root / "validation" / "good")])
    return data


def _region_files(folder, mask):
    folder = folder / Path(mask.image_path).stem
    return image_files(folder) if mask.label < 0 and folder.is_dir() else []


def _saturation_areas(path):
    """Return the saturation area of each value of mask pixels: a number of pixels, or a share of the region."""
    if not path.is_file():
        warnings.warn(f"there is no {path}; defect regions saturate at their own area.", DataWarning, stacklevel=3)
        return None
    return {
        int(defect["pixel_value"]): (float if defect["relative_saturation"] else int)(defect["saturation_threshold"])
        for defect in json.loads(path.read_text(encoding="utf-8"))
    }


def load_btad(root):
    """Load a product in the layout of BTAD (beanTech).

    Parameters
    ----------
    root : str or path-like
        Folder of the product, such as `01`, with images in `train/ok`, `test/ok` and `test/ko` and masks in
        `ground_truth/ko`, called like their image.

    Returns
    -------
    Bunch
        Dictionary-like object with the attributes of `load_mvtec`.

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
    load_mvtec : Load a category in the layout of MVTec AD.

    References
    ----------
    Mishra et al., "VT-ADL: A Vision Transformer Network for Image Anomaly Detection and Localization", ISIE 2021.
    """
    return load_mvtec(root, normal="ok")


def load_visa(root, *, split="1cls"):
    """Load an object in the layout of VisA, in the split of a table beside it.

    Parameters
    ----------
    root : str or path-like
        Folder of the object, such as `candle`, with images in `Data/Images` and masks in `Data/Masks`. The folder
        `split_csv` is beside it.
    split : str, default="1cls"
        Name of a table in `split_csv`, with the columns object, split, label, image and mask. "1cls" has normal images
        only in the training part.

    Returns
    -------
    Bunch
        Dictionary-like object with the attributes of `load_mvtec`, in the order of the table; anomalies of the training
        part are left out, and kinds are "normal" and "anomaly".

    Raises
    ------
    FileNotFoundError
        If the table is missing, or images that it lists.
    ValueError
        If the table has other columns, or does not list normal training images of the object.

    Warns
    -----
    DataWarning
        If masks of anomalous images are missing.

    See Also
    --------
    load_mvtec : Load a category in the layout of MVTec AD.

    References
    ----------
    Zou et al., "SPot-the-Difference Self-Supervised Pre-training for Anomaly Detection and Segmentation", ECCV 2022.
    """
    root = Path(root)
    table = root.parent / "split_csv" / f"{split}.csv"
    rows = [row for row in _visa_rows(table) if row["object"] == root.name]
    train = [row for row in rows if row["split"] == "train" and row["label"] == "normal"]
    test = [row for row in rows if row["split"] == "test"]
    if not train:
        raise ValueError(f"{table} lists no normal training images of {root.name!r}, the name of the folder.")
    images = [root.parent / row["image"] for row in (*train, *test)]
    missing = [str(path) for path in images if not path.is_file()]
    if missing:
        raise FileNotFoundError(f"{len(missing)} images of {table} are missing, for example {missing[0]}.")
    masks = [_visa_mask(root.parent, row) for row in test]
    warn_of_missing(masks, root / "Data" / "Masks")
    return Bunch(
        X_train=np.array([str(path) for path in images[: len(train)]]),
        X_test=np.array([str(path) for path in images[len(train) :]]),
        y_test=np.array([mask.label for mask in masks], int),
        kinds_test=np.array([row["label"] for row in test]),
        masks_test=masks,
    )


def load_category(root):
    """Load a category in any of the known layouts: those of MVTec AD, MVTec LOCO AD, BTAD and VisA.

    Parameters
    ----------
    root : str or path-like
        Folder of the category.

    Returns
    -------
    Bunch
        Dictionary-like object with the attributes of `load_mvtec`.

    Raises
    ------
    FileNotFoundError
        If the folder is in none of the layouts.

    See Also
    --------
    find_categories : Find the categories in folders.
    load_mvtec : Load a category in the layout of MVTec AD.
    """
    root = Path(root)
    for mark, load in _MARKS.items():
        if (root / mark).exists():
            return load(root)
    return load_mvtec(root)


_MARKS = {"Data/Images": load_visa, "defects_config.json": load_mvtec_loco, "train/ok": load_btad}


def find_categories(folders):
    """Find the categories of data sets in folders, each of which is a category or a folder of categories.

    Parameters
    ----------
    folders : sequence of path-like
        Folders.

    Returns
    -------
    dict of path-like
        Folder of each category, by its name; with the names of the folders around it where names would be equal.

    See Also
    --------
    load_category : Load a category in any of the known layouts.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from skanomaly.datasets import find_categories
    >>> with tempfile.TemporaryDirectory() as root:
    ...     for category in ("bottle", "cable"):
    ...         (Path(root) / category / "train").mkdir(parents=True)
    ...     sorted(find_categories([root]))
    ['bottle', 'cable']
    """
    found = [category for folder in folders for category in _categories(folder)]
    found = list({Path(folder).resolve(): folder for folder in found}.values())
    depths = [1] * len(found)  # number of folders in the name of each, as few as tell it from the others
    for _ in range(max((len(Path(folder).resolve().parts) for folder in found), default=0)):
        names = ["/".join(Path(folder).resolve().parts[-n:]) for folder, n in zip(found, depths, strict=True)]
        depths = [n + (names.count(name) > 1) for n, name in zip(depths, names, strict=True)]
    return dict(zip(names, found, strict=True)) if found else {}


def _categories(folder):
    """Return the categories in a folder, or the folder itself."""
    if _is_category(Path(folder)) or not Path(folder).is_dir():
        return [folder]
    return [path for path in sorted(Path(folder).iterdir()) if _is_category(path)] or [folder]


def _is_category(folder):
    return (folder / "train").is_dir() or (folder / "Data" / "Images").is_dir()


def _visa_rows(table):
    if not table.is_file():
        raise FileNotFoundError(f"{table} is missing; it must list the split of the images (see load_visa).")
    with open(table, newline="", encoding="utf-8-sig") as file:
        rows = list(csv.DictReader(file))
    wanted = {"object", "split", "label", "image", "mask"}
    if not rows or not wanted <= set(rows[0]):
        found = ", ".join(rows[0]) if rows else "no rows"
        raise ValueError(f"{table} has {found}; it must have the columns object, split, label, image and mask.")
    return rows


def _visa_mask(folder, row):
    label = 1 if row["label"] == "normal" else -1
    path = folder / row["mask"] if row["mask"] and label < 0 else None
    return Mask(label, folder / row["image"], path if path is not None and path.is_file() else None)
