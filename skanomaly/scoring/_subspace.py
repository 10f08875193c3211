"""Distance to the principal subspace of the normal patches."""

from numbers import Integral

import numpy as np
from sklearn.utils._param_validation import Interval, RealNotInt, StrOptions

from .._kernels.checks import require
from .._kernels.gaussian import Moments, add_samples, check_moments, empty_moments, merge_moments, unpack
from .._kernels.levels import level
from .._kernels.projection import squared_lengths
from ..base import IncrementalMixin
from ._grids import GridScorer, check_rows


class SubspaceScorer(IncrementalMixin, GridScorer):
    r"""Score rows or patch grids by their squared distance to the principal subspace of normal ones.

    All normal patches, of all positions, have the mean :math:`\mu` and the principal components P, of which the first
    few are kept. The score of a patch z is its squared residual

    .. math::

        s(z) = \lVert (z - \mu) - P P^T (z - \mu) \rVert^2

    and the score of an image is its highest patch score, unless `image_score` says otherwise. A row is a 1x1 grid.

    Columns are not scaled; standardise them beforehand if they have different units.

    Parameters
    ----------
    n_components : float or int, default=0.99
        Number of components that are kept. A share in (0, 1) stands for the smallest number that explains at least this
        share of the variance. At most d - 1 are kept, because d components reconstruct any patch, and no more than
        there are directions in which the training patches vary.
    image_score : {"max", "mean"} or float, default="max"
        Score of an image: the highest score of its cells, their mean, or the mean over this share of its highest cells,
        in (0, 1). The share is rounded to whole cells, at least one.
    false_alarm_rate : float or None, default=0.05
        Share of normal samples that may be flagged, in (0, 1); None sets no threshold.
    calibration : {"loo", "cv", "split"}, default="cv"
        How thresholds are calibrated.

        - "loo" scores each training sample by the components of the other samples (of the other groups, with `groups`),
          which are computed anew for each. This takes time proportional to the number of samples times d\ :sup:`3`.
        - "cv" uses 10-fold cross-validation.
        - "split" holds out a random 20 % of the samples. Only "split" carries the guarantee of split-conformal
          prediction.
    min_defect_area : int, default=1
        Area of the smallest region in masks, in grid cells.
    random_state : int, RandomState instance or None, default=None
        Seed of the folds and the split.
    verbose : int, default=0
        If 1, progress bars are shown.

    Attributes
    ----------
    mean_ : ndarray of shape (d,), float64
        Mean of the patches.
    scatter_ : ndarray of shape (d (d + 1) / 2,), float64
        Sum of the outer products of deviations from the mean, as a lower triangle stored row by row.
    n_samples_seen_ : int
        Number of patches behind the mean and the scatter.
    components_ : ndarray of shape (`n_components_`, d), float64
        Principal components that are kept, by falling variance. The entry of the largest magnitude is positive.
    explained_variance_ : ndarray of shape (`n_components_`,), float64
        Variance along each component.
    explained_variance_ratio_ : ndarray of shape (`n_components_`,), float64
        Share of the total variance along each component.
    n_components_ : int
        Number of components that are kept.
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
    GaussianScorer : Score by the Mahalanobis distance, in which all components count in units of their variance.
    KNNScorer : Score by the distance to the nearest normal patches.
    sklearn.decomposition.PCA : Project on the principal components.

    Notes
    -----
    SubspaceAD is this scorer behind the patch features of a vision transformer, fitted on all patches of a few normal
    images: ``make_pipeline(PretrainedPatchFeatures(backbone), SubspaceScorer(image_score=0.01))``, in
    `ConformalDetector` for a threshold. The paper averages middle layers of DINOv2 and fits on 30 rotations of each
    image.

    Thresholds hold for grids with at most as many cells as the grids in `fit` or `calibrate`. For larger grids,
    `predict` and `anomaly_mask` raise an error; scores and maps still work. Unless `image_score` is "max", `offset_`
    holds for grids of the same size only, because a mean over fewer cells varies more.

    Pickles hold the mean and the scatter; the components are recomputed on demand.

    References
    ----------
    Lendering, Akdag and Bondarev, "SubspaceAD: Training-Free Few-Shot Anomaly Detection via Subspace Modeling", CVPR
    2026, arXiv:2602.23013.

    Examples
    --------
    >>> from skanomaly import SubspaceScorer
    >>> line = [[-1.0, -2.0], [0.0, 0.0], [1.0, 2.0]]
    >>> scorer = SubspaceScorer(1, false_alarm_rate=None).fit(line)
    >>> scorer.score_samples([[3.0, 6.0], [2.0, -1.0]]).round(6) + 0
    array([ 0., -5.])
    """

    _parameter_constraints = {
        **GridScorer._parameter_constraints,
        "n_components": [Interval(RealNotInt, 0, 1, closed="neither"), Interval(Integral, 1, None, closed="left")],
        "image_score": [StrOptions({"max", "mean"}), Interval(RealNotInt, 0, 1, closed="neither")],
    }
    _computed_in = "float64"
    _private_state = {"_wanted_components": "int, float or None"}
    _derived = ("_axes",)

    def __init__(
        self,
        n_components=0.99,
        *,
        image_score="max",
        false_alarm_rate=0.05,
        calibration="cv",
        min_defect_area=1,
        random_state=None,
        verbose=0,
    ):
        self.n_components = n_components
        self.image_score = image_score
        self.false_alarm_rate = false_alarm_rate
        self.calibration = calibration
        self.min_defect_area = min_defect_area
        self.random_state = random_state
        self.verbose = verbose

    # ----------------------------------------------------------------------------------------- fitted attributes

    @property
    def components_(self):
        """Principal components (k, d) that are kept."""
        _, axes, k = self._principal_axes()
        return axes[:k].copy()

    @property
    def explained_variance_(self):
        """Variance (k,) along each component."""
        values, _, k = self._principal_axes()
        return values[:k] / max(self.n_samples_seen_ - 1, 1)

    @property
    def explained_variance_ratio_(self):
        """Share (k,) of the total variance along each component."""
        values, _, k = self._principal_axes()
        return values[:k] / values.sum() if k else values[:0]

    @property
    def n_components_(self):
        """Number k of components that are kept."""
        return self._principal_axes()[2]

    def contributions(self, X):
        """Compute the share of each column in the anomaly scores of rows; they sum to ``-score_samples(X)``.

        Parameters
        ----------
        X : array-like of shape (n, d)
            Rows.

        Returns
        -------
        ndarray of shape (n, d), float64
            Shares of the columns, the squared entries of the residual, in the order of the columns of `X`.
        """
        deviations = _patches(check_rows(self, X)) - self.mean_
        _, axes, k = self._principal_axes()
        return np.square(deviations @ axes[k:].T @ axes[k:])

    # ----------------------------------------------------------------------------------------- fitting

    def _fit(self, Z):
        self._take_over(_moments_of(_patches(Z)))
        self._principal_axes()

    def _add(self, Z):
        moments = _moments_of(_patches(Z))
        self._take_over(merge_moments(moments, self._moments()) if hasattr(self, "scatter_") else moments)

    def _absorb(self, other):
        if other.n_features_in_ != self.n_features_in_:
            raise ValueError(
                f"other was fitted on {other.n_features_in_} features, but this SubspaceScorer on "
                f"{self.n_features_in_}; the two cannot be merged."
            )
        theirs = Moments(other.n_samples_seen_, other.mean_[None], other.scatter_[None])
        self._take_over(merge_moments(self._moments().copy(), theirs))

    def _check_state(self):
        super()._check_state()
        if hasattr(self, "scatter_"):
            require(len(self.mean_) == self.features_.n_features_in_, "mean_ has another width than the samples")
            check_moments(self._moments())

    def _moments(self):
        return Moments(self.n_samples_seen_, self.mean_[None], self.scatter_[None])

    def _take_over(self, moments):
        self.n_samples_seen_, (self.mean_,), (self.scatter_,) = moments
        self._wanted_components = self.n_components

    def _principal_axes(self):
        """Return the scatter along all axes, these axes, and the number that is kept."""
        if not hasattr(self, "scatter_"):
            raise AttributeError("this SubspaceScorer is not fitted")
        return self._derived_state("_axes", lambda: _diagonalized(self.scatter_, self._wanted_components))

    # ----------------------------------------------------------------------------------------- scoring

    def _score(self, Z, maps=True):
        _, axes, k = self._principal_axes()
        return self._summarize(squared_lengths(_patches(Z), self.mean_, axes[k:]), Z.shape)

    def _leave_one_out(self, Z, groups):
        groups = np.repeat(groups, Z.shape[1] * Z.shape[2])  # the cells of an image leave together
        order = np.argsort(groups, kind="stable")
        patches, bounds = _patches(Z)[order], np.cumsum([0, *np.bincount(groups)])
        residuals = np.empty(len(patches))
        for own, moments in _moments_of_others(patches, bounds, empty_moments(1, patches.shape[1], np.float64)):
            _, axes, k = _diagonalized(moments.scatter[0], self.n_components)
            residuals[order[own]] = squared_lengths(patches[own], moments.mean[0], axes[k:])
        return self._summarize(residuals, Z.shape)

    def _summarize(self, residuals, shape):
        """Return the scores of images, and those of patches as grids."""
        grids = residuals.reshape(shape[:3])
        return np.array([level(grid.ravel(), self.image_score) for grid in grids]), grids


