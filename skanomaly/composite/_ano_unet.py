"""Ano-Unet: one U-Net for each image, which rebuilds the image such that its features are those of normal images."""

from collections import namedtuple
from numbers import Integral, Real

import numpy as np
import torch
from sklearn.base import clone
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import HasMethods, Interval, StrOptions
from sklearn.utils.validation import check_is_fitted

from .._networks.unet import stacked_state
from .._torch.device import DEVICES, resolve_device
from .._torch.net import Net
from .._torch.rebuild import rebuild
from .._torch.views import Images
from ..base import BaseDetector, stack_if_equal
from ..detectors._features import LazyFeatures
from ..networks import Training, UNet
from ._feature_net import FEATURE_NET, FeatureNetMixin, features_of

_MOMENTUM = 0.9

Explanation = namedtuple("Explanation", "image anomaly_map residual_loss feature_loss n_steps")
Explanation.__doc__ = """Image as its U-Net rebuilds it.

Parameters
----------
image : ndarray of shape (H, W) or (H, W, 3), float32
    Rebuilt image, in [0, 1].
anomaly_map : ndarray of shape (H, W), float32
    Anomaly map.
residual_loss : float
    Loss L_R, the distance of the rebuilt image to the image.
feature_loss : float
    Loss L_C, the distance of its features to those of normal images.
n_steps : int
    Number of steps of the optimisation.
"""


