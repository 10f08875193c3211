"""The Gaussians of PaDiM compared with a loop over positions: 56 x 56 Gaussians, then distances.

The loop calls np.cov and np.linalg.inv in float64 for every position, as public implementations do. Both start from
the same array of float32 features. Each dimension runs in its own process; its peak memory, which includes the
features, is measured before the loop runs. With `--loop-positions`, the time of the loop is extrapolated.
"""

import argparse
import resource
import subprocess
import sys
import time

import numpy as np
from _common import print_machine

from skanomaly._kernels.gaussian import add_samples, empty_moments, factorize, mahalanobis

_SIDE = 56
_RIDGE = 0.01


def make_features(n_images, n_positions, d):
    """Return correlated features (n, P, d), float32, generated image by image."""
    rng = np.random.default_rng(0)
    features = np.empty((n_images, n_positions, d), np.float32)
    for image in features:
        rng.standard_normal(out=image, dtype=np.float32)
        image[:, 1:] += image[:, :-1].copy()
        image += 3
    return features


def loop(X, n_positions):
    """Return the means and inverse covariances at the first positions."""
    means, inverses = [], []
    for p in range(n_positions):
        rows = X[:, p].astype(np.float64)
        means.append(rows.mean(axis=0))
        inverses.append(np.linalg.inv(np.cov(rows, rowvar=False) + _RIDGE * np.eye(X.shape[2])))
    return means, inverses


def fit(X, dtype):
    moments = add_samples(empty_moments(*X.shape[1:], dtype), X)
    return moments, factorize(moments.scatter, 1 / (len(X) - 1), _RIDGE)[0]


def best_of(repeats, function, *arguments):
    """Return the result and the shortest time in seconds."""
    seconds = []
    for _ in range(repeats):
        result = None  # frees the previous result
        start = time.perf_counter()
        result = function(*arguments)
        seconds.append(time.perf_counter() - start)
    return result, min(seconds)


def worst_error(X, moments, factor, means, inverses):
    """Return the largest relative difference between distances and those of the loop."""
    found = mahalanobis(X, moments.mean, factor)
    errors = []
    for p, (mean, inverse) in enumerate(zip(means, inverses, strict=True)):
        steps = X[:, p] - mean
        errors.append(np.abs(found[:, p] / np.sqrt(np.einsum("ni,ij,nj->n", steps, inverse, steps)) - 1).max())
    return max(errors)


def compare(d, options):
    n_positions = _SIDE**2
    fit(make_features(3, 5, d), np.dtype(options.dtype))  # compile
    X = make_features(options.images, n_positions, d)
    (moments, factor), seconds = best_of(options.repeats, fit, X, np.dtype(options.dtype))
    scoring = {n: best_of(3, mahalanobis, X[:n], moments.mean, factor)[1] / n for n in (1, 8, 32)}
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024  # before the loop, which needs more
    n_looped = min(options.loop_positions or n_positions, n_positions)
    (means, inverses), loop_seconds = best_of(options.repeats, loop, X, n_looped)
    loop_seconds *= n_positions / n_looped
    extrapolated = f" (from {n_looped} positions)" if n_looped < n_positions else ""
    print(f"{options.images} images, {n_positions} positions, d = {d}, stored as {moments.scatter.dtype}")
    print(f"  fit  {seconds:8.3f} s   loop {loop_seconds:8.3f} s{extrapolated}   {loop_seconds / seconds:.1f} x")
    stored, held = moments.scatter.nbytes + moments.mean.nbytes, factor.nbytes
    print(f"  stored {stored / 1e9:.3f} GB = {stored / 2**30:.3f} GiB, factors (in memory only) {held / 1e9:.3f} GB")
    for n, per_image in scoring.items():
        print(f"  scoring {n:2} at a time: {1e3 * per_image:6.2f} ms per image")
    print(f"  largest relative error of a distance: {worst_error(X[:8], moments, factor, means, inverses):.1e}")
    print(f"  peak memory {peak / 1e9:.2f} GB, of which features {X.nbytes / 1e9:.2f} GB", flush=True)


def main():
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--dims", type=int, nargs="+", default=[100, 550])
    options.add_argument("--images", type=int, default=200)
    options.add_argument("--dtype", choices=["float32", "float64"], default="float32", help="dtype of the scatter")
    options.add_argument("--loop-positions", type=int, help="number of positions for which the loop is timed")
    options.add_argument("--repeats", type=int, default=3)
    options.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    options = options.parse_args()
    if options.child:
        compare(options.dims[0], options)
        return
    print_machine()
    for d in options.dims:
        subprocess.run([sys.executable, *sys.argv, "--child", "--dims", str(d)], check=True)


if __name__ == "__main__":
    main()