def _patches(Z):
    return np.ascontiguousarray(Z, dtype=np.float64).reshape(-1, Z.shape[-1])


def _moments_of(patches):
    return add_samples(empty_moments(1, patches.shape[1], np.float64), patches[:, None])


def _moments_of_others(patches, bounds, outside):
    """Yield the slice of each group of patches, and the moments of all other patches.

    Moments are never subtracted, so that a group of outliers takes no digits of the others along.

    Parameters
    ----------
    patches : ndarray of shape (n, d)
        One group after another.
    bounds : ndarray of shape (n_groups + 1,), int
        Where the groups begin, and where the last one ends.
    outside : Moments
        Moments of the patches outside these bounds.
    """
    if len(bounds) == 2:
        yield slice(*bounds), outside
        return
    middle = len(bounds) // 2
    halves = bounds[: middle + 1], bounds[middle:]
    for half, other in (halves, halves[::-1]):
        added = add_samples(outside.copy(), patches[other[0] : other[-1], None])
        yield from _moments_of_others(patches, half, added)


def _diagonalized(scatter, n_components):
    """Return the scatter (d,) along the principal axes, the axes (d, d) as rows, and how many are to be kept."""
    values, vectors = np.linalg.eigh(unpack(scatter))  # reads the lower triangle
    values, axes = np.maximum(values[::-1], 0), vectors.T[::-1]
    d = len(values)
    axes = axes * np.sign(axes[np.arange(d), np.abs(axes).argmax(axis=1)])[:, None]
    rank = np.count_nonzero(values > d * np.finfo(float).eps * values[0])
    if isinstance(n_components, Integral):
        wanted = n_components
    else:
        explained = np.cumsum(values)
        wanted = 1 + np.searchsorted(explained, n_components * explained[-1])
    return values, axes, int(min(wanted, rank, d - 1))
