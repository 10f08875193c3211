"""Error of sparse codes over a dictionary of normal patches."""

from numbers import Integral, Real

import numpy as np
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import Interval, StrOptions

from .._kernels.sparse_coding import learn_dictionaries, omp_errors
from ._grids import GridScorer


class SparseCodingScorer(GridScorer):
    r"""Score rows or patch grids by how badly a few atoms of a dictionary of normal ones reconstruct them.

    A dictionary D of k atoms is learned online from normal patches, under an l1 penalty. A patch p scores the squared
    error of its code, found by orthogonal matching pursuit with s atoms; an image sums its largest errors:

    .. math::

        e_p = \lVert p - D a(p) \rVert^2, \quad \lVert a(p) \rVert_0 \le s, \qquad
        s^* = \sum_{\text{largest } n_{worst}} e_p

    Nothing is centred or scaled: do that before, and choose `alpha` for values of that scale.

    Parameters
    ----------
    n_components : int, default=5
        Number of atoms k; the default is MLF-SC's.
    n_nonzero_coefs : int, default=3
        Largest number of atoms s of a code; the default is MLF-SC's. At most d - 1 are used: d independent atoms
        reconstruct any patch.
    alpha : float, default=1
        Weight of the l1 norm while learning, at least 0.
    max_iter : int, default=20
        Largest number of passes over the patches of `fit`.
    batch_size : int, default=256
        Number of patches between two updates of the dictionary.
    tol : float, default=1e-3
        Share of the objective; learning ends when a pass lowers it by less.
    n_worst : int, default=5
        Number of patches of an image that are summed, the default is MLF-SC's; all, where a grid has fewer. A row is
        one patch.
    false_alarm_rate : float or None, default=0.05
        Share of normal samples that may be flagged, in (0, 1); None sets no threshold.
    calibration : {"cv", "split"}, default="cv"
        How thresholds are calibrated.

        - "cv": 10-fold cross-validation, with a dictionary for each fold: `fit` learns 11 of them. A few atoms learned
          from nine tenths of the patches hardly differ from those learned from all, so this loses little, and every
          sample counts.
        - "split": a random 20 % of the training samples are held out. Only this one carries the guarantee of
          split-conformal prediction.
    min_defect_area : int, default=1
        Smallest region in masks, in grid cells.
    random_state : int, RandomState instance or None, default=None
        Seed of the dictionary, the folds and the split.
    verbose : int, default=0
        If 1, a progress bar is shown.

    Attributes
    ----------
    components_ : ndarray of shape (k, d), float64
        Atoms.
    n_nonzero_coefs_ : int
        Largest number of atoms of a code: the smallest of `n_nonzero_coefs`, k and d - 1.
    n_iter_ : int
        Number of passes made while learning.
    offset_ : float
        Threshold on `score_samples`.
    pixel_threshold_ : float
        Threshold on maps.
    calibration_scores_, calibration_peaks_ : ndarray of shape (n,)
        Anomaly scores, and highest levels of the anomaly maps, that the two are taken from.
    calibration_indices_ : ndarray of shape (n,)
        Positions of these samples in the data of `fit` or `calibrate`.
    n_features_in_ : int
        Number of features d.

    See Also
    --------
    SparseCoding : The codes themselves.
    MLFSC : One such dictionary for each channel of a network's layers.

    Notes
    -----
    Thresholds hold for grids of at most as many cells as those of `fit` or `calibrate`: on larger ones, `predict` and
    `anomaly_mask` raise, while scores and maps work.

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

    def _prepare(self):
        if self.n_features_in_ == 1:
            raise ValueError(
                "X has 1 feature(s), and one atom reconstructs any value of it; SparseCodingScorer needs at least 2."
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
        scores = sum(worst.T)  # in a fixed order: bits must not depend on the batch
        return scores, errors.reshape(Z.shape[:3])
