"""Sparse coding compared with scikit-learn: coding, and learning one small dictionary per channel as in MLF-SC.

The data come from the two sample images of scikit-learn. A channel is one of their colours under a linear filter, cut
into standardised crops of 28 x 28 pixels and these into patches of 8 x 8 pixels with stride 2, 121 per crop. The coder
of scikit-learn is timed on the first `--oracle-patches` patches and its time is extrapolated; its learner is run on the
first `--oracle-channels` channels. Objectives are those of patches of held-out crops, with codes from scikit-learn's
LARS.
"""

import time

import numpy as np
from _common import parser, print_machine
from scipy.ndimage import gaussian_filter
from sklearn.datasets import load_sample_images
from sklearn.decomposition import MiniBatchDictionaryLearning, SparseCoder, sparse_encode

from skanomaly._kernels.sparse_coding import learn_dictionaries, omp_codes, omp_errors

FILTERS = [(0, (0, 0)), (2, (0, 0)), (1, (0, 1)), (1, (1, 0)), (2, (1, 1)), (1, (0, 2)), (1, (2, 0)), (3, (0, 1))]


def crop_patches(plane, n_crops, rng):
    """Return the patches (121 n, 64), float32, of standardised crops of one plane."""
    patches = []
    for _ in range(n_crops):
        row, column = (rng.integers(size - 28) for size in plane.shape)
        crop = plane[row : row + 28, column : column + 28]
        crop = (crop - crop.mean()) / (crop.std() + 1e-6)
        patches.append(np.lib.stride_tricks.sliding_window_view(crop, (8, 8))[::2, ::2].reshape(121, 64))
    return np.concatenate(patches).astype(np.float32)


def make_channels(n_channels, n_crops):
    """Return the patches (C, 121 n, 64) of filtered colour planes."""
    planes = [image[:, :, c].astype(float) for image in load_sample_images().images for c in range(3)]
    rng = np.random.default_rng(0)
    channels = []
    for c in range(n_channels):
        sigma, order = FILTERS[c % len(FILTERS)]
        channels.append(crop_patches(gaussian_filter(planes[c % len(planes)], sigma, order), n_crops, rng))
    return np.stack(channels)


def best_time(function, rounds):
    """Return the shortest time of several calls, excluding the first."""
    seconds = []
    for _ in range(rounds + 1):
        start = time.perf_counter()
        function()
        seconds.append(time.perf_counter() - start)
    return min(seconds[1:])


def compare_coders(X, n_atoms, n_nonzero, n_oracle, rounds):
    atoms, _ = learn_dictionaries(X, n_atoms, 0)
    atoms /= np.linalg.norm(atoms, axis=1, keepdims=True)
    X = X.astype(np.float64)
    coder = SparseCoder(atoms, transform_algorithm="omp", transform_n_nonzero_coefs=n_nonzero)
    start = time.perf_counter()
    expected = coder.transform(X[:n_oracle])
    sklearn_seconds = (time.perf_counter() - start) * len(X) / n_oracle
    codes_seconds = best_time(lambda: omp_codes(X, atoms, n_nonzero), rounds)
    errors_seconds = best_time(lambda: omp_errors(X, atoms, n_nonzero), rounds)
    codes = omp_codes(X[:n_oracle], atoms, n_nonzero)
    picks = ((codes != 0) != (expected != 0)).any(axis=1).sum()
    print(f"{len(X)} patches of {X.shape[1]} values, {n_atoms} atoms, {n_nonzero} non-zeros")
    print(f"  ours, codes    {codes_seconds:8.3f} s   {sklearn_seconds / codes_seconds:6.0f} x")
    print(f"  ours, errors   {errors_seconds:8.3f} s   {sklearn_seconds / errors_seconds:6.0f} x")
    print(f"  SparseCoder    {sklearn_seconds:8.3f} s   (from {n_oracle} patches)")
    print(f"  largest difference of a code {np.abs(codes - expected).max():.1e}, other picks in {picks} patches")


def objective(X, atoms):
    """Return the mean objective per patch, at alpha = 1."""
    codes = sparse_encode(X, atoms, algorithm="lasso_lars", alpha=1.0)
    return (((X - codes @ atoms) ** 2).sum() / 2 + np.abs(codes).sum()) / len(X)


def compare_learners(train, held_out, n_oracle, n_total):
    n_channels, n_patches, _ = train.shape
    learn_dictionaries(train[:1, :500], 5, [0])  # compile
    start = time.perf_counter()
    atoms, n_iter = learn_dictionaries(train, 5, np.arange(n_channels))
    ours = (time.perf_counter() - start) / n_channels
    print(f"learning 5 atoms from {n_patches} patches, {n_channels} channels in one call")
    print(f"  ours           {ours:8.3f} s per channel, passes {n_iter.min()}-{n_iter.max()}")
    print(f"  for {n_total} channels {ours * n_total:8.1f} s   (multiplied up)")
    for c in range(n_oracle):
        learner = MiniBatchDictionaryLearning(5, alpha=1, batch_size=256, random_state=0)
        start = time.perf_counter()
        learner.fit(train[c].astype(np.float64))
        seconds = time.perf_counter() - start
        values = [objective(held_out[c].astype(np.float64), found) for found in (atoms[c], learner.components_)]
        print(
            f"  channel {c}: sklearn {seconds:6.2f} s ({seconds / ours:4.0f} x), objective held out: "
            f"ours {values[0]:.3f}, sklearn {values[1]:.3f}, ratio {values[0] / values[1]:.4f}",
            flush=True,
        )


def main():
    options = parser(__doc__)
    options.add_argument("--oracle-patches", type=int, default=10_000)
    options.add_argument("--channels", type=int, default=32)
    options.add_argument("--oracle-channels", type=int, default=6)
    options.add_argument("--images", type=int, default=100)
    options.add_argument("--total-channels", type=int, default=896, help="channels to extrapolate to; MLF-SC has 896")
    options.add_argument("--rounds", type=int, default=5)
    options = options.parse_args()
    print_machine()
    X = make_channels(max(options.channels, 9), options.images + 10)
    n_train = 121 * options.images
    coded = X[:9].reshape(-1, 64)
    coded = coded[np.random.default_rng(0).permutation(len(coded))[:100_000]]
    for n_atoms, n_nonzero in ((5, 3), (64, 5)):
        compare_coders(coded, n_atoms, n_nonzero, options.oracle_patches, options.rounds)
    train, held_out = X[: options.channels, :n_train], X[: options.channels, n_train:]
    compare_learners(train, held_out, options.oracle_channels, options.total_channels)


if __name__ == "__main__":
    main()
