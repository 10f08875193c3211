"""Gradient projection: the nearest normal sample, along the gradient of a model's loss."""

import copy
from collections import deque
from numbers import Integral, Real

import numpy as np
import torch
from sklearn.base import clone
from sklearn.frozen import FrozenEstimator
from sklearn.utils._param_validation import HasMethods, Interval, StrOptions
from sklearn.utils.validation import check_is_fitted

from .._inputs.images import as_pair
from .._kernels.smoothing import resize_antialiased, smooth_and_resize
from .._torch.inference import padded_batches
from ..base import BaseDetector, stack_if_equal
from ..detectors import Autoencoder

_MOST_ROWS = 256  # moved at a time, padded
_PROMISE_KEPT = 0.25  # least share of its first-order decrease that a step must bring
_MOST_FAILURES = 12  # halvings in a row, after which there is no descent


class GradientProjection(BaseDetector):
    r"""Gradient projection: how far a sample has to move until a model of normal samples gives it back.

    An auto-encoder f restores normal samples x with a small loss L(x), and blurs normal detail next to a defect. Here x
    itself is moved, from the sample :math:`x_0` down the energy

    .. math:: E(x) = L(x) + \lambda \frac{1}{d} \|x - x_0\|_1,

    d the number of values of x, which leaves alone what is normal. L is the loss of the `Autoencoder`; that of a `VAE`
    with decoder variance :math:`\gamma` is its reconstruction term in units of :math:`d / 2 \gamma`, up to a constant
    the mean squared residual. The gradient goes *through* f: for the mean squared residual r = x - f(x), it is
    :math:`\frac{2}{d} (I - J_f(x))^T r`. A step moves along the gradient g of d L, where the residual is large, and
    shrinks the distance to :math:`x_0` by the anchor's share (a proximal step),

    .. math:: x \leftarrow x_0 + \mathrm{soft}(x - x_0 - a\, m \odot g,\ a \lambda m), \qquad m = r \odot r,

    soft(u, s) = sign(u) max(\|u\| - s, 0). Images are kept in [0, 1]. A sample stops when its loss is as low as the
    lowest of a training sample, when no step lowers E, or after `n_steps`. The result is :math:`x_T`, and

    ==========  =====================================================  =====================================
    `evidence`  map of images; the score is the maximum, smoothed      score of rows, of standardised columns
    ==========  =====================================================  =====================================
    "distance"  :math:`|x_T - x_0|`, mean of channels                  :math:`\|x_T - x_0\|_2`
    "residual"  :math:`(x_0 - f(x_T))^2`, mean of channels             :math:`\|x_0 - f(x_T)\|_2`
    ==========  =====================================================  =====================================

    Parameters
    ----------
    model : Autoencoder or another detector by reconstruction, or FrozenEstimator of a fitted one, default=None
        It is cloned and fitted (without a threshold of its own), or used as it is if frozen. None is an
        ``Autoencoder()``.
    alpha : float, default=0.5
        Length of steps. "line_search": the first step that is tried changes no value by more than `alpha` times the
        largest residual. "fixed": the factor a.
    anchor : float, default=0.05
        :math:`\lambda`, in units of L per unit of x. It keeps values from moving whose slope is lower.
    n_steps : int, default=25
        Most steps of a sample.
    masked : bool, default=True
        Multiply the gradient by the squared residual; else m = 1.
    step : {"line_search", "fixed"}, default="line_search"
        "line_search" halves a, for each sample by itself, until a step lowers E, and doubles it after each success: E
        never rises, whatever the scale of L. "fixed" is the published step, a = `alpha`.
    evidence : {"distance", "residual"}, default="distance"
        See above.
    sigma : float, default=4.0
        Of the smoothing of maps, in pixels of a 224-pixel side.
    false_alarm_rate : float or None, default=0.05
        Share of normal samples that may be flagged, in (0, 1); None sets no threshold.
    calibration : {"split", "cv"}, default="split"
        Which scores of normal samples set the thresholds: of a random fifth that the model never sees, or of 10 folds,
        for which 11 models are fitted. With a frozen model, which learns nothing from them, "cv" takes all samples:
        pass some that it was not fitted on.
    min_defect_area : int, default=1
        Smallest region in masks, in pixels of the image.
    random_state : int, RandomState instance or None, default=None
        Of the shares, and of the model where its own is None.
    verbose : int, default=0
        1 shows a progress bar.

    Attributes
    ----------
    model_ : detector
        The fitted model.
    offset_ : float
        Threshold on `score_samples`.
    pixel_threshold_ : float
        Threshold on maps. Images only.
    calibration_scores_, calibration_levels_ : ndarray of shape (n,)
        What the two were taken from, ascending.
    n_features_in_ : int
        Number of columns. Rows only.

    Notes
    -----
    The published values are alpha = 0.5, lambda = 0.05 and 25 steps; the scale of the loss, without which a fixed alpha
    means little, is not known. With L the mean squared residual and m in it, a fixed step of 0.5 hardly moves residuals
    below 0.3; the line search makes the default work. In nats, as published, the loss of a VAE grows with
    :math:`1 / \gamma`, and a small variance switches the anchor off; our unit keeps it.

    References
    ----------
    Dehaene et al., "Iterative energy-based projection on a normal data manifold for anomaly localization", ICLR 2020,
    arXiv:2002.03734.

    Examples
    --------
    >>> import numpy as np
    >>> from skanomaly.composite import GradientProjection
    >>> from skanomaly.detectors import Autoencoder
    >>> X = np.random.default_rng(0).normal(size=(500, 2)) @ [[1, 1, 0], [0, 1, 1]]  # a plane in space
    >>> model = Autoencoder((8, 2), max_epochs=20, random_state=0)
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

    def project(self, X):
        """Return the normal samples that samples were moved to.

        Parameters
        ----------
        X : array-like
            Samples in a form that the model accepts.

        Returns
        -------
        ndarray of shape (n, d), float64, or of shape (n, H, W[, 3]), float32
            Rows in the units of `X`; images in [0, 1] and of their own sizes (a list where these differ).
        """
        moved = [self.model_._to_samples(self._project(Z), sizes) for Z, sizes in self._embedded_batches(X)]
        if not self._makes_maps:
            return np.concatenate(moved)
        return stack_if_equal([image for batch in moved for image in batch])

    def inpaint(self, X, mask):
        """Return samples with what `mask` marks replaced by what the model finds normal there.

        Steps are along the gradient in the hole alone, without the anchor.

        Parameters
        ----------
        X : array-like
            Samples in a form that the model accepts.
        mask : array-like of shape (n, d), or of shape (n, H, W) or sequence of n arrays of shape (H, W); bool
            True where values may change.

        Returns
        -------
        ndarray of shape (n, d), float64, or of shape (n, H, W[, 3]), float32
            Rows in the units of `X`; images in [0, 1], of their own sizes (a list where these differ) and channels
            (without alpha). Values that may not change are those of `X`, to the bit.
        """
        check_is_fitted(self)
        samples = self._check_samples(X, reset=False)
        shapes = samples.sizes if self._makes_maps else [samples.shape[1:]] * len(samples)
        holes = _check_holes(mask, shapes)
        if not self._makes_maps:
            filled = self.model_._to_samples(self._project(self._embed(samples), np.stack(holes)), None)
            return np.where(holes, filled, samples)
        images, step = [], self._batch_len
        for start in range(0, len(samples), step):
            images += self._fill(samples[start : start + step], holes[start : start + step])
        return stack_if_equal(images)

    @property
    def n_features_in_(self):
        """Number of columns of the rows that the model was fitted on."""
        return self._of_model("n_features_in_")

    @property
    def feature_names_in_(self):
        """Names of these columns, where they had any."""
        return self._of_model("feature_names_in_")

    def _of_model(self, name):
        if not hasattr(self, "model_"):
            raise AttributeError(f"this {type(self).__name__} is not fitted")
        return getattr(self.model_, name)

    # ----------------------------------------------------------------------------------------- what the model does

    @property
    def _makes_maps(self):
        return not hasattr(self, "model_") or self.model_._makes_maps

    @property
    def _batch_len(self):
        return self.model_._batch_len

    def _check_samples(self, X, reset):
        if reset:
            self.model_ = self._first_model()
        return self.model_._check_samples(X, reset=reset and not self._frozen)

    @property
    def _frozen(self):
        return isinstance(self.model, FrozenEstimator)

    def _first_model(self):
        """Return the model that samples are checked by: the frozen one, or one to be fitted."""
        model = Autoencoder() if self.model is None else self.model
        model = model.estimator if self._frozen else clone(model)
        if not hasattr(model, "_losses"):
            raise TypeError(
                f"model is a {type(model).__name__}, which has no loss to differentiate; accepted is a detector by "
                "reconstruction, such as Autoencoder, or FrozenEstimator of a fitted one."
            )
        if self._frozen:
            check_is_fitted(model)
            return model
        model.set_params(false_alarm_rate=None)
        if model.random_state is None:
            model.set_params(random_state=self.random_state)
        model._validate_params()
        return model

    def _embed(self, samples):
        return self.model_._embed(samples)

    def _fit(self, Z):
        if not self._frozen:
            self.model_ = copy.copy(self.model_)
            self.model_._fit(Z)

    # ----------------------------------------------------------------------------------------- projection

    def _evaluate(self, x):
        """Return L (n,), the gradient of d L, and the residual, both of the shape of x."""
        with torch.enable_grad():
            x = x.detach().requires_grad_()
            losses, restored = self.model_._losses_and_restored(x)
            losses = losses / self.model_._loss_unit
            (gradient,) = torch.autograd.grad(losses.sum(), x)
        return losses.detach(), x[0].numel() * gradient, (x - restored).detach()

    def _descend(self, start, padding, hole=None):
        """Yield x and E(x) of every sample, from the start on; those in the padding stay."""
        yield from _descend(
            start,
            self._evaluate,
            (lambda r: hole) if hole is not None else (torch.square if self.masked else torch.ones_like),
            alpha=self.alpha,
            anchor=self.anchor if hole is None else 0.0,
            n_steps=self.n_steps,
            lowest_loss=self.model_.lowest_loss_ / self.model_._loss_unit,
            line_search=self.step == "line_search",
            limits=(0, 1) if self._makes_maps else None,
            padding=padding,
        )

    def _run(self, function, Z, holes=None):
        """Return function(x_0, x_T) of embedded samples as an array; no sample's bits depend on the others."""
        self.model_._module()
        length, parts = min(self.model_._scoring_len, _MOST_ROWS), []
        for first, stop in padded_batches(len(Z), length):
            padding = length - (stop - first)
            start = _padded(self.model_._to_tensor(Z[first:stop]), padding)
            hole = None
            if holes is not None:
                hole = _padded(torch.from_numpy(holes[first:stop]).to(start), padding)
            end, _ = deque(self._descend(start, padding, hole), maxlen=1).pop()
            with torch.no_grad():
                parts.append(function(start, end)[: stop - first].cpu().numpy())
        return np.concatenate(parts)

    def _project(self, Z, holes=None):
        """Return x_T of embedded samples, an array; holes (n, d) or (n, 1, H, W) are where values may change."""
        return self._run(lambda start, end: end, Z, holes)

    def _evidence(self, start, end):
        """Return scores (n,) of rows, maps (n, H, W) of images."""
        distance = self.evidence == "distance"
        change = start - (end if distance else self.model_._reconstruct(end))
        if not self._makes_maps:
            return change.square().sum(dim=1).sqrt()
        return (change.abs() if distance else change.square()).mean(dim=1)

    def _score(self, Z):
        evidence = self._run(self._evidence, Z)
        if not self._makes_maps:
            return evidence, None
        peaks = [self._render(grid, grid.shape).max() for grid in evidence]
        return np.array(peaks, np.float64), evidence

    def _render(self, grid, size):
        return smooth_and_resize(grid, size, self.sigma)

    def _fill(self, source, holes):
        """Return images, inpainted, in a list."""
        size = as_pair(self.model_.image_size)
        resized = [resize_antialiased(hole[..., None].astype(np.float32), size) > 0 for hole in holes]
        ends = self._project(self._embed(source), np.stack(resized).transpose(0, 3, 1, 2))
        filled = self.model_._to_samples(ends, source.sizes)
        return [_compose(source.read(i), filled[i], hole) for i, hole in enumerate(holes)]


