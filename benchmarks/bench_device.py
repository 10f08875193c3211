"""Backbone, coreset and nearest neighbours on the CPU and on a GPU.

For the coreset and the neighbours, "cpu" are the numba kernels, and "torch, cpu" are the kernels of the GPU on torch's
CPU, which no parameter selects. The coreset selects a tenth of the patches; the numbers of centres that equal those of
numba, at the same place in the order and in any order, are printed. The neighbours are those of all patches of fresh
images in this coreset, copies to and from the device included; the difference is that of image scores, relative to the
largest score.

The patches are those of 320 px images of magnetic tiles; of generated cloth, if the data are not there.
"""

import time

import numpy as np
import torch
from _common import parser, print_machine

from skanomaly import PretrainedPatchFeatures
from skanomaly._kernels import coreset as numba_coreset
from skanomaly._kernels.pruned_neighbors import build_index, search_index
from skanomaly._torch import coreset, neighbors
from skanomaly.datasets import load_mvtec, make_surfaces

START = 5  # first centre


def timed(function, *arguments):
    """Return the result of a function and the seconds of its second, warm call."""
    function(*arguments)
    start = time.perf_counter()
    result = function(*arguments)
    return result, time.perf_counter() - start


def normal_images(data, n_images):
    try:
        tiles = load_mvtec(data / "magnetic_tile")
        return np.random.default_rng(0).permutation([*tiles.X_train, *tiles.X_test])[:n_images].tolist()
    except FileNotFoundError:
        return list(make_surfaces(n_train=n_images, n_good=1, n_anomalous=1, random_state=0).X_train)


def backbones(images, weights, kinds):
    """Print the time of the backbone; return the patches (images, cells, d) from the last device."""
    for kind in kinds:
        features = PretrainedPatchFeatures(
            image_size=320, weights=weights, device=kind, batch_size=16, random_state=0
        ).fit(images)
        features.transform(images[:16])
        start = time.perf_counter()
        grids = features.transform(images)
        milliseconds = 1000 * (time.perf_counter() - start) / len(images)
        print(f"backbone    {kind:<11}{milliseconds:9.2f} ms per image, decoding included", flush=True)
    return grids.reshape(len(images), -1, grids.shape[-1])


def coresets(rows, kinds):
    """Print the time of the selection; return the coreset."""
    n_centers = len(rows) // 10
    numba_coreset.greedy_k_center(rows[:1000], 20, START)  # compile
    start = time.perf_counter()
    expected = numba_coreset.greedy_k_center(rows, n_centers, START)[0]
    print(f"coreset     {'cpu':<11}{time.perf_counter() - start:9.2f} s, {len(rows)} patches, {n_centers} centres")
    for kind in kinds:
        device = torch.device(kind)
        coreset.greedy_k_center(rows[:1000], 20, START, device)
        start = time.perf_counter()
        centers = coreset.greedy_k_center(rows, n_centers, START, device)[0]
        seconds, same = time.perf_counter() - start, (centers == expected).sum()
        anywhere = len(np.intersect1d(centers, expected))
        print(f"coreset     {_name(kind):<11}{seconds:9.2f} s, identical {same} (in any order {anywhere})", flush=True)
    return rows[expected]


def searches(bank, fresh, kinds):
    """Print the time of the search and how much scores differ."""
    queries, index = np.ascontiguousarray(fresh.reshape(-1, fresh.shape[-1])), build_index(bank)
    (distances, _), seconds = timed(search_index, index, queries, 1)
    expected = distances.reshape(len(fresh), -1).max(axis=1)
    print(f"neighbours  {'cpu':<11}{1000 * seconds / len(fresh):9.2f} ms per image, bank {bank.shape}")
    for kind in kinds:
        placed = neighbors.place_bank(bank, torch.device(kind))
        (distances, _), seconds = timed(neighbors.k_nearest, placed, queries, 1)
        scores = distances.reshape(len(fresh), -1).max(axis=1)
        difference = np.abs(scores - expected).max() / expected.max()
        milliseconds = 1000 * seconds / len(fresh)
        print(f"neighbours  {_name(kind):<11}{milliseconds:9.2f} ms per image, difference {difference:.1e}", flush=True)


def _name(kind):
    return "torch, cpu" if kind == "cpu" else kind


def main():
    options = parser(__doc__)
    options.add_argument("--points", type=int, default=100_000, help="number of patches in the coreset's data")
    options.add_argument("--fresh", type=int, default=16, help="number of images that are scored")
    options.add_argument("--weights", help="'random' on a machine without pretrained weights")
    options = options.parse_args()
    print_machine()
    kinds = ["cpu", "cuda"] if torch.cuda.is_available() else ["cpu"]
    print(f"{torch.get_num_threads()} threads; {torch.cuda.get_device_name() if len(kinds) > 1 else 'no CUDA'}")
    images = normal_images(options.data, -(-options.points // 1600) + options.fresh)
    patches = backbones(images, options.weights, kinds)
    train, fresh = patches[: -options.fresh], patches[-options.fresh :]
    rows = np.ascontiguousarray(train.reshape(-1, train.shape[-1])[: options.points])
    searches(coresets(rows, kinds), fresh, kinds)


if __name__ == "__main__":
    main()
