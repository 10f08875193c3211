"""Sparse codes over a learned dictionary."""

from numbers import Integral, Real

import numpy as np
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils import check_array, check_random_state
from sklearn.utils._param_validation import Interval
from sklearn.utils.validation import check_is_fitted

from .._inputs.arrays import check_magnitude, check_patches
from .._kernels.sparse_coding import decode, learn_dictionaries, omp_codes
from ..base import all_or_nothing


class SparseCoding(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):
    r"""Code rows or patches by few atoms of a learned dictionary.

    The dictionary D of k atoms is learned online under an l1 penalty; rows are then coded by orthogonal matching
    pursuit, with at most `n_nonzero_coefs` atoms each:

    .. math::

        \min_{D, a} \sum_i \tfrac{1}{2} \lVert x_i - D a_i \rVert^2 + \alpha \lVert a_i \rVert_1, \;
        \lVert d_j \rVert \le 1, \qquad
        a(x) \approx \arg\min_{\lVert a \rVert_0 \le s} \lVert x - D a \rVert^2

    Nothing is centred or scaled: do that before, and choose `alpha` for values of that scale.

    Parameters
    ----------
    n_components : int, default=5
        Number of atoms k; the default is MLF-SC's.
    n_nonzero_coefs : int, default=3
        Most atoms s of a code; the default is MLF-SC's.
    alpha : float, default=1
        Weight of the l1 norm while learning, at least 0.
    max_iter : int, default=20
        Most passes over the rows (patches) of fit.
    batch_size : int, default=256
        Rows between two updates of the dictionary.
    tol : float, default=1e-3
        Learning ends when a pass lowers the objective by less than this share.
    random_state : int, RandomState instance or None, default=None
        Of the order of the rows and the first atoms.

    Attributes
    ----------
    components_ : ndarray of shape (k, d), float64
        The atoms.
    n_iter_ : int
        Passes made.
    n_features_in_ : int
        Number of features d.

    References
    ----------
    Mairal et al., "Online dictionary learning for sparse coding", ICML 2009.
    Rubinstein, Zibulevsky and Elad, "Efficient Implementation of the K-SVD Algorithm using Batch Orthogonal Matching
    Pursuit", Technion CS-2008-08.

    Examples
    --------
    >>> import numpy as np
    >>> from skanomaly import SparseCoding
    >>> grids = np.random.default_rng(0).normal(size=(4, 7, 7, 64))
    >>> coding = SparseCoding(random_state=0).fit(grids)
    >>> codes = coding.transform(grids)
    >>> codes.shape, int((codes != 0).sum(axis=-1).max()), coding.inverse_transform(codes).shape
    ((4, 7, 7, 5), 3, (4, 7, 7, 64))
    """

    _parameter_constraints = {
        "n_components": [Interval(Integral, 1, None, closed="left")],
        "n_nonzero_coefs": [Interval(Integral, 1, None, closed="left")],
        "alpha": [Interval(Real, 0, None, closed="left")],
        "max_iter": [Interval(Integral, 1, None, closed="left")],
        "batch_size": [Interval(Integral, 1, None, closed="left")],
        "tol": [Interval(Real, 0, None, closed="left")],
        "random_state": ["random_state"],
    }

    def __init__(
        self,
        n_components=5,
        *,
        n_nonzero_coefs=3,
        alpha=1,
        max_iter=20,
        batch_size=256,
        tol=1e-3,
        random_state=None,
    ):
        self.n_components = n_components
        self.n_nonzero_coefs = n_nonzero_coefs
        self.alpha = alpha
        self.max_iter = max_iter
        self.batch_size = batch_size
        self.tol = tol
        self.random_state = random_state

    def fit(self, X, y=None):
        """Learn the dictionary.

        Parameters
        ----------
        X : array-like of shape (n, d) or (n, h, w, d)
            Rows or patch grids; all cells of grids count alike.
        y : ignored

        Returns
        -------
        self

        Raises
        ------
        ValueError
            For NaN or infinity, or another rank.
        """
        with all_or_nothing(self):
            grid = check_patches(self, X, reset=True)
            self.components_, n_iter = learn_dictionaries(
                grid.reshape(-1, grid.shape[-1]),
                self.n_components,
                check_random_state(self.random_state).randint(2**31 - 1),
                alpha=self.alpha,
                max_iter=self.max_iter,
                batch_size=self.batch_size,
                tol=self.tol,
            )
            self.n_iter_ = int(n_iter)
        return self

    def transform(self, X):
        """Return the codes of rows or patches.

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
        n_nonzero = min(self.n_nonzero_coefs, len(self.components_))
        codes = omp_codes(grid.reshape(-1, grid.shape[-1]), self.components_, n_nonzero)
        shape = (*grid.shape[:-1], -1) if getattr(X, "ndim", 2) == 4 else codes.shape
        return codes.reshape(shape).astype(grid.dtype, copy=False)

    def inverse_transform(self, X):
        """Return the rows or patches that codes stand for.

        Parameters
        ----------
        X : array-like of shape (n, k) or (n, h, w, k)
            Codes.

        Returns
        -------
        ndarray of shape (n, d) or (n, h, w, d)
            float32 stays float32, all else becomes float64.
        """
        check_is_fitted(self)
        codes = check_array(X, allow_nd=True, dtype=[np.float64, np.float32], input_name="X", estimator=self)
        if codes.ndim not in (2, 4) or codes.shape[-1] != len(self.components_):
            raise ValueError(
                f"X must be codes of shape (n, {len(self.components_)}) or (n, h, w, {len(self.components_)}), "
                f"got shape {codes.shape}."
            )
        check_magnitude(codes)
        patches = decode(codes.reshape(-1, codes.shape[-1]), self.components_)
        return patches.reshape(*codes.shape[:-1], -1).astype(codes.dtype, copy=False)

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags

    @property
    def _n_features_out(self):
        return len(self.components_)