class AnoUNet(FeatureNetMixin, BaseDetector):
    r"""Ano-Unet: show what is anomalous in an image by a network that rebuilds this image with normal features.

    A feature network F, such as that of `MetricFeatures` or `DeepOneClass`, is trained first, and frozen; C is the mean
    of F over the normal images. For each image x, a U-Net U of its own then minimises

    .. math:: L = L_R + \beta L_C, \qquad L_R = \frac{1}{N} \|x - U(x)\|_1, \qquad L_C = \frac{1}{d} \|F(U(x)) - C\|_1,

    where N is the number of values of x and d that of features. L_R asks the U-Net for a copy of the image, L_C for an
    image that F takes for normal; what F objects to is changed, and the rest copied. The anomaly map is
    :math:`|x - U(x)|`, averaged over the channels.

    **The score is that of the feature net** and costs no U-Net. Networks are trained only where maps or rebuilt images
    are asked for, so ask for those of flagged images: ``detector.explain(X[detector.predict(X) == -1])``.

    The networks of `batch_size` images are trained side by side, as one network with grouped convolutions, and dropped
    afterwards: memory does not grow with the number of images. None depends on another. All of them start from the
    same weights, and statistics of normalisation are those of the single image.

    Parameters
    ----------
    feature_net : MetricFeatures, DeepOneClass, FrozenEstimator of a fitted one or None, default=None
        Detector that learns features of images. It is cloned and fitted, without a threshold of its own, or used as it
        is if frozen; None is ``MetricFeatures(max_epochs=0)``, a pretrained network that is not trained further.
    features : Pixels or None, default=None
        Size at which the networks see images; None is ``Pixels(96)``.
    network : UNet or None, default=None
        Network that is trained for each image; None is ``UNet()``. The author's is ``UNet(64, depth=4)``.
    beta : float, default=0.1
        Weight :math:`\beta` of L_C. With 0, images are only copied, which is the control to compare with.
    n_steps : int, default=40
        Maximum number of steps of a network.
    init : {"cold", "normals"}, default="cold"
        Weights that each network starts from: random ones, or those of one network that `fit` trains to minimise L on
        the normal images, from which few and small steps are needed, such as ``n_steps=20, lr=1e-3``.
    optimizer : {"adam", "momentum"}, default="adam"
        Optimiser of the networks: Adam, or gradient descent with momentum 0.9, as published.
    lr : float, default=1e-2
        Learning rate of the optimiser.
    patience : int or None, default=None
        Number of steps without a lower loss after which a network stops; None never stops early.
    reduction : {"mean", "sum"}, default="mean"
        Reduction of both terms of the loss. "mean" is that of the author's code; with "sum", the factors 1 / N and
        1 / d are left out, as in his text, so that the same balance needs :math:`\beta N / d` for :math:`\beta`.
    statistics : {"image", "averages"}, default="image"
        Statistics of normalisation with which rebuilt images are made.

        - "image" uses those of the image, as the optimisation does: the result is the state with the lowest loss.
        - "averages" uses their moving averages over the steps, which the author's pictures show. After 150 steps, 22 %
          of these are still their initial values.
    batch_size : int, default=4
        Number of networks that are trained side by side. Incomplete batches are padded, so that results for an image
        do not depend on the others, to the bit; choose 1 for single images, and more on a GPU.
    calibrate_maps : bool, default=False
        If True, a threshold is set for maps as well, for which a network is trained for each calibration image; if
        False, there are no masks.
    sigma : float, default=4.0
        Standard deviation of the Gaussian that smooths anomaly maps, in pixels of a 224 x 224 image.
    max_epochs : int or "auto", default="auto"
        Maximum number of epochs with ``init="normals"``; "auto" uses the default of the network.
    training : Training or None, default=None
        Batch size, optimiser settings and early stopping with ``init="normals"``; None is ``Training()``.
    device : {"auto", "cpu", "cuda", "mps"}, default="auto"
        Device on which the network runs.
    false_alarm_rate : float or None, default=0.05
        Share of normal samples that may be flagged, in (0, 1); None sets no threshold.
    calibration : {"split", "cv"}, default="split"
        How thresholds are calibrated.

        - "split" holds out a random 20 % of the training samples, which no network sees. Only "split" carries the
          guarantee of split-conformal prediction.
        - "cv" uses 10-fold cross-validation and trains 11 feature nets.

        A frozen feature net is not fitted again. Pass images on which it was not fitted; otherwise, a
        `CalibrationWarning` is raised.
    min_defect_area : int, default=1
        Area of the smallest region in masks, in pixels.
    random_state : int, RandomState instance or None, default=None
        Seed of the initial weights, the shuffling, the folds and the splits, and of the feature net if its own
        `random_state` is None.
    verbose : int, default=0
        If 1, progress bars are shown.

    Attributes
    ----------
    feature_net_ : estimator
        Fitted feature net.
    features_ : estimator
        Fitted features.
    network_ : UNet
        Description of the network.
    training_ : Training
        Training settings that were used.
    center_ : ndarray of shape (d,), float64
        Mean C of the features of the training images, at the size at which the networks see them.
    network_state_ : dict of str to ndarray
        Weights from which each network starts.
    history_ : dict of str to ndarray of shape (n_epochs,)
        Losses of each epoch: "train_loss", and "valid_loss" if samples were held out. Defined only with
        ``init="normals"``.
    calibration_ : Calibration
        Scores of the calibration samples and peaks of their maps, from which thresholds and p-values are computed.
    offset_ : float
        Threshold on `score_samples`.
    pixel_threshold_ : float
        Threshold on maps. Defined only if `calibrate_maps` is True.
    calibration_scores_ : ndarray of shape (n,)
        Anomaly scores of the calibration samples, from which `offset_` is set.
    calibration_peaks_ : ndarray of shape (n,)
        Peaks of their anomaly maps, from which `pixel_threshold_` is set. None if `calibrate_maps` is False.
    calibration_indices_ : ndarray of shape (n,)
        Positions of the calibration samples in the data of `fit` or `calibrate`.

    See Also
    --------
    FeatureDecoder : Decoder from features back to the image, trained once.
    GradientProjection : Moves the pixels themselves, until an autoencoder reconstructs them.

    Notes
    -----
    The published settings are ``network=UNet(64, depth=4), beta=50, n_steps=150, optimizer="momentum", lr=1e-3``, and
    ``beta=80, n_steps=200`` for a set of defects; they cost 170 times the operations of the defaults. C is the mean of
    vectors and is not scaled to their norm.

    What is shown depends on the path of the optimiser: a U-Net copies what is common first, and after many steps
    whatever L_C permits. Compare with ``beta=0``, the same network without the feature net: for small defects, of which
    features of the whole image say little, its maps can be better. See `benchmarks.md`.

    Pickles hold the feature net and the weights from which networks start.

    References
    ----------
    shinmura0, "Ano-Unet", https://github.com/shinmura0/AnoUnet.

    Examples
    --------
    >>> import numpy as np
    >>> from skanomaly import AnoUNet, MetricFeatures, Pixels, PretrainedPatchFeatures
    >>> from skanomaly.networks import UNet
    >>> images = np.random.default_rng(0).integers(0, 100, (12, 32, 32), np.uint8)
    >>> pretrained = PretrainedPatchFeatures("test_efficientnet", layers=("bn2",), weights="random", image_size=32)
    >>> net = MetricFeatures(pretrained, max_epochs=0)  # a quick control
    >>> options = {"n_steps": 5, "false_alarm_rate": None, "random_state": 0}
    >>> detector = AnoUNet(net, Pixels(32), UNet(4, depth=2), **options).fit(images[:10])
    >>> detector.explain(images[10:]).shape
    (2, 32, 32)
    """

    _parameter_constraints = {
        **BaseDetector._parameter_constraints,
        "feature_net": FEATURE_NET,
        "features": [HasMethods(["fit_samples", "transform", "inverse_transform", "map_to_image"]), None],
        "network": [HasMethods(["check", "build"]), None],
        "beta": [Interval(Real, 0, None, closed="left")],
        "n_steps": [Interval(Integral, 0, None, closed="left")],
        "init": [StrOptions({"cold", "normals"})],
        "optimizer": [StrOptions({"momentum", "adam"})],
        "lr": [Interval(Real, 0, None, closed="neither")],
        "patience": [Interval(Integral, 1, None, closed="left"), None],
        "reduction": [StrOptions({"mean", "sum"})],
        "statistics": [StrOptions({"image", "averages"})],
        "batch_size": [Interval(Integral, 1, None, closed="left")],
        "calibrate_maps": ["boolean"],
        "sigma": [Interval(Real, 0, None, closed="left")],
        "max_epochs": [Interval(Integral, 0, None, closed="left"), StrOptions({"auto"})],
        "training": [HasMethods(["hold_out", "run"]), None],
        "device": [StrOptions(set(DEVICES))],
        "calibration": [StrOptions({"split", "cv"})],
    }
    _derived = ("_features_net",)

    def __init__(
        self,
        feature_net=None,
        features=None,
        network=None,
        *,
        beta=0.1,
        n_steps=40,
        init="cold",
        optimizer="adam",
        lr=1e-2,
        patience=None,
        reduction="mean",
        statistics="image",
        batch_size=4,
        calibrate_maps=False,
        sigma=4.0,
        max_epochs="auto",
        training=None,
        device="auto",
        false_alarm_rate=0.05,
        calibration="split",
        min_defect_area=1,
        random_state=None,
        verbose=0,
    ):
        self.feature_net = feature_net
        self.features = features
        self.network = network
        self.beta = beta
        self.n_steps = n_steps
        self.init = init
        self.optimizer = optimizer
        self.lr = lr
        self.patience = patience
        self.reduction = reduction
        self.statistics = statistics
        self.batch_size = batch_size
        self.calibrate_maps = calibrate_maps
        self.sigma = sigma
        self.max_epochs = max_epochs
        self.training = training
        self.device = device
        self.false_alarm_rate = false_alarm_rate
        self.calibration = calibration
        self.min_defect_area = min_defect_area
        self.random_state = random_state
        self.verbose = verbose

    # ----------------------------------------------------------------------------------------- public

    def default_network(self, features=None):
        """Return the network that ``network=None`` stands for.

        Parameters
        ----------
        features : Ignored
            Not used, present for consistency with other detectors.

        Returns
        -------
        UNet
            Network.
        """
        return UNet()

    def default_training(self):
        """Return the training settings that ``training=None`` stands for.

        Returns
        -------
        Training
            Settings.
        """
        return Training()

    def explain(self, X, toward=None):
        """Rebuild images such that their features are those of normal images, or of others.

        Parameters
        ----------
        X : array-like of n images
            Images, in any form that the detector accepts; usually those that `predict` flags.
        toward : array-like of images, or ndarray of shape (d,), default=None
            Images whose mean features replace the center C, such as those of another class, or the features
            themselves, such as `center_` of another detector. None is `center_`.

        Returns
        -------
        ndarray of shape (n, H, W[, 3]), float32
            Rebuilt images, in [0, 1] and in their original sizes (a list if these differ).
        """
        return stack_if_equal([explanation.image for explanation in self.iter_explanations(X, toward)])

    def iter_explanations(self, X, toward=None):
        """Yield the rebuilt image, the anomaly map and the losses of each image, in one pass and in bounded memory.

        Parameters
        ----------
        X : array-like of n images
            Images, in any form that the detector accepts; usually those that `predict` flags.
        toward : array-like of images, or ndarray of shape (d,), default=None
            Images whose mean features replace the center C, such as those of another class, or the features
            themselves, such as `center_` of another detector. None is `center_`.

        Yields
        ------
        Explanation
            Named tuple (image, anomaly_map, residual_loss, feature_loss, n_steps).
        """
        check_is_fitted(self)
        target = self._target(toward)
        for batch, Z in self._batches(X):
            for start in range(0, len(batch), self.batch_size):
                part = slice(start, start + self.batch_size)
                pixels = np.asarray(Z[part])
                rebuilt, losses, n_steps = self._rebuild(pixels, target)
                images = self.features_.inverse_transform(rebuilt, batch[part])
                for i, residual in enumerate(_residuals(pixels, rebuilt)):
                    score_map = self._render(residual, batch[start + i])
                    yield Explanation(images[i], score_map, *map(float, losses[i]), int(n_steps[i]))

    # ----------------------------------------------------------------------------------------- fitting

    @property
    def _calibrates_maps(self):
        return self.calibrate_maps

    def _open(self, X):
        samples = super()._open(X)
        self.network_ = self.default_network() if self.network is None else clone(self.network)
        self.training_ = self.default_training() if self.training is None else clone(self.training)
        self.training_.check()
        return samples

    def _prepare(self):
        self.network_.check((*self.features_.grid_shape_, self.features_.n_features_out_))

    def _embed(self, samples):
        return LazyFeatures(self.features_.transform, samples)

    def _learn(self, samples, Z=None, groups=None):
        super()._learn(samples, Z, groups)
        generator = torch.Generator().manual_seed(int(check_random_state(self.random_state).randint(2**31)))
        net = Net.untrained(self._build, generator, resolve_device(self.device))
        if self.init == "normals":
            self._train(net, self._embed(samples), groups, generator)
        self.network_state_ = net.state()

    def _fit(self, Z):
        self.center_ = self._mean_features(Z)

    def _mean_features(self, Z):
        """Return C (d,), the mean of the features of images, as the loss sees them."""
        net, total = self._feature_network(), 0.0
        for pixels in Z.batches(self.features_.batch_len):
            batch = net.run(lambda x: features_of(net, x), self._view().arrange(pixels), length=self.batch_size)
            total = total + batch.sum(axis=0, dtype=np.float64)
        return total / len(Z)

    def _train(self, net, Z, groups, generator):
        """Train the U-Net that all others start from, on normal images."""
        train, held_out = self.training_.hold_out(len(Z), generator, groups)
        features_net, pixels = self._feature_network(), net.to_tensor(self._view().arrange(np.asarray(Z)))
        target, weights = net.to_tensor(self.center_.astype(np.float32)), pixels.new_tensor([1.0, self.beta])
        self.history_ = self.training_.run(
            net.module,
            lambda x, generator: (self._losses(features_net, x, net.module(x), target) @ weights).mean(),
            pixels[train],
            pixels[held_out],
            self.network_,
            max_epochs=self.max_epochs,
            generator=generator,
            verbose=self.verbose,
        )

    def _view(self):
        return Images((self.features_.n_features_out_, *self.features_.grid_shape_))

    def _build(self, n_nets=1):
        return self.network_.build(self._view().shape, n_nets, averages=self.statistics == "averages")

    # ----------------------------------------------------------------------------------------- scoring

    def _score(self, Z, maps=True):
        scores = -self.feature_net_.score_samples(Z.samples)
        if not maps:
            return scores, None
        pixels = np.asarray(Z)
        return scores, _residuals(pixels, self._rebuild(pixels, self.center_)[0])

    def _target(self, toward):
        """Return the features (d,) that images are rebuilt toward."""
        if toward is None:
            return self.center_
        if isinstance(toward, np.ndarray) and toward.ndim == 1 and toward.dtype.kind == "f":
            if toward.shape != self.center_.shape:
                raise ValueError(
                    f"toward has {len(toward)} values; it must have {len(self.center_)} features, as `center_` has, or "
                    "consist of images."
                )
            return toward
        return self._mean_features(self._embed(self.features_.check_samples(toward)))

    def _rebuild(self, pixels, target):
        """Return rebuilt images (n, h, w, c), their losses L_R and L_C (n, 2), and the numbers of steps (n,)."""
        net, view = self._feature_network(), self._view()
        target = net.to_tensor(target.astype(np.float32))

        def optimize(x, real):
            module = self._stack(net.device)
            rebuilt, losses, n_steps = rebuild(
                module,
                x,
                lambda rebuilt: self._losses(net, x, rebuilt, target),
                x.new_tensor([1.0, self.beta]),
                self._optimizer(module),
                n_steps=self.n_steps,
                patience=self.patience,
                real=real,
                averages=self.statistics == "averages",
            )
            return view.arrange_back(rebuilt), losses, n_steps

        real = np.ones(len(pixels), bool)
        return net.run(optimize, view.arrange(pixels), real, length=self.batch_size, gradients=True)

    def _losses(self, net, x, rebuilt, target):
        """Return L_R and L_C (n, 2) of rebuilt images."""
        reduce = torch.mean if self.reduction == "mean" else torch.sum
        residual = reduce((x - rebuilt).abs().flatten(1), dim=1)
        with torch.set_grad_enabled(torch.is_grad_enabled() and self.beta > 0):
            features = features_of(net, rebuilt)
        return torch.stack([residual, reduce((features - target).abs(), dim=1)], dim=1)

    def _stack(self, device):
        """Return `batch_size` U-Nets side by side, in their initial states."""
        n = self.batch_size
        return Net.from_state(lambda: self._build(n), stacked_state(self.network_state_, n), device).module

    def _optimizer(self, module):
        # not fused, because fused updates of the last few weights of a tensor round differently
        if self.optimizer == "adam":
            return torch.optim.Adam(module.parameters(), lr=self.lr, fused=False)
        return torch.optim.SGD(module.parameters(), lr=self.lr, momentum=_MOMENTUM, fused=False)


def _residuals(pixels, rebuilt):
    """Return the mean absolute difference (n, h, w) of images over their channels."""
    return np.abs(pixels - rebuilt).mean(axis=3)
