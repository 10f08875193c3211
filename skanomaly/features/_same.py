"""Whether two fitted features see the same in the same image."""

import reprlib

import numpy as np
from sklearn.frozen import FrozenEstimator

# No effect on the values: weights are compared by their hash, what was learnt with a random_state by itself.
NO_EFFECT = ("memory", "memory_limit", "verbose", "max_pixels", "random_state")
_NOT_COMPARED = (*NO_EFFECT, "weights", "device", "batch_size", "features")
_NOT_SEEN = ("network_", "weights_source_", "n_channels_")


def check_same_features(mine, other, owner):
    """Raise unless fitted features of two estimators give the same values of the same samples.

    The device and the size of batches are left aside, though they move the last digits.

    Parameters
    ----------
    mine, other : estimator
        Fitted features.
    owner : str
        Name of the estimator that `mine` belongs to, for messages.

    Raises
    ------
    ValueError
        The message names what is different.
    """
    mine, its = (dict(_seen_by(features)) for features in (mine, other))
    for name in mine | its:
        if not _equal(mine.get(name), its.get(name)):
            theirs, ours = (reprlib.repr(seen.get(name)) for seen in (its, mine))
            raise ValueError(
                f"other.features_ has {name}={theirs}, that of this {owner} {name}={ours}: the two cannot be merged."
            )


def _seen_by(features, prefix=""):
    """Yield the name and the value of all that the values of fitted features depend on."""
    if isinstance(features, FrozenEstimator):  # it is what it holds
        features = features.estimator
    yield prefix + "class", type(features).__name__
    for name, value in features.get_params(deep=False).items():
        if name not in _NOT_COMPARED:
            yield from _named(prefix + name, value)
    for name, value in vars(features).items():
        if name.endswith("_") and not name.startswith("_") and name not in _NOT_SEEN:
            yield from _named(prefix + name, value)


def _named(name, value):
    if hasattr(value, "get_params"):
        yield from _seen_by(value, f"{name}.")
    else:
        yield name, value


def _equal(a, b):
    if isinstance(a, np.ndarray) or isinstance(b, np.ndarray):
        return type(a) is type(b) and np.array_equal(a, b)
    as_compared = [tuple(value) if isinstance(value, list) else value for value in (a, b)]
    return as_compared[0] == as_compared[1]
