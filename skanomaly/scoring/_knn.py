"""Distance to the nearest normal patches."""

from numbers import Integral

import numpy as np
from scipy.special import logsumexp
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import Interval, Options, StrOptions

from .._inputs.arrays import check_patches
from .._kernels.approximate_neighbors import build_graph, search_graph
from .._kernels.neighbors import k_nearest
from .._kernels.pruned_neighbors import build_index, search_index
from ..base import BaseDetector

_WORTH_PRUNING = 512  # bank rows from which the index pays


class KNNScorer(BaseDetector):
    r"""Score rows or patch grids by the distance to their nearest neighbours in a bank of normal ones.

    A patch scores its mean Euclidean (not squared) distance to its k nearest bank rows; an image scores its highest
    patch, optionally re-weighted as in PatchCore:

    .. math::

        s^* = \max_p \frac{1}{k} \sum_{m \in N_k(p)} \lVert p - m \rVert_2, \qquad
        s = \Bigl( 1 - \frac{e^{\lVert p^* - m^* \rVert}}{\sum_{m \in N_b(m^*)} e^{\lVert p^* - m \rVert}} \Bigr) s^*

    with p* the highest patch, m* its nearest bank row, and N_b(m*) the b bank rows nearest to m*, itself included.

    Parameters
    ----------
    n_neighbors : int, default=1
        Neighbours k to average over.
    reweight : int or False, default=False
        Neighbours b of the re-weighting (anomalib uses 9); False for none.
    algorithm : {"auto", "pruned", "brute", "pynndescent"}, default="auto"
        "pruned" and "brute" are exact. "brute" multiplies matrices; "pruned" skips most distances by proof and is
        faster from a few hundred bank rows on, which is where "auto" takes it. "pynndescent" follows a graph, in
        time that hardly grows with the bank, and may miss the nearest row: distances are then too long. Its first
        use compiles for a minute.
    false_alarm_rate : float or None, default=0.05
        Share of normal samples that may be flagged, in (0, 1); None sets no threshold.
    calibration : {"loo", "cv", "split"}, default="loo"
        Which scores of normal samples set the threshold: of each training sample (image) against the bank without its
        own patches; of 10 folds; of a held-out fifth of the samples. A bank of all rows without the scored one is
        all but the bank that a fresh sample meets, hence the default.
    min_defect_area : int, default=1
        Smallest region in masks, in grid cells.
    random_state : int, RandomState instance or None, default=None
        Of the folds or the share, and of the graph.
    verbose : int, default=0
        Not used here.

    Attributes
    ----------
    bank_ : ndarray of shape (m, d)
        Patches of the fitted samples.
    bank_images_ : ndarray of shape (m,), int64
        The fitted sample each of them came from.
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
    Fitted on 1x1 grids (as after `GreedyCoreset`), the thresholds hold for 1x1 grids only: `predict` and
    `anomaly_mask` on larger ones raise, scores and maps work. `ConformalDetector` around the pipeline calibrates
    the whole.

    Pickles hold the attributes above.

    References
    ----------
    Roth et al., "Towards Total Recall in Industrial Anomaly Detection", CVPR 2022, arXiv:2106.08265, section 3.3.

    Examples
    --------
    >>> import numpy as np
    >>> from skanomaly import KNNScorer
    >>> scorer = KNNScorer(false_alarm_rate=None).fit([[0.0, 0.0], [1.0, 0.0]])
    >>> scorer.score_samples([[0.0, 3.0], [1.0, 0.0]])
    array([-3., -0.])
    """

    _parameter_constraints = {
        **BaseDetector._parameter_constraints,
        "n_neighbors": [Interval(Integral, 1, None, closed="left")],
        "reweight": [Interval(Integral, 2, None, closed="left"), Options(bool, {False})],
        "algorithm": [StrOptions({"auto", "pruned", "brute", "pynndescent"})],
    }

    def __init__(
        self,
        n_neighbors=1,
        *,
        reweight=False,
        algorithm="auto",
        false_alarm_rate=0.05,
        calibration="loo",
        min_defect_area=1,
        random_state=None,
        verbose=0,
    ):
        self.n_neighbors = n_neighbors
        self.reweight = reweight
        self.algorithm = algorithm
        self.false_alarm_rate = false_alarm_rate
        self.calibration = calibration
        self.min_defect_area = min_defect_area
        self.random_state = random_state
        self.verbose = verbose

    def _check_samples(self, X, reset):
        computed_in = None if reset else self.bank_.dtype
        if self.algorithm == "pynndescent":
            computed_in = np.float32
        return check_patches(self, X, reset=reset, computed_in=computed_in)

    def _check_decides(self, X, method):
        if self._fitted_cells == 1 and getattr(X, "ndim", 2) == 4 and X.shape[1] * X.shape[2] > 1:
            raise ValueError(
                f"{method}: this KNNScorer was fitted on 1x1 grids, its threshold does not hold for images of "
                f"{X.shape[1]}x{X.shape[2]} patches. Wrap the pipeline in ConformalDetector, or use PatchCore; "
                "score_samples and anomaly_map work as they are."
            )

    def _fit(self, Z):
        n, height, width, d = Z.shape
        if n * height * width < self.n_neighbors:
            raise ValueError(f"n_neighbors={self.n_neighbors} needs as many patches in fit, got {n * height * width}.")
        self.set_bank(Z.reshape(-1, d), np.repeat(np.arange(n), height * width))
        self._fitted_cells = height * width

    def set_bank(self, bank, images):
        """Take over a bank of patches.

        Parameters
        ----------
        bank : ndarray of shape (m, d)
        images : ndarray of shape (m,), int
            The training image each row came from.

        Returns
        -------
        self
        """
        self.bank_, self.bank_images_ = bank, images
        self.n_features_in_ = bank.shape[1]
        if self.algorithm == "pynndescent":
            self._graph_seed = int(check_random_state(self.random_state).randint(2**31))
        self._index = self._build_index()
        return self

    def __getstate__(self):
        return {name: value for name, value in super().__getstate__().items() if name != "_index"}

    def _build_index(self):
        """Return what `_search` needs beside the bank: derived from it, hence never pickled."""
        if self.algorithm == "pynndescent":
            return build_graph(self.bank_, self._graph_seed)
        pruned = self.algorithm == "pruned" or (self.algorithm == "auto" and len(self.bank_) >= _WORTH_PRUNING)
        return build_index(self.bank_) if pruned else None

    def _search(self, patches, k, images=None):
        """Return distances and bank rows of the k nearest, none of them from a patch's own image."""
        if not hasattr(self, "_index"):
            self._index = self._build_index()
        if self._index is None:
            return k_nearest(self.bank_, patches, k, self.bank_images_, images)
        if self.algorithm == "pynndescent":
            return self._search_graph(patches, k, images)
        return search_index(self._index, patches, k, self.bank_images_, images)

    def _search_graph(self, patches, k, images):
        """Search approximately; exactly for patches around which the graph is too poor in other images' rows."""
        distances, rows = search_graph(self._index, self.bank_, patches, k, self.bank_images_, images)
        poor = np.isinf(distances[:, -1])
        if poor.any():
            own = None if images is None else images[poor]
            distances[poor], rows[poor] = k_nearest(self.bank_, patches[poor], k, self.bank_images_, own)
        return distances, rows

    def _score(self, Z):
        patches = self._patches(Z)
        distances, _ = self._search(patches, self.n_neighbors)
        scores, grids, top = _summarize(distances, Z.shape)
        if self.reweight:
            scores = scores * self._weights(patches[top], len(self.bank_))
        return scores, grids

    def _leave_one_out(self, Z, added=None):
        """Score each sample i by the bank without its own rows, but with those of ``added[i]``."""
        patches, cells = self._patches(Z), Z.shape[1] * Z.shape[2]
        added = [self.bank_[:0]] * len(Z) if added is None else added
        fewest = len(self.bank_) - np.bincount(self.bank_images_).max()
        if fewest < self.n_neighbors:
            raise ValueError(
                f"calibration='loo': without one sample only {fewest} bank rows are left, n_neighbors="
                f"{self.n_neighbors} needs as many. Fit more samples, lower n_neighbors, or set false_alarm_rate=None."
            )
        distances, _ = self._search(patches, self.n_neighbors, np.repeat(np.arange(len(Z)), cells))
        for i, rows in enumerate(added):
            if len(rows):
                own = slice(i * cells, (i + 1) * cells)
                more, _ = k_nearest(rows, patches[own], min(self.n_neighbors, len(rows)))
                distances[own] = np.sort(np.hstack([distances[own], more]), axis=1)[:, : self.n_neighbors]
        scores, grids, top = _summarize(distances, Z.shape)
        if self.reweight:
            scores = scores * self._weights(patches[top], fewest, np.arange(len(Z)), added)
        return scores, grids

    def _weights(self, patches, n_bank, images=None, added=None):
        """Return the factor in front of s* for patches p*: 1 minus the softmax share of m* among its neighbours."""
        n_around = min(self.reweight, n_bank)
        if n_around < 2:
            return np.ones(len(patches))
        nearest = self._nearest_rows(patches, 1, images, added)[:, 0]
        around = self._nearest_rows(nearest, n_around, images, added)
        own_distance = np.linalg.norm(patches.astype(np.float64) - nearest, axis=1)
        distances = np.linalg.norm(patches[:, None].astype(np.float64) - around, axis=2)
        return 1 - np.exp(own_distance - logsumexp(distances, axis=1))

    def _nearest_rows(self, patches, k, images, added):
        """Return the k rows (n, k, d) of the bank that are nearest to each patch, one patch per image."""
        rows = self.bank_[self._search(patches, k, images)[1]]
        for i, extra in enumerate(added or ()):
            if len(extra):
                candidates = np.concatenate([rows[i], extra])
                distances = np.linalg.norm(candidates.astype(np.float64) - patches[i], axis=1)
                rows[i] = candidates[np.argsort(distances, kind="stable")[:k]]
        return rows

    def _patches(self, Z):
        return Z.reshape(-1, Z.shape[-1]).astype(self.bank_.dtype, copy=False)


def _summarize(distances, shape):
    """Return image scores, patch scores as grids, and the row of each image's highest patch."""
    n, height, width, _ = shape
    scores = distances.mean(axis=1).reshape(n, height * width)
    top = scores.argmax(axis=1) + height * width * np.arange(n)
    return scores.ravel()[top], scores.reshape(n, height, width), top
