"""Inpainting of files: the masked parts of images are replaced by what is normal."""

from pathlib import Path

import numpy as np
from tqdm import tqdm

from .._inputs.images import check_images
from ..maps import images_as_seen
from ..persistence import load
from ._table import name_of


def inpaint_files(model, paths, masks, out, *, trusted=(), verbose=False):
    """Inpaint image files with a saved detector and write the results as `out`/<name>_<hash of the path>.png.

    Parameters
    ----------
    model : path-like
        Path of a model file written by `skanomaly.save`, of a `GradientProjection`.
    paths : sequence of path-like
        Paths of the images.
    masks : sequence of path-like
        Paths of the masks, one for each image, in any order: the mask of photo.png is called photo or photo_mask, with
        any suffix. Pixels above 0 are replaced; all others remain unchanged.
    out : path-like
        Path of the output folder, which is created if needed.
    trusted : sequence of str, default=()
        Full names of further types that the model file may hold; see `skanomaly.load`.
    verbose : bool, default=False
        If True, a progress bar is shown.

    Returns
    -------
    list of pathlib.Path
        Paths of the inpainted images.

    Raises
    ------
    ValueError
        If the model does not inpaint, an image has no mask, or several masks have the same name.
    ImageReadError
        If any of the files cannot be read as images.

    See Also
    --------
    skanomaly.GradientProjection.inpaint : Replace the masked part of samples.
    """
    from PIL import Image

    detector = load(model, trusted=trusted)
    if not hasattr(detector, "inpaint"):
        raise ValueError(
            f"The model is of type {type(detector).__name__}, which has no inpaint; fit a GradientProjection."
        )
    images, holes = images_as_seen(detector, paths), check_images(_masks_of(paths, masks))
    out, written = Path(out), []
    out.mkdir(parents=True, exist_ok=True)
    for i, path in enumerate(tqdm(paths, unit="image", disable=not verbose)):
        filled = detector.inpaint(images[i : i + 1], [holes.read(i).max(axis=2) > 0])[0]
        written.append(out / f"{name_of(Path(path))}.png")
        Image.fromarray(np.rint(255 * filled).astype(np.uint8)).save(written[-1])
    return written


def _masks_of(paths, masks):
    """Return the path of the mask of each image."""
    by_name = {Path(mask).stem.removesuffix("_mask"): mask for mask in masks}
    if len(by_name) < len(masks):
        twice = next(mask for mask in masks if mask not in by_name.values())
        raise ValueError(
            f"masks: several are called like {twice} apart from folder, suffix or _mask; names of masks must differ."
        )
    missing = [str(path) for path in paths if Path(path).stem not in by_name]
    if missing:
        raise ValueError(
            f"masks: {len(missing)} of {len(paths)} images have no mask, e.g. {missing[0]}; the mask of photo.png must "
            "be called photo or photo_mask, with any suffix."
        )
    return [by_name[Path(path).stem] for path in paths]
