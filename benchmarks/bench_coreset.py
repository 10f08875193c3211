"""The pruned greedy coreset compared with the plain loop, on the features of 80 images of screws.

The plain loop computes the distance of every point to every new centre, with torch on all threads, as public
implementations do. With `--plain-centers`, only the first centres are timed and the rest is extrapolated; the complete
selection is still compared with that of a plain loop in numba.

`--scaling` prints the time against the number of patches instead, and `--plot` draws it. The patches are those of layer
2 at 320 px, 40 features each, of random images of magnetic tiles (of generated cloth, if the data are not there), whose
texture is noise-like: hardly any distance follows from others.
"""

import time
from pathlib import Path

import matplotlib.pyplot as plt
import numba
import numpy as np
import torch
from _common import parser, print_machine
from matplotlib.ticker import NullFormatter

from skanomaly import PretrainedPatchFeatures
from skanomaly._kernels.coreset import greedy_k_center, greedy_k_center_plain
from skanomaly.datasets import load_mvtec, make_surfaces

SIZES = [20_000, 50_000, 100_000, 200_000, 500_000, 1_000_000]


def torch_loop(rows, n_centers, start):
    """Select centres by computing the distance of every point to every new centre."""
    rows = torch.from_numpy(rows)
    nearest = torch.full((len(rows),), torch.inf)
    centers = [start]
    for _ in range(n_centers - 1):
        nearest = torch.minimum(nearest, torch.linalg.norm(rows - rows[centers[-1]], dim=1))
        centers.append(int(nearest.argmax()))
    return np.array(centers)


def timed(function, *arguments):
    start = time.perf_counter()
    result = function(*arguments)
    return result, time.perf_counter() - start


def compare(options):
    """Print how long each of the loops takes for the same selection."""
    paths = load_mvtec(options.data / "mvtec_screw").X_train[: options.images]
    rows = PretrainedPatchFeatures().fit_transform(paths).reshape(-1, 152)
    n_centers, start = round(options.ratio * len(rows)), 5
    for kernel in (greedy_k_center, greedy_k_center_plain):
        kernel(rows[:1000], 20, start)  # compile
    (pruned, _, radius), seconds = timed(greedy_k_center, rows, n_centers, start)
    (plain, plain_radius), numba_seconds = timed(greedy_k_center_plain, rows, n_centers, start)
    n_timed = options.plain_centers or n_centers
    by_torch, torch_seconds = timed(torch_loop, rows, n_timed, start)
    torch_seconds *= n_centers / n_timed
    print(f"{len(rows)} x {rows.shape[1]}, {n_centers} centres, radius {radius:.4f} (plain {plain_radius:.4f})")
    print(f"pruned               {seconds:8.2f} s   1 thread")
    print(f"plain loop, numba    {numba_seconds:8.2f} s   1 thread   {numba_seconds / seconds:6.1f} x")
    extrapolated = f"   (from {n_timed} centres)" if n_timed < n_centers else ""
    threads, ratio = torch.get_num_threads(), torch_seconds / seconds
    print(f"plain loop, torch    {torch_seconds:8.2f} s   {threads} threads  {ratio:6.1f} x{extrapolated}")
    print(f"same selection as numba loop: {(pruned == plain).sum()} of {n_centers}")
    print(f"same set as torch loop: {len(np.intersect1d(pruned[:n_timed], by_torch))} of {n_timed}")


def textured_patches(data, n_patches):
    """Return patches (n_patches, 40) of images with a noise-like texture."""
    n_images = -(-n_patches // 1600)
    try:
        tiles = load_mvtec(data / "magnetic_tile")
        images = np.random.default_rng(0).permutation([*tiles.X_train, *tiles.X_test])[:n_images].tolist()
    except FileNotFoundError:
        images = make_surfaces(n_train=n_images, n_good=1, n_anomalous=1, random_state=0).X_train
    return PretrainedPatchFeatures(layers=(2,), image_size=320).fit_transform(images).reshape(-1, 40)[:n_patches]


def scale(options):
    """Print the time of the selection against the number of patches, and draw it."""
    patches = textured_patches(options.data, max(options.points))
    for kernel in (greedy_k_center, greedy_k_center_plain):
        kernel(patches[:1000], 20, 5)  # compile
    print(f"{numba.get_num_threads()} threads; the plain loop is extrapolated from 50 centres")
    print("  patches    10,000 centres   plain loop        10 %   plain loop")
    table = []
    for n in options.points:
        rows = np.ascontiguousarray(patches[:n])
        plain = timed(greedy_k_center_plain, rows, 50, 5)[1] / 50
        row = [n]
        for n_centers in (10_000, n // 10):
            row += [timed(greedy_k_center, rows, n_centers, 5)[1], plain * n_centers]
        table.append(row)
        print("{:9,}{:16.2f} s{:11.1f} s{:10.2f} s{:11.1f} s".format(*row), flush=True)
    if options.plot:
        draw(np.array(table), options.plot)


def draw(table, path):
    figure, axes = plt.subplots(figsize=(6, 4), layout="constrained")
    labels = ["10,000 centres", "10,000 centres, plain loop", "10 %", "10 %, plain loop"]
    for seconds, label, style in zip(table.T[1:], labels, ["C0o-", "C0--", "C1o-", "C1--"], strict=True):
        axes.loglog(table[:, 0], seconds, style, label=label)
    axes.set(xlabel="patches", ylabel="seconds", title="Greedy k-centre selection, 40 features, noise-like texture")
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(path, dpi=120)


def main():
    options = parser(__doc__)
    options.add_argument("--ratio", type=float, default=0.1)
    options.add_argument("--images", type=int, default=80)
    options.add_argument("--plain-centers", type=int, help="number of centres for which the torch loop is timed")
    options.add_argument("--scaling", action="store_true", help="time against the number of patches")
    options.add_argument("--points", type=int, nargs="+", default=SIZES, help="numbers of patches for --scaling")
    options.add_argument("--plot", type=Path, help="picture that --scaling draws")
    options = options.parse_args()
    print_machine()
    (scale if options.scaling else compare)(options)


if __name__ == "__main__":
    main()
