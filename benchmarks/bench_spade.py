"""The patch search of SPADE compared with the head of PatchCore over a bank of equal size, on features of screws.

For every test image, SPADE searches the patches of its K = 50 nearest training images; the head of PatchCore
(`KNNScorer`) searches the patches of 50 fixed images, which are its bank at a ratio of 1. Both see the same patches, of
one stage or of all stages concatenated. "rebuilt" builds an index of every gallery from its rows. Times are medians
over rounds in which the methods take turns.
"""

import time

import numpy as np
from _common import parser, print_machine

from skanomaly import KNNScorer
from skanomaly._kernels.neighbors import k_nearest
from skanomaly._kernels.pruned_neighbors import build_index, search_index
from skanomaly.datasets import load_mvtec
from skanomaly.detectors import SPADE


def medians(ways, n_rounds):
    """Return {name: median seconds} of functions that are called in turn."""
    seconds = {name: [] for name in ways}
    for _ in range(n_rounds + 1):
        for name, way in ways.items():
            start = time.perf_counter()
            way()
            seconds[name].append(time.perf_counter() - start)
    return {name: np.median(values[1:]) for name, values in seconds.items()}


def rebuilt(bank, neighbors, queries):
    """Search galleries, building an index for every image."""
    for own, patches in zip(neighbors, queries, strict=True):
        gallery = bank[own].reshape(-1, bank.shape[-1])
        search_index(build_index(gallery), patches.reshape(-1, bank.shape[-1]), 1)


def main():
    options = parser(__doc__)
    options.add_argument("--train", type=int, default=100)
    options.add_argument("--test", type=int, default=8)
    options.add_argument("--rounds", type=int, default=3)
    options = options.parse_args()
    print_machine()
    data = load_mvtec(options.data / "mvtec_screw")
    test = data.X_test[:: len(data.X_test) // options.test][: options.test]
    for stages in ("averaged", "concatenated"):
        detector = SPADE(combine=stages, false_alarm_rate=None).fit(data.X_train[: options.train])
        Z = detector._embed(detector._check_samples(test, reset=False))
        neighbors = k_nearest(detector.image_bank_, Z.arrays[0], detector.n_neighbors_)[1]
        ours, heads, others = {}, {}, {}
        for stage, bank in enumerate(detector.patch_banks_):
            queries, galleries = Z.arrays[1 + stage], detector._galleries[stage]
            head = KNNScorer(false_alarm_rate=None).fit(bank[: detector.n_neighbors_])
            ways = {
                "ours": lambda d=detector, q=queries, g=galleries, n=neighbors: d._patch_distances(q, g, n),
                "head": lambda q=queries, h=head: h._score(q),
                "rebuilt": lambda q=queries, b=bank, n=neighbors: rebuilt(b, n, q),
            }
            found = medians(ways, options.rounds)
            ours[stage], heads[stage], others[stage] = (1e3 * found[way] / len(test) for way in ways)
            print(
                f"{stages}, {detector.n_neighbors_} x {'x'.join(map(str, bank.shape[1:]))}: "
                f"SPADE {ours[stage]:.1f} ms per image, PatchCore's head {heads[stage]:.1f}, "
                f"rebuilt {others[stage]:.1f}",
                flush=True,
            )
        total, head, other = (sum(times.values()) for times in (ours, heads, others))
        print(
            f"{stages}, all stages: SPADE {total:.1f} ms, {total / head:.2f} x PatchCore's head, "
            f"{other / head:.2f} x if rebuilt"
        )


if __name__ == "__main__":
    main()
