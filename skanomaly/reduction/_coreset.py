"""The greedy k-centre coreset."""

from functools import partial
from numbers import Integral, Real

import numpy as np
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.random_projection import GaussianRandomProjection
from sklearn.utils import check_array, check_random_state
from sklearn.utils._param_validation import HasMethods, Interval
from sklearn.utils.validation import check_is_fitted
from tqdm import tqdm

from .._inputs.arrays import check_magnitude, check_patches
from .._kernels.coreset import greedy_k_center
from ..base import all_or_nothing


class GreedyCoreset(TransformerMixin, BaseEstimator):
    r"""Keep the patches that cover all others best.

    Starting from a random patch, the patch farthest from those kept is added again and again:

    .. math:: p^* = \arg\max_{p \in P} \min_{m \in M} \lVert \psi(p) - \psi(m) \rVert_2

    The selection is exact; most distances are skipped by the triangle inequality. Its coverage radius is at most twice
    the smallest possible one for that number of patches.

    Parameters
    ----------
    ratio : float, default=0.1
        Share of the patches to keep, in (0, 1]; at least one is kept. Ignored if `n_samples` is given.
    n_samples : int or None, default=None
        Number of patches to keep.
    projection : int, transformer or None, default=None
        The map psi: an int n is a Gaussian random projection to n dimensions (the authors use 128), a transformer is
        fitted on the rows, None selects in the full space. Kept patches are always the unprojected ones.
    random_state : int, RandomState instance or None, default=None
        Of the first patch and the projection.
    verbose : int, default=0
        1 shows a progress bar.

    Attributes
    ----------
    indices_ : ndarray of shape (m,), int64
        Kept rows, counting patches image by image and row by row, in order of selection
        (of position, where all are kept).
    labels_ : ndarray of shape (n,), int32
        The kept patch that each patch is nearest to, as a position in `indices_`.
    coverage_radius_ : float
        Largest distance of any patch to its nearest kept one, after the projection.
    n_features_in_ : int
        Number of features d.

    Notes
    -----
    `fit_transform` returns the kept patches; `transform` returns its input, because only training is thinned. This
    departs from scikit-learn's rule that both agree, and is what lets the coreset stand in a `Pipeline`.

    References
    ----------
    Roth et al., "Towards Total Recall in Industrial Anomaly Detection", CVPR 2022, arXiv:2106.08265, Algorithm 1.
    Gonzalez, "Clustering to minimize the maximum intercluster distance", 1985.

    Examples
    --------
    >>> import numpy as np
    >>> from skanomaly import GreedyCoreset
    >>> X = np.array([[0.0], [0.1], [5.0], [5.1], [9.0]])
    >>> coreset = GreedyCoreset(n_samples=3, random_state=0)
    >>> coreset.fit_transform(X).ravel()
    array([9., 0., 5.])
    >>> round(coreset.coverage_radius_, 3)
    0.1
    """

    _parameter_constraints = {
        "ratio": [Interval(Real, 0, 1, closed="right")],
        "n_samples": [Interval(Integral, 1, None, closed="left"), None],
        "projection": [Interval(Integral, 1, None, closed="left"), HasMethods(["fit_transform"]), None],
        "random_state": ["random_state"],
        "verbose": ["verbose"],
    }

    def __init__(self, ratio=0.1, *, n_samples=None, projection=None, random_state=None, verbose=0):
        self.ratio = ratio
        self.n_samples = n_samples
        self.projection = projection
        self.random_state = random_state
        self.verbose = verbose

    def fit(self, X, y=None):
        """Select the patches to keep.

        Parameters
        ----------
        X : array-like of shape (n, d) or (n, h, w, d)
            Rows or patch grids.
        y : ignored

        Returns
        -------
        self
        """
        with all_or_nothing(self):
            self._select(check_patches(self, X, reset=True))
        return self

    def fit_transform(self, X, y=None):
        """Select the patches to keep and return them.

        Parameters
        ----------
        X : array-like of shape (n, d) or (n, h, w, d)
        y : ignored

        Returns
        -------
        ndarray of shape (m, d) or (m, 1, 1, d)
        """
        with all_or_nothing(self):
            grid = check_patches(self, X, reset=True)
            self._select(grid)
        kept = grid.reshape(-1, grid.shape[-1])[self.indices_]
        return kept[:, None, None, :] if getattr(X, "ndim", 2) == 4 else kept

    def transform(self, X):
        """Return `X`, checked but unchanged.

        Parameters
        ----------
        X : array-like of shape (n, d) or (n, h, w, d)

        Returns
        -------
        ndarray of the same shape
        """
        check_is_fitted(self)
        grid = check_patches(self, X, reset=False)
        return grid if getattr(X, "ndim", 2) == 4 else grid[:, 0, 0, :]

    def _select(self, grid):
        rows = grid.reshape(-1, grid.shape[-1])
        n_kept = max(1, round(self.ratio * len(rows))) if self.n_samples is None else self.n_samples
        if n_kept > len(rows):
            raise ValueError(f"n_samples={n_kept} patches cannot be kept of {len(rows)}.")
        if n_kept == len(rows):
            self.indices_ = np.arange(n_kept)
            self.labels_, self.coverage_radius_ = self.indices_.astype(np.int32), 0.0
            return
        random_state = check_random_state(self.random_state)
        start = random_state.randint(len(rows))
        projected = self._project(rows, random_state)
        bar = partial(tqdm, desc="coreset", unit_scale=256, unit="patch", disable=not self.verbose)
        self.indices_, self.labels_, radius = greedy_k_center(projected, n_kept, start, bar)
        self.coverage_radius_ = float(radius)

    def _project(self, rows, random_state):
        if self.projection is None:
            return rows
        projection = self.projection
        if isinstance(projection, Integral):
            projection = GaussianRandomProjection(projection, random_state=random_state)
        output = f"the output of projection={projection!r}"
        projected = check_array(projection.fit_transform(rows), dtype=rows.dtype, order="C", input_name=output)
        check_magnitude(projected, name=output)
        return projected