def _padded(x, n):
    return torch.cat([x, x.new_zeros((n, *x.shape[1:]))])


def _compose(pixels, filled, hole):
    """Return an image (H, W, C) with its hole taken from another, which may have other channels."""
    filled = filled.reshape(*hole.shape, -1)
    if pixels.shape[2] < filled.shape[2]:
        filled = filled.mean(axis=2, keepdims=True)
    image = np.where(hole[..., None], filled, pixels)
    return image[..., 0] if image.shape[2] == 1 else image


def _check_holes(mask, shapes):
    """Return the mask as a list of bool arrays of the given shapes."""
    if len(mask) != len(shapes):
        raise ValueError(f"mask has length {len(mask)}, X has {len(shapes)} samples; accepted is one mask for each.")
    holes = [np.asarray(hole) for hole in mask]
    for i, (hole, shape) in enumerate(zip(holes, shapes, strict=True)):
        if hole.shape != tuple(shape) or hole.dtype != bool:
            raise ValueError(
                f"mask[{i}] is {hole.dtype} of shape {hole.shape}; accepted is bool of shape {tuple(shape)}, as in X."
            )
    return holes


def _descend(start, evaluate, weigh, *, alpha, anchor, n_steps, lowest_loss, line_search, limits, padding):
    """Yield x and E(x) (n,) of all samples, at the start and after every trial, until the last one stops.

    `evaluate` is x to L, the gradient of d L and the residual; `weigh` is residuals to m; the last samples are padding.
    """
    loss, gradient, residual = evaluate(start)
    now = (start, gradient, weigh(residual), loss, loss, torch.zeros_like(loss))
    length = _first_length(alpha, residual, *now[1:3]) if line_search else torch.full_like(loss, alpha)
    steps, failures = torch.zeros_like(loss), torch.zeros_like(loss)
    running = (loss > lowest_loss) & (torch.arange(len(start), device=start.device) < len(start) - padding)
    running &= n_steps > 0
    yield start, loss
    while running.any():
        x, gradient, weight, _, energy, distance = now
        rate = _per_value(length / _peak(weight) if line_search else length, x) * weight
        x_new = _move(x, start, rate * gradient, rate * anchor, limits)
        loss_new, gradient_new, residual = evaluate(x_new)
        distance_new = anchor * _mean((x_new - start).abs())
        energy_new = loss_new + distance_new
        if line_search:
            promise = _mean(gradient * (x_new - x)) + distance_new - distance
            running &= promise < 0
            taken = running & (energy_new <= energy + _PROMISE_KEPT * promise)
            length *= torch.where(taken, torch.where(failures == 0, 2.0, 1.0), 0.5)
        else:
            taken = running & energy_new.isfinite()
        after = (x_new, gradient_new, weigh(residual), loss_new, energy_new, distance_new)
        now = tuple(torch.where(_per_value(taken, new), new, old) for new, old in zip(after, now, strict=True))
        steps, failures = steps + taken, torch.where(taken, 0, failures + 1)
        running &= (now[3] > lowest_loss) & (steps < n_steps) & (failures < (_MOST_FAILURES if line_search else 1))
        yield now[0], now[4]


def _move(x, start, change, shrinkage, limits):
    """Return the proximal step: the gradient's change, then the soft threshold of the distance to the start."""
    shift = x - start - change
    x = start + shift.sign() * (shift.abs() - shrinkage).clamp(min=0)
    return x if limits is None else x.clamp(*limits)


def _first_length(alpha, residual, gradient, weight):
    """Return the length (n,) of the first trial, for weights of which the largest is 1."""
    weight = weight / _per_value(_peak(weight), weight)
    return alpha * _peak(weight * residual) / _peak(weight * gradient)


def _peak(values):
    """Return the largest absolute value of every sample (n,), not zero."""
    return values.abs().flatten(1).amax(dim=1).clamp(min=torch.finfo(values.dtype).tiny)


def _mean(values):
    return values.flatten(1).mean(dim=1)


def _per_value(values, x):
    """Return values (n,), or of the shape of x, in a shape that broadcasts to x."""
    return values.view(len(x), *[1] * (x.ndim - 1)) if values.ndim == 1 else values
