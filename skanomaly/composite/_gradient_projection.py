"""Gradient projection of samples onto the normal ones, down the loss of a model."""

import copy
from collections import deque
from numbers import Integral, Real

import numpy as np
import torch
from sklearn.base import clone
from sklearn.frozen import FrozenEstimator
from sklearn.utils._param_validation import HasMethods, Interval, StrOptions
from sklearn.utils.validation import check_is_fitted

from .._inputs.samples import begin
from .._kernels.checks import require
from .._torch.descent import descend, with_gradient
from ..base import BaseDetector, all_or_nothing
from ..detectors import Autoencoder
from ..detectors._image_scores import image_scores
from ..detectors._reconstruction import join_samples, with_way_back

_MOST_ROWS = 256  # that are moved at a time, padding included


class GradientProjection(BaseDetector):
    r"""Gradient projection: score samples by how far they must move until a model of normal samples reconstructs them.

    An autoencoder f reconstructs normal samples x with a small loss L(x), but blurs normal detail next to a defect.
    Here x itself is moved, from the sample :math:`x_0` down the energy

    .. math:: E(x) = L(x) + \lambda \frac{1}{d} \|x - x_0\|_1,

    where d is the number of values of x; the second term, the anchor, keeps normal values unchanged. L is the loss of
    the `Autoencoder`; for a `VAE` with decoder variance :math:`\gamma`, it is the reconstruction term in units of
    :math:`d / 2 \gamma`, which is the mean squared residual up to a constant. The gradient is taken *through* f: for
    the mean square of the residual r = x - f(x), it is :math:`\frac{2}{d} (I - J_f(x))^T r`. A step moves x along the
    gradient g of d L, where the residual is large, and shrinks the distance to :math:`x_0` as the anchor requires (a
    proximal step),

    .. math:: x \leftarrow x_0 + \mathrm{soft}(x - x_0 - a\, m \odot g,\ a \lambda m), \qquad m = r \odot r,

    with soft(u, s) = sign(u) max(\|u\| - s, 0). Images are kept in [0, 1]. A sample stops when its loss is as low as
    the lowest of a training sample, when no step lowers E, or after `n_steps`. The published step, ``step="fixed"``,
    uses the subgradient of the anchor instead, with a = `alpha`,

    .. math:: x \leftarrow x - \alpha\, m \odot (g + \lambda \, \mathrm{sign}(x - x_0)), \qquad \mathrm{sign}(0) = 0,

    which is :math:`x - \alpha \nabla (d E) \odot (x - f(x))^2`. The result is :math:`x_T`, and

    ==========  =====================================================  =====================================
    `evidence`  map of images; the score is the maximum, smoothed      score of rows, of standardised columns
    ==========  =====================================================  =====================================
    "distance"  :math:`|x_T - x_0|`, mean of channels                  :math:`\|x_T - x_0\|_2`
    "residual"  :math:`(x_0 - f(x_T))^2`, mean of channels             :math:`\|x_0 - f(x_T)\|_2`
    ==========  =====================================================  =====================================

    Parameters
    ----------
    model : Autoencoder, VAE, FrozenEstimator of a fitted one or None, default=None
        Model whose loss is lowered, and whose features embed the samples. It is cloned and fitted, without a threshold
        of its own, or used as it is if frozen; None is ``Autoencoder()``. A `SkipGANomaly`, or an `AnoGAN` with
        ``inversion="encoder"``, is accepted as well.
    alpha : float, default=0.5
        Length of steps. With "line_search", the first step that is tried changes no value by more than `alpha` times
        the largest residual; with "fixed", it is the factor :math:`\alpha`.
    anchor : float, default=0.05
        Weight :math:`\lambda` of the distance, in units of L per unit of x. Values whose slope is smaller do not move.
    n_steps : int, default=25
        Maximum number of steps of a sample.
    masked : bool, default=True
        If True, the gradient is multiplied by the squared residual; otherwise, m = 1.
    step : {"line_search", "fixed"}, default="line_search"
        Rule for the steps. "line_search" halves a, separately for each sample, until a step lowers E, and doubles it
        after each success: E never rises, at any scale of L. "fixed" is the published step, which may raise E.
    evidence : {"distance", "residual"}, default="distance"
        Quantity that is scored, see above.
    sigma : float, default=4.0
        Standard deviation of the Gaussian that smooths anomaly maps, in pixels of a 224 x 224 image.
    false_alarm_rate : float or None, default=0.05
        Share of normal samples that may be flagged, in (0, 1); None sets no threshold.
    calibration : {"split", "cv"}, default="split"
        How thresholds are calibrated.

        - "split" holds out a random 20 % of the training samples, which the model never sees. Only "split" carries the
          guarantee of split-conformal prediction.
        - "cv" uses 10-fold cross-validation and trains 11 models.

        A frozen model is not fitted again, so "cv" uses the scores of all samples. Pass samples on which it was not
        fitted; otherwise, a `CalibrationWarning` is raised.
    min_defect_area : int, default=1
        Area of the smallest region in masks, in pixels.
    random_state : int, RandomState instance or None, default=None
        Seed of the folds and the split, and of the model if its own `random_state` is None.
    verbose : int, default=0
        If 1, progress bars are shown.

    Attributes
    ----------
    model_ : Autoencoder or VAE
        Fitted model.
    features_ : estimator
        Fitted features of the model.
    calibration_ : Calibration
        Scores of the calibration samples and peaks of their maps, from which thresholds and p-values are computed.
    offset_ : float
        Threshold on `score_samples`.
    pixel_threshold_ : float
        Threshold on maps. Defined only if the features make maps.
    calibration_scores_ : ndarray of shape (n,)
        Anomaly scores of the calibration samples, from which `offset_` is set.
    calibration_peaks_ : ndarray of shape (n,)
        Peaks of their anomaly maps, from which `pixel_threshold_` is set. None if the features make no maps.
    calibration_indices_ : ndarray of shape (n,)
        Positions of the calibration samples in the data of `fit` or `calibrate`.
    n_features_in_ : int
        Number of features d seen during `fit`. Defined only if the samples are rows.
    feature_names_in_ : ndarray of shape (`n_features_in_`,)
        Names of features seen during `fit`. Defined only when `X` has feature names that are all strings.

    See Also
    --------
    Autoencoder : The default model, itself a detector that scores by the residual.
    VAE : Variational autoencoder, another model, which scores by the likelihood.

    Notes
    -----
    The published values are alpha = 0.5, lambda = 0.05 and 25 steps, for an energy that is a sum over values, as d E
    is; the scale of the loss, without which a fixed alpha means little, is not reported. If L is the mean squared
    residual and the gradient is masked, a fixed alpha of 0.5 hardly moves values with residuals below 0.3; with the
    line search, the same default works. In nats, as published, the loss of a VAE grows with :math:`1 / \gamma`, so that
    a small variance disables the anchor; the unit chosen here avoids this.

    References
    ----------
    Dehaene et al., "Iterative energy-based projection on a normal data manifold for anomaly localization", ICLR 2020,
    arXiv:2002.03734.

    Examples
    --------
    >>> import numpy as np
    >>> from skanomaly import Autoencoder, GradientProjection
    >>> from skanomaly.networks import DenseNetwork
    >>> X = np.random.default_rng(0).normal(size=(500, 2)) @ [[1, 1, 0], [0, 1, 1]]  # a plane in space
    >>> model = Autoencoder(network=DenseNetwork((8, 2)), max_epochs=20, random_state=0)
    >>> detector = GradientProjection(model, random_state=0).fit(X)
    >>> detector.predict([[1.0, 2.0, 1.0], [3.0, -3.0, 3.0]])
    array([ 1, -1])
    >>> detector.inpaint([[1.0, 0.0, 1.0]], [[False, True, False]]).round()
    array([[1., 2., 1.]])
    """

    _parameter_constraints = {
        **BaseDetector._parameter_constraints,
        "model": [HasMethods(["fit", "score_samples"]), None],
        "alpha": [Interval(Real, 0, None, closed="neither")],
        "anchor": [Interval(Real, 0, None, closed="left")],
        "n_steps": [Interval(Integral, 0, None, closed="left")],
        "masked": ["boolean"],
        "step": [StrOptions({"line_search", "fixed"})],
        "evidence": [StrOptions({"distance", "residual"})],
        "sigma": [Interval(Real, 0, None, closed="left")],
        "calibration": [StrOptions({"split", "cv"})],
    }

    def __init__(
        self,
        model=None,
        *,
        alpha=0.5,
        anchor=0.05,
        n_steps=25,
        masked=True,
        step="line_search",
        evidence="distance",
        sigma=4.0,
        false_alarm_rate=0.05,
        calibration="split",
        min_defect_area=1,
        random_state=None,
        verbose=0,
    ):
        self.model = model
        self.alpha = alpha
        self.anchor = anchor
        self.n_steps = n_steps
        self.masked = masked
        self.step = step
        self.evidence = evidence
        self.sigma = sigma
        self.false_alarm_rate = false_alarm_rate
        self.calibration = calibration
        self.min_defect_area = min_defect_area
        self.random_state = random_state
        self.verbose = verbose

    # ----------------------------------------------------------------------------------------- public

    def default_model(self):
        """Return the model that ``model=None`` stands for.

        Returns
        -------
        Autoencoder
            Model, unfitted.
        """
        return Autoencoder()

    @with_way_back
    def project(self, X):
        """Move samples down the energy and return the nearby normal samples :math:`x_T`.

        Parameters
        ----------
        X : array-like
            Samples, in any form that the model accepts.

        Returns
        -------
        ndarray of shape (n, d), float64, or of shape (n, H, W[, 3]), float32
            Rows in the units of `X`; images in [0, 1] and in their original sizes (a list if these differ).
        """
        return join_samples(self.features_.inverse_transform(self._project(Z), batch) for batch, Z in self._batches(X))

    @with_way_back
    def inpaint(self, X, mask):
        """Replace the masked part of samples by values that are normal according to the model.

        Only masked values are moved, along the gradient and without the anchor.

        Parameters
        ----------
        X : array-like
            Samples, in any form that the model accepts.
        mask : array-like of bool, of shape (n, d) or (n, H, W), or sequence of n arrays of shape (H, W)
            True where values may change.

        Returns
        -------
        ndarray of shape (n, d), float64, or of shape (n, H, W[, 3]), float32
            Rows in the units of `X`; images in [0, 1], in their original sizes (a list if these differ) and with their
            original channels (without alpha). Unmasked values are equal to those of `X`, to the bit.
        """
        check_is_fitted(self)
        samples = self.features_.check_samples(X)
        holes, filled, start = self.features_.transform_masks(mask, samples), [], 0
        for batch, Z in self._batches(samples):
            part = slice(start, start + len(batch))
            filled.append(self.features_.fill(self._project(Z, holes[part]), batch, mask[part]))
            start = part.stop
        return join_samples(filled)

    # ----------------------------------------------------------------------------------------- the model

    @property
    def _frozen(self):
        return isinstance(self.model, FrozenEstimator)

    def _features(self):
        model = getattr(self.model, "estimator", self.model)
        return getattr(self, "features_", getattr(model, "features_", getattr(model, "features", None)))

    def _open(self, X):
        self._keep_settings()
        self.model_ = self._first_model()
        if self._frozen:
            check_is_fitted(self.model_)
            self.features_ = begin(FrozenEstimator(self.model_.features_))
            return self.features_.check_samples(X)
        with all_or_nothing(self.model_):
            samples = self.model_._open(X)
        self.features_ = self.model_.features_
        return samples

    def _first_model(self):
        """Return the frozen model, or one to be fitted."""
        model = self.default_model() if self.model is None else self.model
        model = model.estimator if self._frozen else clone(model)
        if not hasattr(model, "reconstructor"):
            raise TypeError(
                f"model is of type {type(model).__name__}, which has no loss to differentiate; it must be an "
                "Autoencoder, a VAE or another detector by reconstruction, or a FrozenEstimator of a fitted one."
            )
        if self._frozen:
            return model
        model.set_params(false_alarm_rate=None)
        return model if model.random_state is not None else model.set_params(random_state=self.random_state)

    def _calibrate(self, samples, groups):
        calibration = super()._calibrate(samples, groups)
        if self._frozen and calibration is not None:
            self._fitted_digests = self._digests(samples)
            self._warn_if_seen(samples[calibration.indices])
        return calibration

    def _check_state(self):
        super()._check_state()
        if hasattr(self, "model_"):
            check_is_fitted(self.model_, "network_state_")
            mine, its = (getattr(owner.features_, "estimator", owner.features_) for owner in (self, self.model_))
            require(mine is its, "features_ are not those of the model")

    def _digests(self, samples):
        return self.model_.reconstructor().digests if self._frozen else super()._digests(samples)

    def _prepare(self):
        if not self._frozen:
            self.model_._prepare()

    def _embed(self, samples):
        return self.model_._embed(samples)

    def _learn(self, samples, Z=None, groups=None):
        if not self._frozen:
            self.model_ = copy.copy(self.model_)
            self.model_._learn(samples, Z, groups)
            self.features_ = self.model_.features_

    # ----------------------------------------------------------------------------------------- projection

    def _descend(self, model, start, real, hole=None):
        """Return x_T of a batch in which some samples are real; values may change where `hole` is 1."""

        def losses_and_restored(x):
            losses, restored = model.losses_and_restored(x)
            return losses / model.loss_unit, restored

        path = descend(
            start,
            with_gradient(losses_and_restored),
            (lambda r: hole) if hole is not None else (torch.square if self.masked else torch.ones_like),
            alpha=self.alpha,
            anchor=self.anchor if hole is None else 0.0,
            n_steps=self.n_steps,
            lowest_loss=model.lowest_loss / model.loss_unit,
            line_search=self.step == "line_search",
            limits=model.limits,
            real=real.flatten(),
        )
        return deque(path, maxlen=1).pop()[0]

    def _run(self, function, Z, *holes):
        """Return function(model, x_0, x_T) for embedded samples; no result depends on other samples, to the bit."""
        model = self.model_.reconstructor()
        real = np.ones((len(Z), *[1] * (Z.ndim - 1)), bool)  # the padding of a batch is not real

        def move(start, real, *holes):
            end = self._descend(model, start, real, *holes)
            with torch.no_grad():
                return function(model, start, end)

        length = min(model.batch_len, _MOST_ROWS)
        return model.run(move, Z, real, *(hole.astype(Z.dtype) for hole in holes), length=length, gradients=True)

    def _project(self, Z, *holes):
        """Return x_T of embedded samples; values may change where holes (n, d) or (n, h, w, 1) are 1."""
        return self._run(lambda model, start, end: model.arrange_back(end), Z, *holes)

    def _evidence(self, model, start, end):
        """Return scores (n,) of rows, maps (n, h, w) of images."""
        distance = self.evidence == "distance"
        change = model.arrange_back(start - (end if distance else model.restore(end)))
        if not self.features_.makes_maps:
            return change.square().sum(dim=1).sqrt()
        return (change.abs() if distance else change.square()).mean(dim=-1)

    def _score(self, Z, maps=True):
        evidence = self._run(self._evidence, Z)
        if not self.features_.makes_maps:
            return evidence, None
        return image_scores(self, evidence), evidence if maps else None
