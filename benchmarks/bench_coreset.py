"""The pruned greedy coreset compared with the plain loop, on the features of 80 images of screws.

The plain loop computes the distance of every point to every new centre, with torch on all threads, as public
implementations do. With `--plain-centers`, only the first centres are timed and the rest is extrapolated; the complete
selection is still compared with that of a plain loop in numba.
"""

import time

import numpy as np
import torch
from _common import parser, print_machine

from skanomaly import PretrainedPatchFeatures
from skanomaly._kernels.coreset import greedy_k_center, greedy_k_center_plain
from skanomaly.datasets import load_mvtec


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


def main():
    options = parser(__doc__)
    options.add_argument("--ratio", type=float, default=0.1)
    options.add_argument("--images", type=int, default=80)
    options.add_argument("--plain-centers", type=int, help="number of centres for which the torch loop is timed")
    options = options.parse_args()
    print_machine()
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


if __name__ == "__main__":
    main()
