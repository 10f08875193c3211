"""Pictures that are cut off, lie about their size, or are none at all: scored as they are shown, or refused."""

import os
import tempfile
from collections import Counter
from pathlib import Path

import numpy as np
from PIL import Image

from skanomaly import PatchCore, PatchFeatures
from skanomaly.exceptions import ImageReadError

_FORMATS = ("png", "jpg", "tif", "webp", "bmp", "gif", "ppm", "jp2")
_CUTS = (0, 1, 7, 30, 100, 0.3, 0.7, -1)  # bytes or share that is kept


def run(share):
    """Return the outcomes of scoring each picture by itself, and all of them in one call."""
    rng, outcomes = np.random.default_rng(0), Counter()
    detector = PatchCore(PatchFeatures(4, image_size=16), random_state=0, false_alarm_rate=0.2)
    detector.fit(rng.integers(0, 256, (10, 40, 40, 3), np.uint8))
    with tempfile.TemporaryDirectory() as folder:
        pictures = list(_pictures(Path(folder), rng))
        pictures = pictures[:: max(1, round(1 / share))]
        for path, shown in pictures:
            outcomes[_outcome(detector, path, shown)] += 1
        together = detector.score_samples([path for path, _ in pictures], on_error="nan")
        alone = [detector.score_samples([path], on_error="nan")[0] for path, _ in pictures]
        outcomes["as alone" if np.array_equal(together, alone, equal_nan=True) else "silent wrong result"] += 1
    return outcomes


def _outcome(detector, path, shown):
    try:
        score = detector.score_samples([path])
    except ImageReadError as error:
        return "refused by name" if path.name in str(error) else "raw error"
    except Exception:
        return "raw error"
    if shown is None or np.array_equal(score, detector.score_samples([shown])):
        return "scored"
    return "silent wrong result"


def _pictures(folder, rng):
    """Yield paths, and the pixels that they hold if they hold any."""
    pixels = rng.integers(0, 256, (40, 40, 3), np.uint8)
    for suffix in _FORMATS:
        whole = folder / f"whole.{suffix}"
        Image.fromarray(pixels).save(whole)
        data, shown = whole.read_bytes(), np.asarray(Image.open(whole).convert("RGB"))
        for i, cut in enumerate(_CUTS):
            path = folder / f"cut{i}.{suffix}"
            path.write_bytes(data[: int(cut * len(data)) if isinstance(cut, float) else cut])
            yield path, shown
    yield from _others(folder, rng, (folder / "whole.png").read_bytes())


def _others(folder, rng, png):
    huge = bytearray(png)
    huge[16:24] = (2**30).to_bytes(4, "big") * 2
    for name, data in {
        "huge.png": bytes(huge),
        "zeros.png": bytes(1000),
        "random.jpg": rng.bytes(1000),
        "text.tif": b"no picture " * 50,
        "html.webp": b"<html><body>404</body></html>",
        "other suffix.jpg": png,
    }.items():
        (folder / name).write_bytes(data)
        yield folder / name, None
    (folder / "folder.png").mkdir()
    os.mkfifo(folder / "fifo.png")
    (folder / "dead.png").symlink_to(folder / "nowhere.png")
    yield from ((folder / name, None) for name in ("folder.png", "fifo.png", "dead.png", "missing.png"))
