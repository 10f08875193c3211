"""Small pictures of images and their anomaly maps, for the report."""

import base64
import io
import json

import numpy as np
from PIL import Image

from .._kernels.evidence import evidence, pooled_max
from ..maps import pixels_as_seen, scale_of_maps
from ._overlays import OfImages
from ._table import write_atomically

_MAP_SIDE, _LARGE_MAP_SIDE = 96, 224
_LARGE_FROM = 30_000  # bytes of the picture of an image, from which that of its map may be large too
_LEVELS = 4  # of the 256 values of a map, so many are made equal, which halves its size
_TRIALS = ((512, 82), (512, 65), (384, 65), (320, 60), (256, 60), (256, 40), (192, 45), (160, 40), (128, 35), (96, 30))
_LEAST = 0.1  # bytes per pixel that even smooth pictures take, so that larger sides need not be tried
_ALL_BYTES = 34e6  # of the pictures of all images, so that the page stays below 60 MB
_FEWEST_BYTES, _MOST_BYTES = 1_500, 48_000
_N_REGIONS = 30  # largest number of regions that are listed


def bytes_per_image(n_images):
    """Return the largest size of the picture of an image, such that the page stays small.

    Parameters
    ----------
    n_images : int
        Number of images on the page.

    Returns
    -------
    float
        Number of bytes.
    """
    return min(max(_ALL_BYTES / max(n_images, 1), _FEWEST_BYTES), _MOST_BYTES)


class Thumbnails(OfImages):
    """Folder of files in JSON, one for each image, from which a report is made.

    Parameters
    ----------
    out : Path
        Path of the folder around it, in which it is created.
    detector : detector
        Detector that judges the images.
    n_images : int
        Number of images in the report.
    """

    place, suffix = "thumbnails", ".json"

    def __init__(self, out, detector, n_images):
        super().__init__(out, detector)
        self.n_bytes, self.scale = bytes_per_image(n_images), scale_of_maps(detector)

    def write(self, path, verdict):
        """Write the file of an image.

        Parameters
        ----------
        path : Path
            Path of the image.
        verdict : Verdict
            Verdict on the image.
        """
        pictures = thumbnail(pixels_as_seen(self.detector, [path])[0], verdict, self.scale, self.n_bytes)
        write_atomically(self.path_in(self.out, path), json.dumps(pictures))

    def read(self, path):
        """Read the file of an image.

        Parameters
        ----------
        path : Path
            Path of the image.

        Returns
        -------
        dict
            What `thumbnail` returned for the image; empty if there is no file.
        """
        file = self.path_in(self.out, path)
        return json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}


def thumbnail(pixels, verdict, scale, n_bytes):
    """Make small pictures of an image and its map.

    Parameters
    ----------
    pixels : ndarray of shape (H, W, C)
        Image, float in [0, 1].
    verdict : Verdict
        Verdict on the image.
    scale : dict
        Scale of all maps, as returned by `scale_of_maps`; without a level, the highest value of each map is just below
        the threshold.
    n_bytes : float
        Largest size of the picture of the image, if it can be kept.

    Returns
    -------
    dict
        The size (H, W) of the image, its picture ("image") and that of its map ("map", None without a map) in base64,
        and its regions: box, centre and area as numbers, peak and p-value as text.
    """
    regions = [
        [*box, *(round(value, 1) for value in center), area, f"{peak:.4g}", f"{p_value:.3g}"]
        for box, center, area, peak, _, p_value in (verdict.regions or [])[:_N_REGIONS]
    ]
    side = _MAP_SIDE if n_bytes < _LARGE_FROM else _LARGE_MAP_SIDE
    picture = None if verdict.anomaly_map is None else _map_picture(verdict.anomaly_map, scale, side)
    return {"size": pixels.shape[:2], "image": _image_picture(pixels, n_bytes), "map": picture, "regions": regions}


def _image_picture(pixels, n_bytes):
    values = np.rint(255 * pixels).astype(np.uint8)
    original = Image.fromarray(values[..., 0] if values.shape[2] == 1 else values)
    trials = [trial for trial in _TRIALS if _LEAST * trial[0] ** 2 <= n_bytes] or _TRIALS[-1:]
    for side, quality in trials:
        small = original.copy()
        small.thumbnail((side, side), Image.Resampling.LANCZOS, reducing_gap=3)
        data = _encoded(small, "JPEG", quality=quality)
        if len(data) <= n_bytes:
            break
    return base64.b64encode(data).decode()


def _map_picture(score_map, scale, side):
    small = pooled_max(score_map, side)
    level, span, highest = scale["level"], scale["span"], 255
    if level is None:
        seen = small[np.isfinite(small)]
        level, span, highest = seen.max(initial=0), (np.ptp(seen) if seen.size else 0) or 1.0, 127
    shares = (
        np.clip(256 * evidence(small, level, span), 0, highest).astype(np.uint8) // _LEVELS * _LEVELS + _LEVELS // 2
    )
    return base64.b64encode(_encoded(Image.fromarray(shares), "PNG", optimize=True)).decode()


def _encoded(picture, kind, **options):
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return buffer.getvalue()
