"""Arrays of all kinds in every estimator: finite scores that nothing changes later, or one clear error."""

import warnings
from collections import Counter

import numpy as np

from skanomaly import (
    VAE,
    Autoencoder,
    Columns,
    GaussianScorer,
    KNNScorer,
    MahalanobisAD,
    PaDiM,
    PatchCore,
    PatchFeatures,
    Pixels,
    SparseCodingScorer,
    SubspaceScorer,
)
from skanomaly.networks import DenseNetwork

_N_EXAMPLES = 1000
_CLEAR = (ValueError, TypeError, AttributeError, NotImplementedError)
_NETWORK = DenseNetwork((3,))
_PATCHES = PatchFeatures(2, image_size=8)
_ROWS = {
    "KNNScorer": lambda: KNNScorer(random_state=0),
    "KNNScorer(3)": lambda: KNNScorer(3, random_state=0),
    "GaussianScorer": lambda: GaussianScorer(random_state=0),
    "SubspaceScorer": lambda: SubspaceScorer(random_state=0),
    "SparseCodingScorer": lambda: SparseCodingScorer(random_state=0),
    "Columns": lambda: Columns(),
    "Autoencoder": lambda: Autoencoder(network=_NETWORK, max_epochs=1, random_state=0),
    "VAE": lambda: VAE(network=_NETWORK, max_epochs=1, random_state=0),
}
_IMAGES = {
    "PatchCore": lambda: PatchCore(_PATCHES, random_state=0),
    "PaDiM": lambda: PaDiM(_PATCHES, n_channels=None, random_state=0),
    "MahalanobisAD": lambda: MahalanobisAD(_PATCHES, random_state=0),
    "Pixels": lambda: Pixels(8),
}


def run(share):
    """Return the outcomes of fitting and scoring random arrays."""
    outcomes = Counter()
    n = max(1, round(_N_EXAMPLES * share))
    for examples, makers in ((_rows, _ROWS), (_images, _IMAGES)):
        for name, make in makers.items():
            for seed in range(n):
                rng = np.random.default_rng(seed)
                outcome = trial(make(), examples(rng), examples(rng), rng)
                outcomes[outcome] += 1
                if outcome not in ("clear error", "right"):
                    print(f"    {name}, seed {seed}: {outcome}")
    return outcomes


def trial(estimator, X, other, rng):
    """Return the outcome of fitting an estimator on X and scoring another array."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            kept = X.copy()
            estimator.fit(X)
            answer = estimator.transform if hasattr(estimator, "transform") else estimator.score_samples
            first = answer(other if rng.random() < 0.5 and other.shape[1:] == X.shape[1:] else X)
        except _CLEAR as error:
            return "clear error" if str(error) else "raw error"
        except Exception:
            return "raw error"
        return _invariants(answer, X, kept, first)


def _invariants(answer, X, kept, first):
    if not np.array_equal(X, kept, equal_nan=X.dtype.kind == "f"):
        return "silent wrong result"
    if not np.isfinite(first).all():
        return "silent wrong result"
    before = answer(kept)
    X[...] = X.dtype.type(1)
    if not np.array_equal(before, answer(kept)):
        return "silent wrong result"  # the estimator looks at the array of the caller
    return "right"


def _rows(rng):
    n, d = int(rng.choice([0, 1, 2, 3, 12, 25])), int(rng.choice([0, 1, 2, 5]))
    return _spoilt(rng, (n, d), [np.float64, np.float32, np.float16, np.int64, np.uint8, bool])


def _images(rng):
    n, side = int(rng.choice([0, 1, 2, 3, 12])), int(rng.choice([0, 1, 2, 8, 9]))
    channels = [(), (1,), (3,), (4,), (2,)][int(rng.integers(5))]
    return _spoilt(rng, (n, side, 8, *channels), [np.float64, np.float32, np.uint8, np.uint16, np.int32, bool])


def _spoilt(rng, shape, dtypes):
    dtype = np.dtype(dtypes[int(rng.integers(len(dtypes)))])
    X = rng.random(shape) * (1 if dtype.kind == "f" else 200)
    if X.size:
        kind = rng.integers(10)
        if kind == 0:
            X[...] = X.ravel()[0]
        elif kind == 1:
            X[:] = X[:1]
        elif kind == 2:
            X.ravel()[0] = [np.nan, np.inf, -np.inf, 1e300, 1e-300, -1.0, 1e12][int(rng.integers(7))]
        elif kind == 3:
            X *= 10.0 ** rng.integers(-30, 30)
        elif kind == 4:
            X[..., 0] = 0
    with np.errstate(all="ignore"):
        return X.astype(dtype)
