"""Sparse coding with a learned dictionary."""

from numbers import Integral, Real

import numpy as np
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils import check_array, check_random_state
from sklearn.utils._param_validation import Interval
from sklearn.utils.validation import check_is_fitted

from .._doc_links import DocLinkMixin
from .._inputs.arrays import check_magnitude, check_patches
from .._kernels.checks import require
from .._kernels.sparse_coding import decode, learn_dictionaries, omp_codes
from ..base import all_or_nothing


class SparseCoding(ClassNamePrefixFeaturesOutMixin, TransformerMixin, DocLinkMixin, BaseEstimator):
    r"""Code rows or patches as combinations of few atoms of a learned dictionary.

    The dictionary D of k atoms is learned online with an l1 penalty; rows are then coded by orthogonal matching
    pursuit with at most s atoms each:

    .. math::

        \min_{D, a} \sum_i \tfrac{1}{2} \lVert x_i - D a_i \rVert^2 + \alpha \lVert a_i \rVert_1, \;
        \lVert d_j \rVert \le 1, \qquad
        a(x) \approx \arg\min_{\lVert a \rVert_0 \le s} \lVert x - D a \rVert^2

    The data are neither centred nor scaled: do so beforehand, and choose `alpha` for the scale of the values.

    Parameters
    ----------
    n_components : int, default=5
        Number of atoms k; the default is that of MLF-SC.
    n_nonzero_coefs : int, default=3
        Largest number of atoms s in a code; the default is that of MLF-SC.
    alpha : float, default=1
        Weight of the l1 norm during learning, non-negative.
    max_iter : int, default=20
        Largest number of passes over the rows (patches).
    batch_size : int, default=256
        Number of rows between two updates of the dictionary.
    tol : float, default=1e-3
        Tolerance of the stopping rule: learning ends when a pass lowers the objective by less than this share of it.
    random_state : int, RandomState instance or None, default=None
        Seed of the order of the rows and the first atoms. Pass an int for reproducible results.

    Attributes
    ----------
    components_ : ndarray of shape (k, d), float64
        Atoms of the dictionary.
    n_iter_ : int
        Number of passes over the rows.
    n_features_in_ : int
        Number of features seen during `fit`.
    feature_names_in_ : ndarray of shape (`n_features_in_`,)
        Names of features seen during `fit`. Defined only when `X` has feature names that are all strings.

    See Also
    --------
    MLFSC : Detector that codes the patches of every feature channel.
    RandomProjection : Project rows or patches onto fewer features.
    SparseCodingScorer : Score rows or patches by how badly a dictionary reconstructs them.
    sklearn.decomposition.MiniBatchDictionaryLearning : Dictionary learning for rows only.

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
        """Learn the dictionary from all rows, or all patches of all grids.

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

    def _check_state(self):
        """Raise a ValueError if attributes from a model file do not fit together."""
        if hasattr(self, "components_"):
            require(self.components_.shape[1] == self.n_features_in_, "components_ has another shape")
            require(np.isfinite(self.components_).all(), "components_ is not finite")

    def transform(self, X):
        """Code rows or patches.

        Parameters
        ----------
        X : array-like of shape (n, d) or (n, h, w, d)
            Rows or patch grids; the rank may differ from that in `fit`.

        Returns
        -------
        ndarray of shape (n, k) or (n, h, w, k)
            Codes. float32 input stays float32; any other dtype becomes float64.
        """
        check_is_fitted(self)
        grid = check_patches(self, X, reset=False)
        n_nonzero = min(self.n_nonzero_coefs, len(self.components_))
        codes = omp_codes(grid.reshape(-1, grid.shape[-1]), self.components_, n_nonzero)
        shape = (*grid.shape[:-1], -1) if getattr(X, "ndim", 2) == 4 else codes.shape
        return codes.reshape(shape).astype(grid.dtype, copy=False)

    def inverse_transform(self, X):
        """Reconstruct rows or patches from their codes.

        Parameters
        ----------
        X : array-like of shape (n, k) or (n, h, w, k)
            Codes.

        Returns
        -------
        ndarray of shape (n, d) or (n, h, w, d)
            Reconstructions. float32 input stays float32; any other dtype becomes float64.
        """
        check_is_fitted(self)
        codes = check_array(X, allow_nd=True, dtype=[np.float64, np.float32], input_name="X", estimator=self)
        if codes.ndim not in (2, 4) or codes.shape[-1] != len(self.components_):
            raise ValueError(
                f"X must be an array of codes of shape (n, {len(self.components_)}) or "
                f"(n, h, w, {len(self.components_)}), got shape {codes.shape}."
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
