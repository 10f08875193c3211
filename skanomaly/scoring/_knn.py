"""Distance to the nearest normal patches."""

from functools import partial
from numbers import Integral
from typing import NamedTuple

import numpy as np
from scipy.special import logsumexp
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import Interval, Options, StrOptions

from .._kernels.approximate_neighbors import build_graph, search_graph
from .._kernels.checks import require
from .._kernels.neighbors import k_nearest
from .._kernels.pruned_neighbors import build_index, search_index
from ._grids import GridScorer, check_rows

_ON_CPU = ("pruned", "pynndescent")
_WORTH_PRUNING = 512  # number of bank rows above which the index pays off


class KNNScorer(GridScorer):
    r"""Score rows or patch grids by the distance to their nearest neighbours in a bank of normal ones.

    The score of a patch is its mean Euclidean (not squared) distance to the k nearest bank rows. The score of an image
    is its highest patch score, optionally re-weighted as in PatchCore:

    .. math::

        s^* = \max_p \frac{1}{k} \sum_{m \in N_k(p)} \lVert p - m \rVert_2, \qquad
        s = \Bigl( 1 - \frac{e^{\lVert p^* - m^* \rVert}}{\sum_{m \in N_b(m^*)} e^{\lVert p^* - m \rVert}} \Bigr) s^*

    where p* is the patch with the highest score, m* its nearest bank row, and N_b(m*) the b bank rows nearest to m*,
    including m* itself. A row is a 1x1 grid.

    Parameters
    ----------
    n_neighbors : int, default=1
        Number k of bank patches whose distances are averaged.
    reweight : int or False, default=False
        Number b of bank patches in the re-weighting; False for none.
    algorithm : {"auto", "pruned", "brute", "pynndescent"}, default="auto"
        Algorithm that finds the nearest bank rows.

        - "brute" computes all distances by matrix multiplication.
        - "pruned" is exact as well; it skips most distances by the triangle inequality.
        - "auto" uses "pruned" for banks of at least 512 rows, and "brute" for smaller ones and on a GPU.
        - "pynndescent" searches a graph, in time that hardly grows with the bank. It may miss the nearest row, so that
          distances are too large. Compilation at its first use takes about a minute. Needs pynndescent, the extra
          `approximate`.

        "pruned" and "pynndescent" run on the CPU only.
    device : {"auto", "cpu", "cuda", "mps"}, default="cpu"
        Device on which distances are computed; "auto" takes CUDA, then MPS, then the CPU. The bank is copied to a GPU
        once. A new value takes effect immediately on a fitted scorer, so that models may be fitted on one device and
        used on another.
    false_alarm_rate : float or None, default=0.05
        Share of normal samples that may be flagged, in (0, 1); None sets no threshold.
    calibration : {"loo", "cv", "split"}, default="loo"
        How thresholds are calibrated.

        - "loo" scores each training sample by the bank without the patches of that sample (of its group, with
          `groups`), which is almost the bank that scores fresh samples.
        - "cv" uses 10-fold cross-validation.
        - "split" holds out a random 20 % of the samples. Only "split" carries the guarantee of split-conformal
          prediction.
    min_defect_area : int, default=1
        Area of the smallest region in masks, in grid cells.
    random_state : int, RandomState instance or None, default=None
        Seed of the folds, the split and the graph.
    verbose : int, default=0
        If 1, progress bars are shown.

    Attributes
    ----------
    bank_ : ndarray of shape (m, d)
        Patches of the training samples.
    bank_images_ : ndarray of shape (m,), int64
        Index of the training sample that each patch comes from.
    reweight_ : int
        Number of bank patches in the re-weighting: `reweight`, or fewer if the bank is smaller, for "loo" without the
        rows of any one group; 0 for none.
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
    GaussianScorer : Score by the Mahalanobis distance to a Gaussian.
    SubspaceScorer : Score by the squared distance to the principal subspace.
    GreedyCoreset : Reduce the bank to the patches that cover all others best.
    PatchCore : Detector that combines pretrained features, a coreset and nearest neighbours.

    Notes
    -----
    Thresholds hold for grids with at most as many cells as the grids in `fit` or `calibrate`. For larger grids,
    `predict` and `anomaly_mask` raise an error; scores and maps still work. This concerns scorers fitted on rows or
    behind `GreedyCoreset`; wrap such a pipeline in `ConformalDetector`, which calibrates it as a whole.

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
        **GridScorer._parameter_constraints,
        "n_neighbors": [Interval(Integral, 1, None, closed="left")],
        "reweight": [Interval(Integral, 2, None, closed="left"), Options(bool, {False})],
        "algorithm": [StrOptions({"auto", "pruned", "brute", "pynndescent"})],
        "device": [StrOptions({"auto", "cpu", "cuda", "mps"})],
    }

    _derived = ("_search", "_gpu_search")
    _private_state = {"_graph_seed": "int"}

    def __init__(
        self,
        n_neighbors=1,
        *,
        reweight=False,
        algorithm="auto",
        device="cpu",
        false_alarm_rate=0.05,
        calibration="loo",
        min_defect_area=1,
        random_state=None,
        verbose=0,
    ):
        self.n_neighbors = n_neighbors
        self.reweight = reweight
        self.algorithm = algorithm
        self.device = device
        self.false_alarm_rate = false_alarm_rate
        self.calibration = calibration
        self.min_defect_area = min_defect_area
        self.random_state = random_state
        self.verbose = verbose

    def _fit(self, Z):
        n, height, width, d = Z.shape
        self.set_bank(Z.reshape(-1, d), np.repeat(np.arange(n), height * width))

    @property
    def _computed_in(self):
        return "float32" if self.algorithm == "pynndescent" else None

    def set_bank(self, bank, images):
        """Use a given bank of patches.

        Parameters
        ----------
        bank : ndarray of shape (m, d)
            Patches.
        images : ndarray of shape (m,), int
            Index of the training sample that each patch comes from.

        Returns
        -------
        self
            Fitted estimator.

        Raises
        ------
        ValueError
            If the device is not available, `algorithm` does not run on it, or there are fewer patches than
            `n_neighbors`.
        """
        if len(bank) < self.n_neighbors:
            raise ValueError(
                f"n_neighbors={self.n_neighbors} is larger than the number of patches in the bank, {len(bank)}; lower "
                "it, or keep more patches."
            )
        self._gpu(bank.dtype)
        self._forget_derived()
        self.bank_, self.bank_images_ = bank, images
        self.reweight_ = min(self.reweight, len(bank)) if self.reweight else 0
        if getattr(getattr(self, "features_", None), "n_features_in_", None) != bank.shape[1]:
            self.features_ = self.default_features()
            self.features_.n_features_in_, self.features_.dtype_ = bank.shape[1], bank.dtype.name
            self._keep_settings()
        if self.algorithm == "pynndescent":
            self._graph_seed = int(check_random_state(self.random_state).randint(2**31))
        return self

    def contributions(self, X):
        r"""Compute the share of each column in the anomaly scores of rows; they sum to ``-score_samples(X)``.

        The share of column j in the distance of a row x to a neighbour m is :math:`(x_j - m_j)^2 / \lVert x - m
        \rVert`. Shares are averaged over the k neighbours and, with `reweight`, multiplied by the same factor as the
        score.

        Parameters
        ----------
        X : array-like of shape (n, d)
            Rows.

        Returns
        -------
        ndarray of shape (n, d), float64
            Shares of the columns, non-negative, in the order of the columns of `X`.
        """
        rows = self._patches(check_rows(self, X))
        shares = np.zeros(rows.shape)
        for distance, nearest in zip(*(found.T[..., None] for found in self.kneighbors(rows)), strict=True):
            squared = np.square(rows.astype(np.float64) - self.bank_[nearest[:, 0]])
            shares += squared / np.where(distance > 0, distance, 1)
        shares /= self.n_neighbors
        return shares * self.patch_weights(rows)[:, None] if self.reweight else shares

    def _gpu(self, dtype):
        """Return the GPU that is searched on, or None for the CPU, which needs no torch."""
        if self.device == "cpu" or (self.device == "auto" and self.algorithm in _ON_CPU):
            return None
        if self.algorithm in _ON_CPU:
            raise ValueError(
                f"algorithm={self.algorithm!r} runs on the CPU only, but device={self.device!r}; set device='cpu', or "
                "algorithm='auto' or 'brute'."
            )
        from .._torch.device import resolve_gpu

        return resolve_gpu(self.device, dtype)

    def _check_state(self):
        super()._check_state()
        if not hasattr(self, "bank_"):
            return
        rows, d = self.bank_.shape
        require(
            (d, self.bank_.dtype) == (self.features_.n_features_in_, self.features_.dtype_), "bank_ has another width"
        )
        require(self.n_neighbors <= rows and 0 <= self.reweight_ <= min(rows, self.reweight), "bank_ has too few rows")
        require(np.isfinite(self.bank_).all() and (self.bank_images_ >= 0).all(), "bank_ is not finite")
        seeded = self.algorithm != "pynndescent" or 0 <= getattr(self, "_graph_seed", -1) < 2**31
        require(seeded, "the seed of the graph is missing")

    def _build_search(self):
        """Return the search of the bank on the CPU, a function of patches, k, bank groups and groups."""
        if self.algorithm == "pynndescent":
            return partial(_search_graph, build_graph(self.bank_, self._graph_seed), self.bank_)
        if self.algorithm == "pruned" or (self.algorithm == "auto" and len(self.bank_) >= _WORTH_PRUNING):
            return partial(search_index, build_index(self.bank_))
        return partial(k_nearest, self.bank_)

    def _build_gpu_search(self):
        """Return the search of the bank on the GPU, a function of the same arguments."""
        from .._torch import neighbors

        return partial(neighbors.k_nearest, neighbors.place_bank(self.bank_, self._gpu(self.bank_.dtype)))

    def kneighbors(self, patches, n_neighbors=None, groups=None, bank_groups=None):
        """Find the nearest rows of the bank.

        Parameters
        ----------
        patches : ndarray of shape (n, d)
            Patches, in the dtype of the bank.
        n_neighbors : int, default=None
            Number k of rows, at most the number of rows outside the largest group; None stands for the parameter
            `n_neighbors`.
        groups : ndarray of shape (n,), int, default=None
            Group of each patch; rows of the same group are not returned.
        bank_groups : ndarray of shape (m,), int, default=None
            Group of each bank row.

        Returns
        -------
        distances : ndarray of shape (n, k), float64
            Euclidean distances, ascending.
        indices : ndarray of shape (n, k), int64
            Indices of the rows in ``bank_``.
        """
        k = self.n_neighbors if n_neighbors is None else n_neighbors
        if self._gpu(self.bank_.dtype) is None:
            search = self._derived_state("_search", self._build_search)
        else:
            search = self._derived_state("_gpu_search", self._build_gpu_search)
        return search(patches, k, bank_groups, groups)

    def patch_scores(self, Z, left_out=None):
        """Compute the mean distance of each patch to its k nearest bank rows.

        Parameters
        ----------
        Z : ndarray of shape (n, h, w, d)
            Patch grids.
        left_out : LeftOut, default=None
            Groups whose own rows are not used; None uses the whole bank.

        Returns
        -------
        ndarray of shape (n, h, w), float64
            Scores of the patches: higher is more anomalous.
        """
        patches, cells = self._patches(Z), Z.shape[1] * Z.shape[2]
        if left_out is None:
            return self.kneighbors(patches)[0].mean(axis=1).reshape(Z.shape[:3])
        self._check_left_out(left_out)
        distances, _ = self.kneighbors(patches, None, np.repeat(left_out.groups, cells), left_out.bank_groups)
        for i, rows in enumerate(left_out.added):
            if len(rows):
                own = slice(i * cells, (i + 1) * cells)
                more, _ = k_nearest(rows, patches[own], min(self.n_neighbors, len(rows)))
                distances[own] = np.sort(np.hstack([distances[own], more]), axis=1)[:, : self.n_neighbors]
        return distances.mean(axis=1).reshape(Z.shape[:3])

    def patch_weights(self, patches, left_out=None):
        """Compute the factors of the re-weighting: 1 minus the softmax share of m* among its neighbours.

        Parameters
        ----------
        patches : ndarray of shape (n, d)
            Patch p* of each sample.
        left_out : LeftOut, default=None
            Groups whose own rows are not used; None uses the whole bank.

        Returns
        -------
        ndarray of shape (n,), float64
            Factors of s*, all 1 if `reweight` is False.
        """
        if left_out is not None:  # future scores must be weighted alike
            self.reweight_ = min(self.reweight_, self._check_left_out(left_out))
        if self.reweight_ < 2:
            return np.ones(len(patches))
        patches = patches.astype(self.bank_.dtype, copy=False)
        nearest = self._nearest_rows(patches, 1, left_out)[:, 0]
        around = self._nearest_rows(nearest, self.reweight_, left_out)
        own_distance = np.linalg.norm(patches.astype(np.float64) - nearest, axis=1)
        distances = np.linalg.norm(patches[:, None].astype(np.float64) - around, axis=2)
        return 1 - np.exp(own_distance - logsumexp(distances, axis=1))

    def _score(self, Z, maps=True):
        return self._weighted(Z, self.patch_scores(Z))

    def _leave_one_out(self, Z, groups):
        left_out = LeftOut(groups, groups[self.bank_images_])
        return self._weighted(Z, self.patch_scores(Z, left_out), left_out)

    def _weighted(self, Z, grids, left_out=None):
        """Return the image scores and the grids."""
        scores, top = highest_cells(grids)
        if self.reweight:
            scores = scores * self.patch_weights(Z[(np.arange(len(Z)), *top)], left_out)
        return scores, grids

    def _check_left_out(self, left_out):
        """Return the smallest number of rows left, or raise if it is too small."""
        fewest = len(self.bank_) - np.bincount(left_out.bank_groups).max()
        if fewest < self.n_neighbors:
            raise ValueError(
                f"n_neighbors={self.n_neighbors} is too large for calibration='loo': without one sample, the bank has "
                f"{fewest} rows. Fit on more samples or keep more of their patches, lower n_neighbors, or set "
                "false_alarm_rate=None."
            )
        return fewest

    def _nearest_rows(self, patches, k, left_out):
        """Return the k rows (n, k, d) of the bank that are nearest to each patch, one patch per sample."""
        if left_out is None:
            return self.bank_[self.kneighbors(patches, k)[1]]
        rows = self.bank_[self.kneighbors(patches, k, left_out.groups, left_out.bank_groups)[1]]
        for i, extra in enumerate(left_out.added):
            if len(extra):
                candidates = np.concatenate([rows[i], extra])
                distances = np.linalg.norm(candidates.astype(np.float64) - patches[i], axis=1)
                rows[i] = candidates[np.argsort(distances, kind="stable")[:k]]
        return rows

    def _patches(self, Z):
        return Z.reshape(-1, Z.shape[-1]).astype(self.bank_.dtype, copy=False)


def _search_graph(graph, bank, patches, k, bank_groups, groups):
    """Search the graph, and the bank itself for patches around which the graph has too few rows of other groups."""
    distances, rows = search_graph(graph, bank, patches, k, bank_groups, groups)
    poor = np.isinf(distances[:, -1])
    if poor.any():
        own = None if groups is None else groups[poor]
        distances[poor], rows[poor] = k_nearest(bank, patches[poor], k, bank_groups, own)
    return distances, rows


class LeftOut(NamedTuple):
    """Banks without the rows of each sample's own group.

    Attributes
    ----------
    groups : ndarray of shape (n,), int
        Group of each sample, an integer that starts at 0.
    bank_groups : ndarray of shape (m,), int
        Group of each bank row.
    added : sequence of ndarray of shape (m_i, d), default=()
        For each sample, rows that are added to the bank that scores it; empty for none at all.
    """

    groups: np.ndarray
    bank_groups: np.ndarray
    added: tuple = ()


def highest_cells(grids):
    """Find the highest cell of each grid.

    Parameters
    ----------
    grids : ndarray of shape (n, h, w)
        Score grids.

    Returns
    -------
    scores : ndarray of shape (n,)
        Highest scores.
    cells : tuple of ndarray of shape (n,), int
        Row and column of the highest cells; ties go to the first one.
    """
    top = grids.reshape(len(grids), -1).argmax(axis=1)
    cells = np.unravel_index(top, grids.shape[1:])
    return grids[(np.arange(len(grids)), *cells)], cells
