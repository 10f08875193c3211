"""Exact nearest neighbours compared with scikit-learn, faiss and a torch distance matrix, on real features.

The bank is a coreset of the patches of screw images or, with `--random`, a random sample of the same size. The queries
are the patches of ten test images. Times are medians over several rounds in which the methods take turns.
"""

import time

import numpy as np
import torch
from _common import parser, print_machine
from sklearn.neighbors import NearestNeighbors

from skanomaly import PretrainedPatchFeatures
from skanomaly._kernels.coreset import greedy_k_center
from skanomaly._kernels.neighbors import k_nearest
from skanomaly._kernels.pruned_neighbors import build_index, search_index
from skanomaly.datasets import load_mvtec


def contenders(bank, queries):
    """Return a dict of search functions whose indices are built already."""
    index = build_index(bank)
    brute = NearestNeighbors(n_neighbors=1, algorithm="brute").fit(bank)
    torch_bank, torch_queries = torch.from_numpy(bank), torch.from_numpy(queries)
    found = {
        "pruned (ours)": lambda: search_index(index, queries, 1),
        "brute (ours)": lambda: k_nearest(bank, queries, 1),
        "sklearn brute": lambda: brute.kneighbors(queries),
        "torch cdist": lambda: [torch.cdist(part, torch_bank).min(dim=1) for part in torch_queries.split(784)],
    }
    try:
        import faiss
    except ImportError:
        return found
    faiss.omp_set_num_threads(torch.get_num_threads())
    flat = faiss.IndexFlatL2(bank.shape[1])
    flat.add(bank)
    return {**found, "faiss flat": lambda: flat.search(queries, 1)}


def main():
    options = parser(__doc__)
    options.add_argument("--banks", type=int, nargs="+", default=[6272, 16000, 60000])
    options.add_argument("--dims", type=int, nargs="+", default=[152, 1024])
    options.add_argument("--rounds", type=int, default=5)
    options.add_argument("--random", action="store_true", help="sample the bank: a large coreset takes minutes")
    options = options.parse_args()
    print_machine()
    data = load_mvtec(options.data / "mvtec_screw")
    for dim in options.dims:
        features = PretrainedPatchFeatures(dim=None if dim == 152 else dim)
        n_images = 320 if dim == 152 else 160
        patches = features.fit_transform(data.X_train[:n_images]).reshape(-1, dim)
        queries = np.ascontiguousarray(features.transform(data.X_test[:10]).reshape(-1, dim))
        if options.random:
            order = np.random.default_rng(0).permutation(len(patches))
        else:
            order, _, _ = greedy_k_center(patches, max(options.banks), 5)
        for m in options.banks:
            bank = np.ascontiguousarray(patches[order[:m]])
            start = time.perf_counter()
            build_index(bank)
            built = time.perf_counter() - start
            ways = contenders(bank, queries)
            seconds = {name: [] for name in ways}
            for _ in range(options.rounds + 1):
                for name, search in ways.items():
                    start = time.perf_counter()
                    search()
                    seconds[name].append(time.perf_counter() - start)
            medians = {name: np.median(values[1:]) for name, values in seconds.items()}
            ours = search_index(build_index(bank), queries, 1)[0]
            error = np.abs(ours - k_nearest(bank, queries, 1)[0]).max()
            print(f"d = {dim}, bank {m}, {len(queries)} queries; index in {built:.2f} s; largest error {error:.1e}")
            for name, median in medians.items():
                print(f"  {name:<14} {median:7.3f} s   {median / medians['pruned (ours)']:5.1f} x", flush=True)


if __name__ == "__main__":
    main()
