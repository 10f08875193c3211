"""PatchCore."""

from numbers import Real

import numpy as np
from sklearn.base import clone
from sklearn.utils._param_validation import HasMethods, Interval

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
        calibration="cv",
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
            self.features_ = clone(features).fit(X)
        return self.features_.check_samples(X)

    def _embed(self, samples):
        return self.features_.transform(samples)

    def _fit(self, Z):
        coreset = GreedyCoreset(
            self.coreset_ratio, projection=self.projection, random_state=self.random_state, verbose=self.verbose
        ).fit(Z)
        n, height, width, d = Z.shape
        self.coverage_radius_ = coreset.coverage_radius_
        self.scorer_ = KNNScorer(self.n_neighbors, reweight=self.reweight, false_alarm_rate=None)
        self.scorer_.set_bank(Z.reshape(-1, d)[coreset.indices_], coreset.indices_ // (height * width))

    def _score(self, Z):
        return self.scorer_._score(Z)

    def _leave_one_out(self, Z):
        return self.scorer_._leave_one_out(Z)

    def _render(self, grid, size):
        return self.features_.map_to_image(grid, size, self.sigma)
