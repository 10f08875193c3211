"""Comparison of fitted features."""

import reprlib

import numpy as np
from sklearn.frozen import FrozenEstimator

# These have no effect on the features. (Weights are compared by their hash, and fitted attributes directly.)
NO_EFFECT = ("memory", "memory_limit", "download", "verbose", "max_pixels", "random_state")
_NOT_COMPARED = (*NO_EFFECT, "weights", "device", "batch_size", "features")
_NOT_SEEN = ("network_", "weights_source_", "n_channels_")


def check_same_features(mine, other, owner):
    """Raise unless two fitted features return the same values for the same samples.

    The device and the batch size are not compared, although they affect the last digits.

    Parameters
    ----------
    mine : estimator
        Fitted features.
    other : estimator
        Fitted features to compare them with.
    owner : str
        Name of the estimator that `mine` belongs to, for the message.

    Raises
    ------
    ValueError
        If the features differ; the message names the difference.
    """
    mine, its = (dict(_seen_by(features)) for features in (mine, other))
    for name in mine | its:
        if not _equal(mine.get(name), its.get(name)):
            theirs, ours = (reprlib.repr(seen.get(name)) for seen in (its, mine))
            raise ValueError(
                f"other.features_ has {name}={theirs}, but this {owner} has {name}={ours}; the two cannot be merged."
            )


def _seen_by(features, prefix=""):
    """Yield the name and value of every setting and attribute that fitted features depend on."""
    if isinstance(features, FrozenEstimator):  # compare the estimator inside
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
