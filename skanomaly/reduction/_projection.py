"""Random projection."""

from numbers import Integral, Real

import numpy as np
from scipy.sparse import issparse
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.random_projection import GaussianRandomProjection, SparseRandomProjection, johnson_lindenstrauss_min_dim
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.validation import check_is_fitted

from .._doc_links import DocLinkMixin
from .._inputs.arrays import check_patches
from .._kernels.checks import require
from ..base import all_or_nothing

_BLOCK_LEN = 1024  # rows per product: fixed, so that the bits of a row do not depend on the number of rows

_KINDS = {"gaussian": GaussianRandomProjection, "sparse": SparseRandomProjection}


class RandomProjection(ClassNamePrefixFeaturesOutMixin, TransformerMixin, DocLinkMixin, BaseEstimator):
    r"""Project rows or patches onto fewer features at random.

    .. math:: z = R x, \qquad R \in \mathbb{R}^{k \times d}, \quad \mathrm{E} \lVert R x \rVert^2 = \lVert x \rVert^2

    With :math:`k \ge 4 \log n / (\epsilon^2 / 2 - \epsilon^3 / 3)`, all squared distances between n rows are preserved
    up to a factor in (1 - eps, 1 + eps), with high probability (Johnson-Lindenstrauss lemma). In practice, a much
    smaller k is enough for nearest neighbours: the authors of PatchCore use 128.

    Parameters
    ----------
    n_components : int or "auto", default="auto"
        Number k of features of the output. "auto" is the bound above for the number of rows (patches) in `fit`. The
        bound often exceeds d (10,000 rows and eps=0.1 give 7,894); all d features are then kept and `components_` is
        the identity.
    kind : {"gaussian", "sparse"}, default="gaussian"
        Kind of random matrix. "gaussian" draws all entries from a normal distribution; "sparse" makes a share
        1 / sqrt(d) of them non-zero, with equal magnitudes and random signs.
    eps : float, default=0.1
        Relative error of squared distances permitted by "auto", in (0, 1).
    random_state : int, RandomState instance or None, default=None
        Seed of the random matrix. Pass an int for reproducible results.

    Attributes
    ----------
    n_components_ : int
        Number k of features of the output.
    components_ : ndarray of shape (k, d)
        Matrix R, dense for both kinds, with the dtype of the data in `fit`.
    n_features_in_ : int
        Number of features seen during `fit`.
    feature_names_in_ : ndarray of shape (`n_features_in_`,)
        Names of features seen during `fit`. Defined only when `X` has feature names that are all strings.

    See Also
    --------
    GreedyCoreset : Reduce the number of patches instead of the number of features.
    SparseCoding : Code rows or patches as combinations of few atoms.
    sklearn.random_projection.GaussianRandomProjection : The same projection for rows only.

    References
    ----------
    Dasgupta and Gupta, "An elementary proof of a theorem of Johnson and Lindenstrauss", 2003.
    Li, Hastie and Church, "Very sparse random projections", KDD 2006.

    Examples
    --------
    >>> import numpy as np
    >>> from skanomaly import RandomProjection
    >>> grids = np.random.default_rng(0).random((2, 7, 7, 64), dtype=np.float32)
    >>> projected = RandomProjection(16, random_state=0).fit_transform(grids)
    >>> projected.shape, projected.dtype
    ((2, 7, 7, 16), dtype('float32'))
    """

    _parameter_constraints = {
        "n_components": [Interval(Integral, 1, None, closed="left"), StrOptions({"auto"})],
        "kind": [StrOptions(set(_KINDS))],
        "eps": [Interval(Real, 0, 1, closed="neither")],
        "random_state": ["random_state"],
    }

    def __init__(self, n_components="auto", *, kind="gaussian", eps=0.1, random_state=None):
        self.n_components = n_components
        self.kind = kind
        self.eps = eps
        self.random_state = random_state

    def fit(self, X, y=None):
        """Draw the projection, which depends on the shape and the dtype of `X` only.

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
            If `X` contains NaN or infinity, or has another rank.

        Warns
        -----
        DataDimensionalityWarning
            If `n_components` is a number larger than d.
        """
        with all_or_nothing(self):
            grid = check_patches(self, X, reset=True)
            self.components_ = self._draw(grid.reshape(-1, grid.shape[-1]))
            self.n_components_ = len(self.components_)
        return self

    def _check_state(self):
        """Raise a ValueError if attributes from a model file do not fit together."""
        if hasattr(self, "components_"):
            require(
                self.components_.shape == (self.n_components_, self.n_features_in_), "components_ has another shape"
            )
            require(np.isfinite(self.components_).all(), "components_ is not finite")

    def transform(self, X):
        """Project rows or patch grids.

        Parameters
        ----------
        X : array-like of shape (n, d) or (n, h, w, d)
            Rows or patch grids; the rank may differ from that in `fit`.

        Returns
        -------
        ndarray of shape (n, k) or (n, h, w, k)
            Projected rows or patch grids. float32 input stays float32; any other dtype becomes float64.
        """
        check_is_fitted(self)
        grid = check_patches(self, X, reset=False)
        components = self.components_.astype(grid.dtype, copy=False)
        projected = _project(grid.reshape(-1, grid.shape[-1]), components)
        return projected.reshape(*grid.shape[:-1], -1) if getattr(X, "ndim", 2) == 4 else projected

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags

    @property
    def _n_features_out(self):
        return self.n_components_

    def _draw(self, rows):
        """Return the matrix R (k, d) for rows (n, d)."""
        n, d = rows.shape
        n_components = self.n_components
        if n_components == "auto":
            n_components = max(1, int(johnson_lindenstrauss_min_dim(n, eps=self.eps)))
            if n_components >= d:
                return np.eye(d, dtype=rows.dtype)
        components = _KINDS[self.kind](n_components, random_state=self.random_state).fit(rows).components_
        return components.toarray() if issparse(components) else components


def _project(rows, components):
    """Return the product (n, k) of rows (n, d) and the transpose of components (k, d).

    It is computed in float64: in float32, the bits of a row depend on its place in the block on some processors.
    """
    block = np.zeros((_BLOCK_LEN, rows.shape[1]))
    transposed = components.T.astype(np.float64)
    projected = np.empty((len(rows), len(components)), rows.dtype)
    for start in range(0, len(rows), _BLOCK_LEN):
        part = rows[start : start + _BLOCK_LEN]
        block[: len(part)] = part
        projected[start : start + _BLOCK_LEN] = (block @ transposed)[: len(part)]
    return projected
