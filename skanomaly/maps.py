"""Anomaly maps for pipelines."""

from sklearn.pipeline import Pipeline

from .base import stack_if_equal

__all__ = ["anomaly_map", "iter_anomaly_maps"]

_BATCH_LEN = 32


def anomaly_map(estimator, X, *, size=None, sigma=4.0):
    """Return where the anomalies are, for a detector or a pipeline of images to patches to scores.

    Parameters
    ----------
    estimator : estimator
        A fitted detector with `anomaly_map`, or a fitted `Pipeline` whose first step makes patch grids of images
        and whose last step scores them.
    X : array of shape (n, H, W[, C]), sequence of images or paths, or glob string
    size : tuple of int (H, W), optional
        Of the maps; by default each has the size of its image.
    sigma : float, default=4.0
        Of the Gaussian smoothing, in pixels of a 224-pixel side. Only for pipelines, a detector has its own.

    Returns
    -------
    ndarray of shape (n, H, W), float32, or list of ndarray where sizes differ
        Higher is more anomalous; NaN where the detector did not look.

    Raises
    ------
    TypeError
        If the estimator has no maps.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.pipeline import make_pipeline
    >>> from skanomaly import GreedyCoreset, KNNScorer, PretrainedPatchFeatures, anomaly_map
    >>> images = np.random.default_rng(0).random((3, 48, 48))
    >>> features = PretrainedPatchFeatures(weights="random", image_size=64, random_state=0)
    >>> pipeline = make_pipeline(features, GreedyCoreset(random_state=0), KNNScorer()).fit(images)
    >>> anomaly_map(pipeline, images).shape
    (3, 48, 48)
    """
    return stack_if_equal(list(iter_anomaly_maps(estimator, X, size=size, sigma=sigma)))


def iter_anomaly_maps(estimator, X, *, size=None, sigma=4.0):
    """Yield the maps of `anomaly_map` one by one, in bounded memory.

    Parameters
    ----------
    estimator, X, size, sigma
        As in `anomaly_map`.

    Yields
    ------
    ndarray of shape (H, W), float32
    """
    if hasattr(estimator, "iter_anomaly_maps"):
        yield from estimator.iter_anomaly_maps(X, size=size)
        return
    if not (isinstance(estimator, Pipeline) and hasattr(estimator[0], "map_to_image")):
        raise TypeError(
            f"{type(estimator).__name__} has no anomaly maps; accepted is a detector with `anomaly_map`, or a Pipeline "
            "that begins with patch features of images."
        )
    features, scorer = estimator[0], estimator[-1]
    source = features.check_samples(X)
    for start in range(0, len(source), _BATCH_LEN):
        batch = source[start : start + _BATCH_LEN]
        for grid, own_size in zip(scorer.anomaly_map(estimator[:-1].transform(batch)), batch.sizes, strict=True):
            yield features.map_to_image(grid, size or own_size, sigma)
