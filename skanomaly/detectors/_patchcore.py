"""PatchCore."""

from numbers import Real

import numpy as np
from sklearn.base import clone
from sklearn.utils._param_validation import HasMethods, Interval
from tqdm import tqdm

from .._kernels.coreset import cover_again, covering_radius
from .._kernels.neighbors import k_nearest
from ..base import BaseDetector
from ..features import PretrainedPatchFeatures
from ..reduction import GreedyCoreset
from ..scoring import KNNScorer


class PatchCore(BaseDetector):
    """PLACEHOLDER."""

    _parameter_constraints = {
        **BaseDetector._parameter_constraints,
        "features": [HasMethods(["fit", "transform", "map_to_image"]), None],
        "coreset_ratio": GreedyCoreset._parameter_constraints["ratio"],
        "projection": GreedyCoreset._parameter_constraints["projection"],
        "n_neighbors": KNNScorer._parameter_constraints["n_neighbors"],
        "reweight": KNNScorer._parameter_constraints["reweight"],
        "sigma": [Interval(Real, 0, None, closed="left")],
    }
    _batch_len = 32

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

    def _check_samples(self, X, reset):
        if reset:
            features = PretrainedPatchFeatures(verbose=self.verbose) if self.features is None else self.features
            self.features_ = clone(features).fit(X, None)  # a FrozenEstimator insists on y
        return self.features_.check_samples(X)

    def _embed(self, samples):
        return self.features_.transform(samples)

    def _fit(self, Z):
        self.coreset_ = GreedyCoreset(
            self.coreset_ratio, projection=self.projection, random_state=self.random_state, verbose=self.verbose
        ).fit(Z)
        kept = self.coreset_.indices_
        self.scorer_ = KNNScorer(self.n_neighbors, reweight=self.reweight, false_alarm_rate=None)
        self.scorer_.set_bank(_rows(Z)[kept], _image_of_row(Z)[kept])

    def _score(self, Z):
        return self.scorer_._score(Z)

    def _leave_one_out(self, Z):
        """Score every image by a bank that covers all the others, but does not know it.

        The bank without an image's patches leaves holes: patches of other images that were nearest to one of these.
        Of such orphans, the farthest is added again and again until all lie within the radius of the full bank.
        """
        if len(Z) < 2:
            raise ValueError("calibration='loo' needs at least 2 images, got 1; set false_alarm_rate=None to go without.")
        scorer, rows = self.scorer_, _rows(Z)
        radius = covering_radius(rows, scorer.bank_, self.coreset_.labels_)
        lost_with = scorer.bank_images_[self.coreset_.labels_]
        orphans = np.flatnonzero(lost_with != _image_of_row(Z))
        distances, _ = k_nearest(scorer.bank_, rows[orphans], 1, scorer.bank_images_, lost_with[orphans])
        added = []
        for image in tqdm(range(len(Z)), desc="calibration", unit="image", disable=not self.verbose):
            chosen = lost_with[orphans] == image
            hole = rows[orphans[chosen]]
            added.append(hole[cover_again(hole, distances[chosen, 0], radius)])
        return scorer._leave_one_out(Z, added)

    def _render(self, grid, size):
        return self.features_.map_to_image(grid, size, self.sigma)


def _rows(Z):
    return Z.reshape(-1, Z.shape[-1])


def _image_of_row(Z):
    return np.repeat(np.arange(len(Z)), Z.shape[1] * Z.shape[2])
