"""Error of sparse codes over a dictionary of normal patches."""

from numbers import Integral, Real

import numpy as np
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import Interval, StrOptions

from .._inputs.arrays import check_patches
from .._kernels.sparse_coding import learn_dictionaries, omp_errors
from ..base import BaseDetector


class SparseCodingScorer(BaseDetector):
    r"""Score rows or patch grids by what few atoms of a dictionary of normal ones leave of them.

    A dictionary D of k atoms is learned online from normal patches, under an l1 penalty. A patch p scores the squared
    error of its code by orthogonal matching pursuit with s atoms; an image sums its largest errors:

    .. math::

        e_p = \lVert p - D a(p) \rVert^2, \quad \lVert a(p) \rVert_0 \le s, \qquad
        s^* = \sum_{\text{largest } n_{worst}} e_p

    Nothing is centred or scaled: do that before, and choose `alpha` for values of that scale.

    Parameters
    ----------
    n_components : int, default=5
        Number of atoms k.
    n_nonzero_coefs : int, default=3
        Most atoms s of a code. No more than d - 1 are used: d independent atoms leave nothing of any patch.
    alpha : float, default=1
        Weight of the l1 norm while learning, at least 0.
    max_iter : int, default=20
        Most passes over the patches of fit.
    batch_size : int, default=256
        Patches between two updates of the dictionary.
    tol : float, default=1e-3
        Learning ends when a pass lowers the objective by less than this share.
    n_worst : int, default=5
        Patches of an image that are summed; all, where a grid has fewer. A row is one patch.
    false_alarm_rate : float or None, default=0.05
        Share of normal samples that may be flagged, in (0, 1); None sets no threshold.
    calibration : {"cv", "split"}, default="cv"
        Which scores of normal samples set the threshold: of 10 folds, each with its own dictionary; of a held-out
        fifth of the samples. A few atoms learned from nine tenths of the patches hardly differ from those learned from
        all, so "cv" loses little and every sample counts; it takes 11 times as long to fit as "split".
    min_defect_area : int, default=1
        Smallest region in masks, in grid cells.
    random_state : int, RandomState instance or None, default=None
        Of the dictionary, and of the folds or the share.
    verbose : int, default=0
        Not used here.

    Attributes
    ----------
    components_ : ndarray of shape (k, d), float64
        The atoms.
    n_nonzero_coefs_ : int
        Most atoms of a code: the smallest of `n_nonzero_coefs`, k and d - 1.
    n_iter_ : int
        Passes made while learning.
    offset_ : float
        Threshold on `score_samples`.
    pixel_threshold_ : float
        Threshold on maps.
    calibration_scores_ : ndarray of shape (n,)
        Anomaly scores the threshold was taken from, ascending.
    n_features_in_ : int
        Number of features d.

    Notes
    -----
    Numbers of atoms and of errors summed are those of MLF-SC, which has one such dictionary per feature channel.

    Fitted on 1x1 grids, the thresholds hold for 1x1 grids only: `predict` and `anomaly_mask` on larger ones raise,
    scores and maps work.

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
        **BaseDetector._parameter_constraints,
        "n_components": [Interval(Integral, 1, None, closed="left")],
        "n_nonzero_coefs": [Interval(Integral, 1, None, closed="left")],
        "alpha": [Interval(Real, 0, None, closed="left")],
        "max_iter": [Interval(Integral, 1, None, closed="left")],
        "batch_size": [Interval(Integral, 1, None, closed="left")],
        "tol": [Interval(Real, 0, None, closed="left")],
        "n_worst": [Interval(Integral, 1, None, closed="left")],
        "calibration": [StrOptions({"cv", "split"})],
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

    def _check_samples(self, X, reset):
        min_samples = 2 if reset and self.false_alarm_rate else 1
        samples = check_patches(self, X, reset=reset, min_samples=min_samples, computed_in=np.float64)
        if reset and samples.shape[-1] == 1:
            raise ValueError(
                "X has 1 feature(s), of which one atom leaves nothing; SparseCodingScorer needs 2 or more."
            )
        return samples

    def _check_decides(self, X, method):
        if self._fitted_cells == 1 and getattr(X, "ndim", 2) == 4 and X.shape[1] * X.shape[2] > 1:
            raise ValueError(
                f"{method}: this SparseCodingScorer was fitted on 1x1 grids, its threshold does not hold for images of "
                f"{X.shape[1]}x{X.shape[2]} patches. Fit it on grids, or wrap the pipeline in ConformalDetector; "
                "score_samples and anomaly_map work as they are."
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
        self._fitted_cells = Z.shape[1] * Z.shape[2]

    def _score(self, Z):
        errors = omp_errors(Z.reshape(-1, Z.shape[-1]), self.components_, self.n_nonzero_coefs_).reshape(len(Z), -1)
        worst = np.sort(errors, axis=1)[:, : -self.n_worst - 1 : -1]
        scores = sum(worst.T)  # in a fixed order: bits must not depend on the batch
        return scores, errors.reshape(Z.shape[:3])
