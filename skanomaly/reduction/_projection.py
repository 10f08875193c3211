"""Random projections."""

from numbers import Integral, Real

import numpy as np
from scipy.sparse import issparse
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.random_projection import GaussianRandomProjection, SparseRandomProjection, johnson_lindenstrauss_min_dim
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.validation import check_is_fitted

from .._inputs.arrays import check_patches
from ..base import all_or_nothing

_BLOCK_LEN = 1024  # rows of one product: a row's bits must not depend on how many it is projected with

_KINDS = {"gaussian": GaussianRandomProjection, "sparse": SparseRandomProjection}


class RandomProjection(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):
    r"""Project rows or patches to fewer features, at random.

    .. math:: z = R x, \qquad R \in \mathbb{R}^{k \times d}, \quad \mathrm{E} \lVert R x \rVert^2 = \lVert x \rVert^2

    With :math:`k \ge 4 \log n / (\epsilon^2 / 2 - \epsilon^3 / 3)` all squared distances between n rows keep their
    value up to a factor in (1 - eps, 1 + eps), with good probability (Johnson-Lindenstrauss). In practice much smaller
    k serve nearest neighbours: PatchCore's authors take 128.

    Parameters
    ----------
    n_components : int or "auto", default="auto"
        Number of features k to keep. "auto" is the bound above for the rows (patches) of fit. The bound often exceeds
        d: 10,000 rows and eps=0.1 ask for 7,894. Then all d features are kept and `components_` is the identity.
    kind : {"gaussian", "sparse"}, default="gaussian"
        Entries drawn from a normal distribution, or all but a share 1 / sqrt(d) zero and the others of equal size.
    eps : float, default=0.1
        Relative error of squared distances that "auto" allows, in (0, 1).
    random_state : int, RandomState instance or None, default=None

    Attributes
    ----------
    n_components_ : int
        Number of features k of the output.
    components_ : ndarray of shape (k, d)
        The matrix R, dense for either kind, in the dtype of the data of fit.
    n_features_in_ : int
        Number of features d.

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
        """Draw the projection; only the shape of `X` counts.

        Parameters
        ----------
        X : array-like of shape (n, d) or (n, h, w, d)
            Rows or patch grids.
        y : ignored

        Returns
        -------
        self

        Raises
        ------
        ValueError
            For NaN or infinity, or another rank.

        Warns
        -----
        DataDimensionalityWarning
            If `n_components` is a number above d.
        """
        with all_or_nothing(self):
            grid = check_patches(self, X, reset=True)
            self.components_ = self._draw(grid.reshape(-1, grid.shape[-1]))
            self.n_components_ = len(self.components_)
        return self

    def transform(self, X):
        """Return the projected rows or patch grids.

        Parameters
        ----------
        X : array-like of shape (n, d) or (n, h, w, d)
            The rank may differ from fit.

        Returns
        -------
        ndarray of shape (n, k) or (n, h, w, k)
            float32 stays float32, all else becomes float64.
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
        """Return R (k, d) for rows (n, d)."""
        n, d = rows.shape
        n_components = self.n_components
        if n_components == "auto":
            n_components = max(1, int(johnson_lindenstrauss_min_dim(n, eps=self.eps)))
            if n_components >= d:
                return np.eye(d, dtype=rows.dtype)
        components = _KINDS[self.kind](n_components, random_state=self.random_state).fit(rows).components_
        return components.toarray() if issparse(components) else components


def _project(rows, components):
    """Return rows (n, d) times components (k, d), transposed: (n, k)."""
    block = np.zeros((_BLOCK_LEN, rows.shape[1]), rows.dtype)
    projected = np.empty((len(rows), len(components)), rows.dtype)
    for start in range(0, len(rows), _BLOCK_LEN):
        part = rows[start : start + _BLOCK_LEN]
        block[: len(part)] = part
        projected[start : start + _BLOCK_LEN] = (block @ components.T)[: len(part)]
    return projected
