"""Error of sparse codes over a dictionary of normal patches."""

from numbers import Integral, Real

import numpy as np
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import Interval, StrOptions

from .._kernels.checks import require
from .._kernels.sparse_coding import learn_dictionaries, omp_errors
from ._grids import GridScorer


class SparseCodingScorer(GridScorer):
    r"""Score rows or patch grids by the error of their sparse codes over a dictionary of normal ones.

    A dictionary D of k atoms is learned online from normal patches, under an l1 penalty. The score of a patch p is the
    squared error of its code, found by orthogonal matching pursuit with s atoms; the score of an image is the sum of
    its largest errors:

    .. math::

        e_p = \lVert p - D a(p) \rVert^2, \quad \lVert a(p) \rVert_0 \le s, \qquad
        s^* = \sum_{\text{largest } n_{worst}} e_p

    Patches are neither centred nor scaled; do so beforehand if needed, and choose `alpha` to suit their scale.

    Parameters
    ----------
    n_components : int, default=5
        Number k of atoms.
    n_nonzero_coefs : int, default=3
        Largest number s of atoms in a code. At most d - 1 are used, because d independent atoms reconstruct any patch.
    alpha : float, default=1
        Weight of the l1 norm in dictionary learning, at least 0.
    max_iter : int, default=20
        Largest number of passes over the patches.
    batch_size : int, default=256
        Number of patches between two updates of the dictionary.
    tol : float, default=1e-3
        Relative tolerance: learning stops when a pass lowers the objective by less than this share.
    n_worst : int, default=5
        Number of patches whose errors are summed to the score of an image; all, if a grid has fewer.
    false_alarm_rate : float or None, default=0.05
        Share of normal samples that may be flagged, in (0, 1); None sets no threshold.
    calibration : {"cv", "split"}, default="cv"
        How thresholds are calibrated.

        - "cv" uses 10-fold cross-validation and learns 11 dictionaries. Dictionaries learned from nine tenths of the
          samples hardly differ from the dictionary learned from all samples, so the threshold is nearly exact.
        - "split" holds out a random 20 % of the samples. Only "split" carries the guarantee of split-conformal
          prediction.
    min_defect_area : int, default=1
        Area of the smallest region in masks, in grid cells.
    random_state : int, RandomState instance or None, default=None
        Seed of the dictionary, the folds and the split.
    verbose : int, default=0
        If 1, progress bars are shown.

    Attributes
    ----------
    components_ : ndarray of shape (k, d), float64
        Atoms.
    n_nonzero_coefs_ : int
        Largest number of atoms in a code: the smallest of `n_nonzero_coefs`, k and d - 1.
    n_iter_ : int
        Number of passes made over the patches.
    offset_ : float
        Threshold on `score_samples`.
    pixel_threshold_ : float
        Threshold on maps.
    calibration_scores_ : ndarray of shape (n,)
        Anomaly scores of the calibration samples, from which `offset_` is set.
    calibration_peaks_ : ndarray of shape (n,)
        Peaks of their anomaly maps, from which `pixel_threshold_` is set.
    calibration_indices_ : ndarray of shape (n,)
        Positions of the calibration samples in the data of `fit` or `calibrate`.
    n_features_in_ : int
        Number of features d seen during `fit`.
    feature_names_in_ : ndarray of shape (`n_features_in_`,)
        Names of features seen during `fit`. Defined only when `X` has feature names that are all strings.

    See Also
    --------
    SparseCoding : Compute the codes themselves.
    MLFSC : Detector with a dictionary for each channel of pretrained features.

    Notes
    -----
    Thresholds hold for grids with at most as many cells as the grids in `fit` or `calibrate`. For larger grids,
    `predict` and `anomaly_mask` raise an error; scores and maps still work.

    References
    ----------
    LeapMind, "MLF-SC: Incorporating multi-layer features to sparse coding for anomaly detection", 2021,
    arXiv:2104.04289.
    Mairal et al., "Online dictionary learning for sparse coding", ICML 2009.

    Examples
    --------
    >>> import numpy as np
    >>> from skanomaly import SparseCodingScorer
    >>> X = np.repeat([[5.0, 5.0, 0.0], [0.0, 0.0, 5.0]], 50, axis=0)
    >>> scorer = SparseCodingScorer(2, n_nonzero_coefs=2, random_state=0).fit(X)
    >>> np.abs(scorer.score_samples([[2.0, 2.0, 5.0], [3.0, -3.0, 0.0]]).round(6))
    array([ 0., 18.])
    """

    _parameter_constraints = {
        **GridScorer._parameter_constraints,
        "n_components": [Interval(Integral, 1, None, closed="left")],
        "n_nonzero_coefs": [Interval(Integral, 1, None, closed="left")],
        "alpha": [Interval(Real, 0, None, closed="left")],
        "max_iter": [Interval(Integral, 1, None, closed="left")],
        "batch_size": [Interval(Integral, 1, None, closed="left")],
        "tol": [Interval(Real, 0, None, closed="left")],
        "n_worst": [Interval(Integral, 1, None, closed="left")],
        "calibration": [StrOptions({"cv", "split"})],
    }

    _computed_in = "float64"

    def __init__(
        self,
        n_components=5,
        *,
        n_nonzero_coefs=3,
        alpha=1,
        max_iter=20,
        batch_size=256,
        tol=1e-3,
        n_worst=5,
        false_alarm_rate=0.05,
        calibration="cv",
        min_defect_area=1,
        random_state=None,
        verbose=0,
    ):
        self.n_components = n_components
        self.n_nonzero_coefs = n_nonzero_coefs
        self.alpha = alpha
        self.max_iter = max_iter
        self.batch_size = batch_size
        self.tol = tol
        self.n_worst = n_worst
        self.false_alarm_rate = false_alarm_rate
        self.calibration = calibration
        self.min_defect_area = min_defect_area
        self.random_state = random_state
        self.verbose = verbose

    def _check_state(self):
        super()._check_state()
        if hasattr(self, "components_"):
            k, d = self.components_.shape
            require(
                d == self.features_.n_features_in_ and np.isfinite(self.components_).all(), "components_ do not fit"
            )
            require(1 <= self.n_nonzero_coefs_ <= min(k, d), "n_nonzero_coefs_ is larger than the dictionary")

    def _prepare(self):
        if self.n_features_in_ == 1:
            raise ValueError(
                "X has 1 feature(s), any value of which one atom reconstructs; SparseCodingScorer needs at least 2."
            )

    def _fit(self, Z):
        patches = Z.reshape(-1, Z.shape[-1])
        self.components_, n_iter = learn_dictionaries(
            patches,
            self.n_components,
            check_random_state(self.random_state).randint(2**31 - 1),
            alpha=self.alpha,
            max_iter=self.max_iter,
            batch_size=self.batch_size,
            tol=self.tol,
        )
        self.n_iter_ = int(n_iter)
        self.n_nonzero_coefs_ = min(self.n_nonzero_coefs, self.n_components, patches.shape[1] - 1)

    def _score(self, Z, maps=True):
        errors = omp_errors(Z.reshape(-1, Z.shape[-1]), self.components_, self.n_nonzero_coefs_).reshape(len(Z), -1)
        worst = np.sort(errors, axis=1)[:, : -self.n_worst - 1 : -1]
        scores = sum(worst.T)  # in a fixed order, so that bits do not depend on the batch
        return scores, errors.reshape(Z.shape[:3])
