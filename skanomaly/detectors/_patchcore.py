"""PatchCore."""

import numpy as np
from tqdm import tqdm

from .._kernels.coreset import cover_again, covering_radius
from ..reduction import GreedyCoreset
from ..scoring import KNNScorer
from ._features import FeatureDetector


class PatchCore(FeatureDetector):
    r"""PatchCore: distance to the nearest patch of a coreset of normal patches.

    The patch features of all training images (`PretrainedPatchFeatures`) are reduced to a bank M by the greedy k-centre
    rule (`GreedyCoreset`). The score of a test patch is its distance to the nearest bank patch; the score of an image
    is its highest patch score, re-weighted where the bank itself is sparse (`KNNScorer`):

    .. math::

        s^* = \max_p \min_{m \in M} \lVert p - m \rVert_2, \qquad
        s = \Bigl( 1 - \frac{e^{\lVert p^* - m^* \rVert}}{\sum_{m \in N_b(m^*)} e^{\lVert p^* - m \rVert}} \Bigr) s^*

    The map is the grid of patch scores, bilinearly enlarged and smoothed by a Gaussian.

    Parameters
    ----------
    features : transformer or None, default=None
        Features that turn images into patch grids; None is ``PretrainedPatchFeatures()``. Pass an object to choose or
        search its parameters (``features__layers``), or a `FrozenEstimator` of fitted features.
    coreset_ratio : float, default=0.1
        Share of the patches that is kept in the bank, in (0, 1].
    projection : int, transformer or None, default=None
        Projection in which the coreset is selected; see `GreedyCoreset`.
    n_neighbors : int, default=1
        Number of bank patches whose distances are averaged.
    reweight : int or False, default=9
        Number b of bank patches in the re-weighting; False for none.
    sigma : float, default=4.0
        Standard deviation of the Gaussian that smooths anomaly maps, in pixels of a 224 x 224 image.
    false_alarm_rate : float or None, default=0.05
        Share of normal samples that may be flagged, in (0, 1); None sets no threshold.
    calibration : {"loo", "cv", "split"}, default="loo"
        How thresholds are calibrated.

        - "loo" scores each training image by the bank without the patches of that image (of its group, with `groups`);
          if this leaves patches of other images uncovered, some of these are added.
        - "cv" uses 10-fold cross-validation and selects a bank for every fold.
        - "split" holds out a random 20 % of the images, which the bank never sees. Only "split" carries the guarantee
          of split-conformal prediction.
    min_defect_area : int, default=1
        Area of the smallest region in masks, in pixels.
    random_state : int, RandomState instance or None, default=None
        Seed of the coreset, the folds and the split.
    verbose : int, default=0
        If 1, progress bars are shown.

    Attributes
    ----------
    features_ : estimator
        Fitted features.
    coreset_ : GreedyCoreset
        Fitted coreset.
    scorer_ : KNNScorer
        Fitted scorer; ``scorer_.bank_`` is the bank.
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

    See Also
    --------
    SPADE : Distance to the nearest patches of the most similar images, without a coreset.
    PaDiM : Gaussian of normal patches at each position of the image.
    KNNScorer : The same score for given patch grids or rows.

    Notes
    -----
    Measured false alarms (`benchmarks/bench_thresholds.py`): 40 draws of 80 training images of MVTec's screw and 120
    fresh normal ones, lite0 features. Shares of fresh images flagged / with any masked pixel, for a false_alarm_rate of
    0.05 and 0.2; 95 % of such means would lie within .040-.059 and .180-.215 if the thresholds were exact:

    ===========  ==============  ============  ============
    calibration  coreset_ratio   0.05          0.2
    ===========  ==============  ============  ============
    "loo"        1 (at 112 px)   .047 / .047   .212 / .211
    "loo"        0.1             .043 / .044   .199 / .195
    "loo"        0.01            .038 / .036   .140 / .148
    ===========  ==============  ============  ============

    So "loo" is exact within the measurement error down to a ratio of 0.1, and errs on the safe side at 0.01, where it
    flags about three quarters of the requested share. It needs a single coreset, whereas "cv" needs 11.

    Variants: the authors' code is ``PatchCore(PretrainedPatchFeatures("wide_resnet50_2", image_size=256, crop=224,
    dim=1024), projection=128, reweight=False)``, which ranks images as their squared distances do; anomalib's is
    ``PatchCore(PretrainedPatchFeatures("wide_resnet50_2", image_size=256, crop=224),
    projection=SparseRandomProjection(eps=0.9))``.

    Pickles hold the parameters and the attributes above, not the network.

    References
    ----------
    Roth et al., "Towards Total Recall in Industrial Anomaly Detection", CVPR 2022, arXiv:2106.08265.

    Examples
    --------
    >>> from skanomaly import PatchCore, PretrainedPatchFeatures
    >>> from skanomaly.datasets import make_surfaces
    >>> data = make_surfaces("grid", n_train=20, n_good=2, n_anomalous=3, size=64, random_state=0)
    >>> features = PretrainedPatchFeatures(weights="random", image_size=64, random_state=0)  # a quick control
    >>> detector = PatchCore(features, random_state=0).fit(data.X_train)
    >>> detector.predict(data.X_test).shape, detector.anomaly_map(data.X_test).shape
    ((5,), (5, 64, 64))
    """

    _parameter_constraints = {
        **FeatureDetector._parameter_constraints,
        "coreset_ratio": GreedyCoreset._parameter_constraints["ratio"],
        "projection": GreedyCoreset._parameter_constraints["projection"],
        "n_neighbors": KNNScorer._parameter_constraints["n_neighbors"],
        "reweight": KNNScorer._parameter_constraints["reweight"],
    }

    def __init__(
        self,
        features=None,
        *,
        coreset_ratio=0.1,
        projection=None,
        n_neighbors=1,
        reweight=9,
        sigma=4.0,
        false_alarm_rate=0.05,
        calibration="loo",
        min_defect_area=1,
        random_state=None,
        verbose=0,
    ):
        self.features = features
        self.coreset_ratio = coreset_ratio
        self.projection = projection
        self.n_neighbors = n_neighbors
        self.reweight = reweight
        self.sigma = sigma
        self.false_alarm_rate = false_alarm_rate
        self.calibration = calibration
        self.min_defect_area = min_defect_area
        self.random_state = random_state
        self.verbose = verbose

    def _fit(self, Z):
        self.coreset_ = GreedyCoreset(
            self.coreset_ratio, projection=self.projection, random_state=self.random_state, verbose=self.verbose
        ).fit(Z)
        kept = self.coreset_.indices_
        self.scorer_ = KNNScorer(self.n_neighbors, reweight=self.reweight, false_alarm_rate=None)
        self.scorer_.set_bank(_rows(Z)[kept], _image_of_row(Z)[kept])

    def _score(self, Z, maps=True):
        return self.scorer_._score(Z, maps)

    def _leave_one_out(self, Z, groups):
        """Score each image by a bank that covers all other groups but has no patches of its own group.

        Removing the patches of a group from the bank leaves holes: patches of other groups whose nearest bank patch was
        removed. The farthest of these orphans is added repeatedly, until all lie within the radius of the full bank.
        """
        scorer, rows = self.scorer_, _rows(Z)
        bank_groups = groups[scorer.bank_images_]
        radius = covering_radius(rows, scorer.bank_, self.coreset_.labels_)
        lost_with = bank_groups[self.coreset_.labels_]
        orphans = np.flatnonzero(lost_with != groups[_image_of_row(Z)])
        distances, _ = scorer.kneighbors(rows[orphans], 1, lost_with[orphans], bank_groups)
        added = []
        for group in tqdm(range(groups.max() + 1), desc="calibration", unit="image", disable=not self.verbose):
            chosen = lost_with[orphans] == group
            hole = rows[orphans[chosen]]
            added.append(hole[cover_again(hole, distances[chosen, 0], radius)])
        return scorer.score_left_out(Z, groups, bank_groups, added)


def _rows(Z):
    return Z.reshape(-1, Z.shape[-1])


def _image_of_row(Z):
    return np.repeat(np.arange(len(Z)), Z.shape[1] * Z.shape[2])
