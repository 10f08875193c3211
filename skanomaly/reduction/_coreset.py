"""The greedy k-centre coreset."""

from functools import partial
from numbers import Integral, Real

import numpy as np
from sklearn.base import BaseEstimator, TransformerMixin, clone
from sklearn.random_projection import GaussianRandomProjection
from sklearn.utils import check_array, check_random_state
from sklearn.utils._param_validation import HasMethods, Interval, StrOptions
from sklearn.utils.validation import check_is_fitted
from tqdm import tqdm

from .._doc_links import DocLinkMixin
from .._inputs.arrays import check_magnitude, check_patches
from .._kernels.checks import require
from .._kernels.coreset import greedy_k_center
from ..base import all_or_nothing


class GreedyCoreset(TransformerMixin, DocLinkMixin, BaseEstimator):
    r"""Select a coreset: the patches that cover all others best.

    Starting from a random patch, the patch farthest from those already kept is added repeatedly:

    .. math:: p^* = \arg\max_{p \in P} \min_{m \in M} \lVert \psi(p) - \psi(m) \rVert_2

    The selection is exact; matrix products of short sketches make most distances unnecessary. Its coverage radius is at
    most twice the smallest possible radius for that number of patches.

    Parameters
    ----------
    ratio : float, default=0.1
        Share of the patches to keep, in (0, 1]; at least one is kept. Ignored if `n_samples` is given.
    n_samples : int, default=None
        Number of patches to keep.
    projection : int or transformer, default=None
        Projection psi under which distances are computed. An int n stands for a Gaussian random projection to n
        dimensions (the authors use 128); a transformer is fitted on the rows; None uses all features. The patches that
        are kept are never projected.
    device : {"auto", "cpu", "cuda", "mps"}, default="cpu"
        Device on which distances are computed; "auto" takes CUDA, then MPS, then the CPU. A GPU computes all distances;
        where two patches are equally far within rounding errors, it may keep the other one.
    random_state : int, RandomState instance or None, default=None
        Seed of the first patch and the projection. Pass an int for reproducible results.
    verbose : int, default=0
        Verbosity level: 0 is silent, 1 shows a progress bar.

    Attributes
    ----------
    indices_ : ndarray of shape (m,), int64
        Indices of the patches kept, in order of selection (in ascending order if all are kept). Patches are numbered
        image by image and row by row.
    labels_ : ndarray of shape (n,), int32
        Position in `indices_` of the kept patch nearest to each patch.
    coverage_radius_ : float
        Largest distance, under the projection, of any patch to the nearest patch kept.
    n_features_in_ : int
        Number of features seen during `fit`.
    feature_names_in_ : ndarray of shape (`n_features_in_`,)
        Names of features seen during `fit`. Defined only when `X` has feature names that are all strings.

    See Also
    --------
    KNNScorer : Score patches by their distance to the nearest patches kept.
    PatchCore : Detector that combines pretrained features, a coreset and nearest neighbours.
    RandomProjection : Reduce the number of features instead of the number of patches.

    Notes
    -----
    `fit_transform` returns the patches kept, whereas `transform` returns its input, because only training patches are
    to be thinned out. This departs from scikit-learn's rule that both agree, but makes the coreset usable in a
    `Pipeline`.

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
        "device": [StrOptions({"auto", "cpu", "cuda", "mps"})],
        "random_state": ["random_state"],
        "verbose": ["verbose"],
    }

    def __init__(self, ratio=0.1, *, n_samples=None, projection=None, device="cpu", random_state=None, verbose=0):
        self.ratio = ratio
        self.n_samples = n_samples
        self.projection = projection
        self.device = device
        self.random_state = random_state
        self.verbose = verbose

    def fit(self, X, y=None):
        """Select the patches to keep.

        Parameters
        ----------
        X : array-like of shape (n, d) or (n, h, w, d)
            Rows or patch grids.
        y : Ignored
            Not used, present for API consistency by convention.

        Returns
        -------
        self
            Fitted estimator.

        Raises
        ------
        ValueError
            If `X` contains NaN or infinity or has another rank, `n_samples` exceeds the number of patches, or the
            device is not available.
        """
        with all_or_nothing(self):
            self._select(check_patches(self, X, reset=True))
        return self

    def fit_transform(self, X, y=None):
        """Select the patches to keep and return them.

        Parameters
        ----------
        X : array-like of shape (n, d) or (n, h, w, d)
            Rows or patch grids.
        y : Ignored
            Not used, present for API consistency by convention.

        Returns
        -------
        ndarray of shape (m, d) or (m, 1, 1, d)
            Patches kept, as rows or as grids of one patch.
        """
        with all_or_nothing(self):
            grid = check_patches(self, X, reset=True)
            self._select(grid)
        kept = grid.reshape(-1, grid.shape[-1])[self.indices_]
        return kept[:, None, None, :] if getattr(X, "ndim", 2) == 4 else kept

    def _check_state(self):
        """Raise a ValueError if attributes from a model file do not fit together."""
        if hasattr(self, "labels_"):
            n, m = len(self.labels_), len(self.indices_)
            require(((self.indices_ >= 0) & (self.indices_ < n)).all(), "indices_ are out of bounds")
            require(((self.labels_ >= 0) & (self.labels_ < m)).all(), "labels_ are out of bounds")

    def transform(self, X):
        """Return the input unchanged, after checking it.

        Parameters
        ----------
        X : array-like of shape (n, d) or (n, h, w, d)
            Rows or patch grids; the rank may differ from that in `fit`.

        Returns
        -------
        ndarray of shape (n, d) or (n, h, w, d)
            The input.
        """
        check_is_fitted(self)
        grid = check_patches(self, X, reset=False)
        return grid if getattr(X, "ndim", 2) == 4 else grid[:, 0, 0, :]

    def _select(self, grid):
        rows = grid.reshape(-1, grid.shape[-1])
        select = self._kernel(rows.dtype)
        n_kept = max(1, round(self.ratio * len(rows))) if self.n_samples is None else self.n_samples
        if n_kept > len(rows):
            raise ValueError(f"n_samples={n_kept} is larger than the number of patches, {len(rows)}.")
        if n_kept == len(rows):
            self.indices_ = np.arange(n_kept)
            self.labels_, self.coverage_radius_ = self.indices_.astype(np.int32), 0.0
            return
        random_state = check_random_state(self.random_state)
        start = random_state.randint(len(rows))
        projected = self._project(rows, random_state)
        bar = partial(tqdm, desc="coreset", unit_scale=256, unit="patch", disable=not self.verbose)
        self.indices_, self.labels_, radius = select(projected, n_kept, start, progress=bar)
        self.coverage_radius_ = float(radius)

    def _kernel(self, dtype):
        """Return the selection on the device; numba's needs no torch."""
        if self.device == "cpu":
            return greedy_k_center
        from .._torch import coreset, device

        gpu = device.resolve_gpu(self.device, dtype)
        return greedy_k_center if gpu is None else partial(coreset.greedy_k_center, device=gpu)

    def _project(self, rows, random_state):
        if self.projection is None:
            return rows
        projection = clone(self.projection, safe=False)
        if isinstance(projection, Integral):
            projection = GaussianRandomProjection(projection, random_state=random_state)
        output = f"the output of projection={projection!r}"
        projected = check_array(projection.fit_transform(rows), dtype=rows.dtype, order="C", input_name=output)
        check_magnitude(projected, name=output)
        return projected
