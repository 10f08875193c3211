"""Kills (SIGKILL) at random moments while models are saved, images scored and features cached: nothing is lost."""

import csv
import math
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import numpy as np
from PIL import Image

from skanomaly import PatchCore, PatchFeatures, PretrainedPatchFeatures, load, save
from skanomaly.evaluation import score_files

_N_KILLS = 40
_SAVE = """
import sys
from skanomaly import load, save
detector = load(sys.argv[1])
print("ready", flush=True)
while True:
    save(detector, sys.argv[2])
"""
_SCORE = """
import sys
from pathlib import Path
from skanomaly.evaluation import score_files
print("ready", flush=True)
score_files(sys.argv[1], sorted(Path(sys.argv[2]).glob("*.png")), sys.argv[3])
"""
_CACHE = """
import sys
from pathlib import Path
from skanomaly import PretrainedPatchFeatures
features = PretrainedPatchFeatures(layers=(1,), image_size=32, weights="random", random_state=0, batch_size=1)
paths = sorted(Path(sys.argv[1]).glob("*.png"))
features.set_params(memory=sys.argv[2]).fit(paths[:1])
print("ready", flush=True)
features.transform(paths)
"""


def run(share):
    """Return the outcomes of kills during each of the three."""
    rng, outcomes = np.random.default_rng(0), Counter()
    n = max(1, math.ceil(_N_KILLS * share / 3))
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        for i, image in enumerate(rng.integers(0, 256, (200, 40, 40), np.uint8)):
            Image.fromarray(image).save(folder / f"{i:03d}.png")
        paths = sorted(folder.glob("*.png"))
        detector = PatchCore(PatchFeatures(4, image_size=32), random_state=0).fit(paths[:40])
        save(detector, folder / "model.skops")
        expected = detector.score_samples(paths)
        for i in range(n):
            outcomes[_killed_save(folder, rng, paths[:3], expected[:3])] += 1
            outcomes[_killed_score(folder, rng, paths, expected, folder / f"out{i}")] += 1
            outcomes[_killed_cache(folder, rng, paths, folder / f"cache{i}")] += 1
    return outcomes


def _kill(code, *arguments, after):
    """Start a process, and kill it a while after it is ready."""
    process = subprocess.Popen([sys.executable, "-c", code, *map(str, arguments)], stdout=subprocess.PIPE)
    process.stdout.readline()
    time.sleep(after)
    process.send_signal(signal.SIGKILL)
    process.wait()


def _killed_save(folder, rng, paths, expected):
    _kill(_SAVE, folder / "model.skops", folder / "saved.skops", after=rng.uniform(0, 0.3))
    if not (folder / "saved.skops").exists():
        return "not yet saved"
    try:
        again = load(folder / "saved.skops").score_samples(paths)
    except Exception:
        return "lost"
    return "saved" if np.array_equal(again, expected) else "silent wrong result"


def _killed_score(folder, rng, paths, expected, out):
    _kill(_SCORE, folder / "model.skops", folder, out, after=rng.uniform(0, 1))
    table = out / "scores.csv"
    before = table.read_bytes() if table.exists() else b""
    finished = before[: before.rfind(b"\n") + 1]
    score_files(folder / "model.skops", paths, out)
    if not table.read_bytes().startswith(finished):
        return "lost"
    with open(table, newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    right = [row["path"] for row in rows] == list(map(str, paths))
    right = right and [float(row["score"]) for row in rows] == expected.tolist()
    return "resumed" if right else "silent wrong result"


def _killed_cache(folder, rng, paths, cache):
    _kill(_CACHE, folder, cache, after=rng.uniform(0, 1))
    features = PretrainedPatchFeatures(layers=(1,), image_size=32, weights="random", random_state=0, batch_size=1)
    plain = features.fit(paths[:1]).transform(paths[:20])
    cached = features.set_params(memory=cache).fit(paths[:1]).transform(paths[:20])
    return "cached" if np.array_equal(plain, cached) else "silent wrong result"
