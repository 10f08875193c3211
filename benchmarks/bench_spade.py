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
from skanomaly._kernels.galleries import build_galleries, search_gallery
from skanomaly._kernels.neighbors import k_nearest
from skanomaly._kernels.pruned_neighbors import build_index, search_index
from skanomaly._kernels.smoothing import resize_matrix
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


def embed(detector, paths):
    """Return what the detector sees of images: the vectors of its image score, then the patches of every gallery."""
    *patches, last = detector.features_.transform_layers(paths).arrays
    if detector.combine == "concatenated":
        size = patches[0].shape[1:3]
        patches = [np.concatenate([resize(layer, size) for layer in patches], axis=-1)]
    return [last.mean(axis=(1, 2), dtype=np.float64), *patches]


def resize(layer, size):
    rows, columns = (resize_matrix(n, m).astype(np.float32) for n, m in zip(layer.shape[1:3], size, strict=True))
    return np.ascontiguousarray(np.einsum("Hh,nhwd,Ww->nHWd", rows, layer, columns, optimize=True))


def searched(galleries, neighbors, queries):
    """Search galleries as the detector does."""
    for own, patches in zip(neighbors, queries, strict=True):
        search_gallery(galleries, own, patches.reshape(-1, patches.shape[-1]), 1)


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
        image_vectors, *layers = embed(detector, test)
        neighbors = k_nearest(detector.image_bank_, image_vectors, detector.n_neighbors_)[1]
        ours, heads, others = {}, {}, {}
        for stage, bank in enumerate(detector.patch_banks_):
            queries = layers[stage]
            galleries = build_galleries(bank.reshape(len(bank), -1, bank.shape[-1]))
            head = KNNScorer(false_alarm_rate=None).fit(bank[: detector.n_neighbors_])
            ways = {
                "ours": lambda q=queries, g=galleries, n=neighbors: searched(g, n, q),
                "head": lambda q=queries, h=head: h.score_samples(q),
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
        ways = {
            "score": lambda d=detector: d.score_samples(test),
            "map": lambda d=detector: list(d.iter_scores_and_maps(test)),
        }
        found = medians(ways, options.rounds)
        score, both = (1e3 * found[way] / len(test) for way in ways)
        print(f"{stages}, with the network: score alone {score:.1f} ms per image, score and map {both:.1f}")


if __name__ == "__main__":
    main()
