"""Auto-encoders for rows and images."""

from numbers import Integral, Real

import numpy as np
import torch
from sklearn.base import clone
from sklearn.covariance import ledoit_wolf
from sklearn.utils._param_validation import HasMethods, Interval, StrOptions
from sklearn.utils.metaestimators import available_if

from .._inputs.images import MAX_PIXELS, as_pair
from .._networks.autoencoders import (
    ACTIVATIONS,
    EncoderDecoder,
    dense_layers,
    pooled_decoder,
    pooled_encoder,
    strided_decoder,
    strided_encoder,
)
from .._torch.ssim import ssim_map
from ..features import PretrainedPatchFeatures
from ._reconstruction import ReconstructionDetector

_RIDGE = 1e-6  # smallest variance of a residual, as a share of its column's
_ROWS_PER_COLUMN = 10  # of held-out rows, from which the statistics of residuals are taken from these alone


class Autoencoder(ReconstructionDetector):
    r"""Auto-encoder: what a network that was trained to give back normal samples cannot give back.

    A network f squeezes a sample x through a narrow code and restores it. It is trained on normal samples,

    .. math:: \min_f \sum_x L(x, f(x + \epsilon)),

    and meets anomalies with a large residual x - f(x). The input decides what f is:

    **Rows**, 2-D arrays of numbers or data frames: dense layers. Each column is standardised by mean and standard
    deviation of the training rows; noise :math:`\epsilon` of one standard deviation is added in training (a denoising
    auto-encoder), which keeps f from learning the identity. With r the residual of d standardised columns, its
    mean m and covariance S on normal rows, the score is

    ================  ==================================================
    `residual`        score
    ================  ==================================================
    "mse"             :math:`\frac{1}{d} \sum_i r_i^2`
    "standardized"    :math:`\frac{1}{d} \sum_i (r_i - m_i)^2 / S_{ii}`
    "mahalanobis"     :math:`\frac{1}{d} (r - m)^T S^{-1} (r - m)`
    ================  ==================================================

    **Images**, paths, a glob, or arrays of shape (n, H, W) or (n, H, W, C) (a 2-D array of uint8 is refused, as one
    image): convolutions, at `image_size`. The map, smoothed by `sigma` and resized to the image, is

    ===========  =======================================  ==================================
    `loss`       L                                        map
    ===========  =======================================  ==================================
    "l2"         mean squared residual of all pixels      squared residual, mean of channels
    "ssim"       mean of 1 - SSIM of all windows          1 - SSIM, mean of channels
    "feature"    "l2" + `feature_weight` x mean squared   squared residual, mean of channels
                 difference of pretrained feature maps
    ===========  =======================================  ==================================

    and the score its maximum or mean. By default the network sees overlapping patches of the image, and losses,
    maps and reconstructions are averaged where these overlap: few images are many patches. ``patch_size=None`` shows it
    the whole, for parts that always lie at the same place.

    Parameters
    ----------
    hidden : tuple of int, default=(64, 32)
        Rows: widths of the encoder's layers, the last of which is the code.
    decoder_hidden : tuple of int or None, default=None
        Rows: widths of the decoder's hidden layers; None mirrors `hidden`.
    activation : str or tuple of str, default="relu"
        Rows: "relu", "tanh", "elu", "sigmoid" or "linear", of all hidden layers or of each.
    output_activation : str, default="linear"
        Rows: of the last layer. Only "linear" reaches all standardised values.
    activity_penalty : float, default=0.0
        Rows: weight of the L1 norm of the first hidden layer in the loss.
    residual : {"mse", "standardized", "mahalanobis"}, default="mse"
        Rows: see above. m and S are those of the validation rows if there are 10 per column, else of all others; with
        fewer than 10 of these per column, S is shrunk (Ledoit and Wolf).
    noise : float or None, default=None
        Standard deviation of the noise in training, of standardised columns or of pixels in [0, 1]. None is 1 for rows
        and 0 for images.
    loss : {"l2", "ssim", "feature"}, default="l2"
        Images: see above. Rows know "l2".
    architecture : {"strided", "pooled"}, default="strided"
        Images: "strided" is the network of Bergmann et al. (2018) for 128 x 128 pixels, with fewer or more strided
        layers for other sizes, on standardised channels. "pooled" has three 3 x 3 convolutions (16, 8, 8 channels,
        ReLU, 2 x 2 maxima), their mirror image, and a sigmoid.
    code_size : int, default=100
        Images: length of the code of the strided network.
    image_size : int or (int, int), default=128
        Images: height and width they are resized to (antialiased bilinear), in pixels, from 8 on.
    gray : bool, default=False
        Images: average the colours. Where the training images have one channel, colours are averaged in any case.
    patch_size : int, "auto" or None, default="auto"
        Images: side of the patches that the network sees, in pixels of the resized image; None for the whole, "auto"
        for 32, but the whole of images below 64.
    stride : int or None, default=None
        Images: largest distance of neighbouring patches, which are spread evenly from border to border; None is half
        of `patch_size`.
    ssim_window, ssim_c1, ssim_c2 : int, float, float, default=11, 0.01, 0.03
        Images: side of the windows of SSIM, odd, and its constants, for a range of the pixels of 1, whatever the range
        of the image was. The values are those of Bergmann et al.; usual are 1e-4 and 9e-4.
    features : PretrainedPatchFeatures or None, default=None
        Images: whose backbone and layers the loss "feature" compares; None is
        ``PretrainedPatchFeatures(layers=(0, 1))``.
    feature_weight : float, default=1.0
        Images: see above.
    sigma : float, default=4.0
        Images: of the smoothing of maps, in pixels of a 224-pixel side.
    image_score : {"max", "mean"}, default="max"
        Images: the score is the maximum of the smoothed map at `image_size`, or the mean of the map.
    max_epochs : int or "auto", default="auto"
        "auto" makes 2,000 training steps on rows, but 5 to 200 epochs; 1,000 on images, but 2 to 200 epochs.
    batch_size : int or "auto", default="auto"
        "auto" is 16 images or patches, or a hundredth of the training rows, but 32 to 512.
    lr : float, default=1e-3
        Of Adam.
    weight_decay : float, default=0.0
        Of Adam.
    validation_share : float, default=0.1
        Share of the training samples that only decide when to stop, and which epoch is kept; in [0, 1). These are
        not those that set the thresholds.
    patience : int or None, default=20
        Epochs without a lower validation loss, after which training stops; None for all `max_epochs`.
    warm_start : bool, default=False
        Let `fit` go on from the last fit's network and statistics, for another `max_epochs`.
    device : {"auto", "cpu", "cuda", "mps"}, default="auto"
        Where the network runs.
    data_range : float or None, default=None
        What 1.0 stands for in integer images (4095 for a 12-bit camera); None is the largest value of the dtype.
    max_pixels : int, default=169_000_000
        Largest accepted number of pixels of one image.
    false_alarm_rate : float or None, default=0.05
        Share of normal samples that may be flagged, in (0, 1); None sets no threshold.
    calibration : {"split", "cv"}, default="split"
        Which scores of normal samples set the thresholds: of a random fifth that training never sees, or of 10 folds,
        for which 11 networks are trained.
    min_defect_area : int, default=1
        Smallest region in masks, in pixels of the image.
    random_state : int, RandomState instance or None, default=None
        Of first weights, shuffling, noise and shares.
    verbose : int, default=0
        1 shows a progress bar.

    Attributes
    ----------
    kind_ : {"rows", "images"}
        What the detector was fitted on.
    network_state_ : dict of str to ndarray
        Parameters of the network.
    history_ : dict of str to ndarray of shape (n_epochs,)
        "train_loss", and "valid_loss" where samples were held out.
    mean_, scale_ : ndarray of shape (d,)
        Of the training rows.
    residual_mean_, residual_covariance_ : ndarray of shape (d,) and (d, d)
        m and S. Rows only.
    lowest_loss_ : float
        The smallest loss L of a training sample.
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
    The tutorial network for credit-card fraud (4 layers, 30-14-7-7-30, whose output cannot be negative) is
    ``Autoencoder((14, 7), decoder_hidden=(7,), activation=("tanh", "relu", "tanh"), output_activation="relu",
    activity_penalty=1e-7, noise=0, batch_size=128, max_epochs=100)``.

    Training holds all images at `image_size` in memory; scoring is bounded. Pickles hold the parameters and the
    attributes above; the network is built again from its arrays.

    References
    ----------
    Vincent et al., "Extracting and Composing Robust Features with Denoising Autoencoders", ICML 2008.
    Bergmann et al., "Improving Unsupervised Defect Segmentation by Applying Structural Similarity to Autoencoders",
    VISAPP 2019, arXiv:1807.02011.

    Examples
    --------
    >>> import numpy as np
    >>> from skanomaly.detectors import Autoencoder
    >>> X = np.random.default_rng(0).normal(size=(500, 2)) @ [[1, 1, 0], [0, 1, 1]]  # a plane in space
    >>> detector = Autoencoder((8, 2), max_epochs=20, random_state=0).fit(X)
    >>> detector.predict([[1.0, 2.0, 1.0], [3.0, -3.0, 3.0]])
    array([ 1, -1])
    """

    _parameter_constraints = {
        **ReconstructionDetector._parameter_constraints,
        "hidden": [tuple, list],
        "decoder_hidden": [tuple, list, None],
        "activation": [StrOptions(set(ACTIVATIONS)), tuple, list],
        "output_activation": [StrOptions(set(ACTIVATIONS))],
        "activity_penalty": [Interval(Real, 0, None, closed="left")],
        "residual": [StrOptions({"mse", "standardized", "mahalanobis"})],
        "noise": [Interval(Real, 0, None, closed="left"), None],
        "loss": [StrOptions({"l2", "ssim", "feature"})],
        "architecture": [StrOptions({"strided", "pooled"})],
        "code_size": [Interval(Integral, 1, None, closed="left")],
        "ssim_window": [Interval(Integral, 1, None, closed="left")],
        "ssim_c1": [Interval(Real, 0, None, closed="neither")],
        "ssim_c2": [Interval(Real, 0, None, closed="neither")],
        "features": [HasMethods(["fit", "transform", "map_to_image"]), None],
        "feature_weight": [Interval(Real, 0, None, closed="left")],
        "calibration": [StrOptions({"split", "cv"})],
    }

    def __init__(
        self,
        hidden=(64, 32),
        *,
        decoder_hidden=None,
        activation="relu",
        output_activation="linear",
        activity_penalty=0.0,
        residual="mse",
        noise=None,
        loss="l2",
        architecture="strided",
        code_size=100,
        image_size=128,
        gray=False,
        patch_size="auto",
        stride=None,
        ssim_window=11,
        ssim_c1=0.01,
        ssim_c2=0.03,
        features=None,
        feature_weight=1.0,
        sigma=4.0,
        image_score="max",
        max_epochs="auto",
        batch_size="auto",
        lr=1e-3,
        weight_decay=0.0,
        validation_share=0.1,
        patience=20,
        warm_start=False,
        device="auto",
        data_range=None,
        max_pixels=MAX_PIXELS,
        false_alarm_rate=0.05,
        calibration="split",
        min_defect_area=1,
        random_state=None,
        verbose=0,
    ):
        self.hidden = hidden
        self.decoder_hidden = decoder_hidden
        self.activation = activation
        self.output_activation = output_activation
        self.activity_penalty = activity_penalty
        self.residual = residual
        self.noise = noise
        self.loss = loss
        self.architecture = architecture
        self.code_size = code_size
        self.image_size = image_size
        self.gray = gray
        self.patch_size = patch_size
        self.stride = stride
        self.ssim_window = ssim_window
        self.ssim_c1 = ssim_c1
        self.ssim_c2 = ssim_c2
        self.features = features
        self.feature_weight = feature_weight
        self.sigma = sigma
        self.image_score = image_score
        self.max_epochs = max_epochs
        self.batch_size = batch_size
        self.lr = lr
        self.weight_decay = weight_decay
        self.validation_share = validation_share
        self.patience = patience
        self.warm_start = warm_start
        self.device = device
        self.data_range = data_range
        self.max_pixels = max_pixels
        self.false_alarm_rate = false_alarm_rate
        self.calibration = calibration
        self.min_defect_area = min_defect_area
        self.random_state = random_state
        self.verbose = verbose

    @available_if(lambda detector: getattr(detector, "kind_", "rows") == "rows")
    def contributions(self, X):
        """Return what every column adds to the anomaly score of rows: the sum is ``-score_samples(X)``.

        Parameters
        ----------
        X : array-like of shape (n, d)

        Returns
        -------
        ndarray of shape (n, d), float64
            Not negative, but for "mahalanobis", where correlated columns share what they add.
        """
        return np.concatenate([self._run(self._shares, Z) for Z, _ in self._embedded_batches(X)])

    # ----------------------------------------------------------------------------------------- the network

    def _check_samples(self, X, reset):
        samples = super()._check_samples(X, reset)
        if reset:
            self._check_for_rows() if self.kind_ == "rows" else self._check_for_images(samples)
        return samples

    def _check_for_rows(self):
        if self.loss != "l2":
            raise ValueError(f"loss={self.loss!r} is for images; rows know 'l2'.")
        for name in ("hidden", "decoder_hidden"):
            widths = getattr(self, name)
            if not all(isinstance(n, Integral) and n >= 1 for n in widths or ()):
                raise ValueError(f"{name}={widths!r}; accepted are numbers of units, from 1 on.")
        if not self.hidden:
            raise ValueError("hidden=() has no code; accepted is at least one width.")
        activations, n_hidden = self._activations(), len(self._widths()) - 2
        if not set(activations) <= set(ACTIVATIONS) or len(activations) != n_hidden + 1:
            raise ValueError(
                f"activation={self.activation!r}; accepted is one of {', '.join(sorted(ACTIVATIONS))}, or one for each "
                f"of the {n_hidden} hidden layers."
            )

    def _check_for_images(self, source):
        if self.loss == "ssim":
            side = self._patch_side() or min(as_pair(self.image_size))
            if self.ssim_window % 2 == 0 or not 3 <= self.ssim_window <= side:
                raise ValueError(f"ssim_window={self.ssim_window}; accepted are odd numbers from 3 to {side}.")
        if self.loss == "feature":
            features = (
                PretrainedPatchFeatures(layers=(0, 1), device=self.device) if self.features is None else self.features
            )
            self.features_ = clone(features).fit(source, None)

    def _widths(self):
        """Return the widths of all layers for rows, with None for the number of columns."""
        decoder = tuple(self.hidden[-2::-1]) if self.decoder_hidden is None else tuple(self.decoder_hidden)
        return (None, *self.hidden, *decoder, None)

    def _activations(self):
        """Return the names of the activations of all layers for rows."""
        hidden = self.activation
        if isinstance(hidden, str):
            hidden = [hidden] * (len(self._widths()) - 2)
        return (*hidden, self.output_activation)

    def _build(self):
        if self.kind_ == "rows":
            widths = [width or self.network_shape_[0] for width in self._widths()]
            activations, n = self._activations(), len(self.hidden)
            return EncoderDecoder(
                dense_layers(widths[: n + 1], activations[:n]), dense_layers(widths[n:], activations[n:])
            )
        n_channels, *size = self.network_shape_
        if self.architecture == "pooled":
            return EncoderDecoder(pooled_encoder(n_channels), pooled_decoder(n_channels, tuple(size)))
        encoder, decoder = (
            part(n_channels, tuple(size), self.code_size) for part in (strided_encoder, strided_decoder)
        )
        return EncoderDecoder(encoder, decoder, n_channels)

    # ----------------------------------------------------------------------------------------- losses and scores

    def _training_loss(self, x, generator):
        noise = (1.0 if self.kind_ == "rows" else 0.0) if self.noise is None else self.noise
        seen = x
        if noise > 0:
            seen = x + noise * torch.randn(x.shape, generator=generator).to(x.device)
        loss = self._compare(x, self._module()(seen)).mean()
        if self.activity_penalty > 0 and self.kind_ == "rows":
            loss = loss + self.activity_penalty * self._module().encoder[:2](seen).abs().sum(dim=1).mean()
        return loss

    def _restore(self, x):
        return self._module()(x)

    def _compare(self, x, restored):
        losses = self._difference(x, restored).flatten(1).mean(dim=1)
        if self.loss == "feature":
            losses = losses + self.feature_weight * self._feature_difference(x, restored)
        return losses

    def _difference(self, x, restored):
        """Return squared residuals, or 1 - SSIM, of the shape of x."""
        if self.loss == "ssim":
            return 1 - ssim_map(x, restored, window=self.ssim_window, c1=self.ssim_c1, c2=self.ssim_c2)
        return (x - restored).square()

    def _feature_difference(self, x, restored):
        """Return the mean squared difference (n,) of pretrained feature maps, summed over the layers."""
        pairs = zip(self._feature_maps(x), self._feature_maps(restored), strict=True)
        return sum((a - b).square().flatten(1).mean(dim=1) for a, b in pairs)

    def _feature_maps(self, x):
        return self.features_.layer_maps(x.expand(-1, 3, -1, -1))

    def _evidence(self, x):
        if self.kind_ == "images":
            return self._difference(x, self._restore(x)).mean(dim=1)
        return self._shares(x).sum(dim=1)

    def _shares(self, x):
        """Return what every column adds to the score of rows (n, d)."""
        r = x - self._restore(x)
        if self.residual == "mse":
            return r.square() / r.shape[1]
        mean, precision = (torch.from_numpy(part).to(x) for part in (self.residual_mean_, self._precision))
        return (r - mean) * ((r - mean) @ precision) / r.shape[1]

    def _learn_residuals(self, train, held_out):
        super()._learn_residuals(train, held_out)
        if self.kind_ == "images":
            return
        rows = held_out if len(held_out) >= _ROWS_PER_COLUMN * held_out.shape[1] else train
        residuals = self._run(lambda x: x - self._restore(x), rows)
        self.residual_mean_ = residuals.mean(axis=0)
        n, d = residuals.shape
        covariance = np.cov(residuals.T, bias=True) if n >= _ROWS_PER_COLUMN * d else ledoit_wolf(residuals)[0]
        self.residual_covariance_ = covariance + _RIDGE * np.eye(d)
        if self.residual == "standardized":
            self._precision = np.diag(1 / (residuals.var(axis=0) + _RIDGE))
        else:
            self._precision = np.linalg.inv(self.residual_covariance_)
