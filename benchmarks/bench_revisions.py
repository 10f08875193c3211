"""Seconds of fit and score of every detector in two checkouts, which take turns on one machine.

``git worktree add ../before REVISION`` makes the other checkout. Both need `tests/frozen_answers.py`, the detectors of
which are timed on 40 images or 4,000 rows. Medians over the rounds; a ratio above 1 means that the second checkout is
slower.
"""

import argparse
import os
import subprocess
import sys
from pathlib import Path

import numpy as np

WORKER = """
import sys, time, warnings
import numpy as np
warnings.simplefilter("ignore")
sys.path.insert(0, "tests")
import frozen_answers
from skanomaly.datasets import make_surfaces
images = make_surfaces("cloth", n_train=40, n_good=8, n_anomalous=8, size=64, random_state=0)
images = images.X_train, images.X_test
rows = np.random.default_rng(0).normal(size=(6000, 6)) @ np.random.default_rng(1).normal(size=(6, 6))
rows = rows[:4000], rows[4000:]
makers = frozen_answers.IMAGE_DETECTORS | frozen_answers.ROW_DETECTORS
for name in map(str.strip, sys.stdin):
    train, test = images if name in frozen_answers.IMAGE_DETECTORS else rows
    detector = makers[name]()
    start = time.perf_counter()
    detector.fit(train)
    fitted = time.perf_counter()
    detector.score_samples(test)
    print(fitted - start, time.perf_counter() - fitted, flush=True)
"""


class Checkout:
    """A process that times detectors of one checkout when it is told their names."""

    def __init__(self, folder):
        environment = {**os.environ, "PYTHONPATH": str(folder), "OMP_NUM_THREADS": "1"}
        self.process = subprocess.Popen(
            [sys.executable, "-c", WORKER], cwd=folder, env=environment, text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        )  # fmt: skip

    def time(self, name):
        """Return the seconds of fit and of score."""
        self.process.stdin.write(name + "\n")
        self.process.stdin.flush()
        return [float(value) for value in self.process.stdout.readline().split()]


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("checkouts", type=Path, nargs=2, metavar="CHECKOUT")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--names", nargs="*", help="beginnings of the names of detectors; default: all")
    options = parser.parse_args()
    sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
    import frozen_answers

    names = [*frozen_answers.IMAGE_DETECTORS, *frozen_answers.ROW_DETECTORS]
    names = [name for name in names if not options.names or name.startswith(tuple(options.names))]
    checkouts = [Checkout(folder.resolve()) for folder in options.checkouts]
    print(f"{'':<34}{'fit: first, second, ratio':^28}{'score: first, second, ratio':^28}")
    for name in names:
        rounds = [[checkout.time(name) for checkout in checkouts] for _ in range(options.rounds + 1)][1:]
        (fit_1, score_1), (fit_2, score_2) = np.median(rounds, axis=0)
        cells = (f"{a:8.3f} {b:8.3f} {b / a:6.2f}" for a, b in ((fit_1, fit_2), (score_1, score_2)))
        print(f"{name:<34}{'     '.join(cells)}", flush=True)


if __name__ == "__main__":
    main()
