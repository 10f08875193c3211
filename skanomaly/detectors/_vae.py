"""Variational auto-encoders for rows and images."""

from math import prod
from numbers import Integral, Real

import torch
from sklearn.utils._param_validation import Interval, StrOptions

from .._inputs.images import MAX_PIXELS
from .._networks.autoencoders import ACTIVATIONS, EncoderDecoder, dense_layers, strided_decoder, strided_encoder
from .._torch.training import mean_loss
from ._reconstruction import _BATCH_SIZES, ReconstructionDetector

_LEAST_VARIANCE = 1e-6  # of the decoder, where it is learned
_LOG_VARIANCES = (-20, 5)  # of codes: extreme rows must not blow up the training of the others


class VAE(ReconstructionDetector):
    r"""Variational auto-encoder: the likelihood of a sample under a model with a few hidden causes.

    An encoder gives mean m and variance :math:`s^2` of the code z of a sample x, a decoder gives the mean
    :math:`\mu(z)` of a normal distribution of x with variance :math:`\gamma`. On normal samples they minimise the
    negative lower bound of the log-likelihood, in nats per sample,

    .. math::

        L(x) &= \underbrace{\mathbb{E}_{z \sim N(m, s^2)} \sum_i \Big( \overbrace{\tfrac12 \log 2 \pi \gamma}^A +
        \overbrace{\frac{(x_i - \mu_i(z))^2}{2 \gamma}}^M \Big)}_{L_r(x)} + \beta \, \mathrm{KL}(x), \\
        \mathrm{KL}(x) &= \tfrac12 \sum_j (m_j^2 + s_j^2 - 1 - \log s_j^2).

    Training draws one z per sample; scoring takes z = m, so that scores are no matter of chance. They are

    ================  ==========  ============================================================
    `anomaly_score`   score       of rows
    ================  ==========  ============================================================
    "elbo"            A + M + KL  the bound L, whatever :math:`\beta` was in training
    "reconstruction"  A + M       its reconstruction term L_r
    "unregularized"   M           that without the normaliser, which is a constant here
    ================  ==========  ============================================================

    **Rows** are standardised, column by column. **Images** have a map of A + M (or M) of every pixel, summed over the
    channels, smoothed by `sigma`; the score is its maximum or mean. KL is one number per image: it is in no map, and
    "elbo" adds its share per pixel to the score, so that the mean is L per pixel. By default the network sees
    overlapping patches, and L_r, KL and maps are averages over these.

    Parameters
    ----------
    hidden : tuple of int, default=(64, 32)
        Rows: widths of the encoder's layers, the last of which is the code; the decoder mirrors them. ``(k,)`` is the
        linear model, probabilistic PCA.
    activation : str, default="relu"
        Rows: "relu", "tanh", "elu", "sigmoid" or "linear", of all layers but the code and the output, which are linear.
    code_size : int, default=100
        Images: length of the code. The network is that of `Autoencoder` with a second head.
    decoder_variance : "learned" or float, default="learned"
        :math:`\gamma`, of standardised columns or of pixels in [0, 1]. "learned" is the gamma-VAE: the best value, the
        mean squared error, of each batch in training, and of all training samples, each with one draw of z, in the end;
        not below 1e-6.
    beta : float, default=1.0
        Weight of KL in training.
    anomaly_score : {"reconstruction", "elbo", "unregularized"}, default="reconstruction"
        See above. (A parameter `score` would hide what scikit-learn takes for a method.)
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
        Of first weights, shuffling, draws of z and shares.
    verbose : int, default=0
        1 shows a progress bar.

    Attributes
    ----------
    kind_ : {"rows", "images"}
        What the detector was fitted on.
    decoder_variance_ : float
        :math:`\gamma`.
    network_state_ : dict of str to ndarray
        Parameters of the network.
    history_ : dict of str to ndarray of shape (n_epochs,)
        "train_loss", and "valid_loss" where samples were held out: means of L.
    mean_, scale_ : ndarray of shape (d,)
        Of the training rows.
    lowest_loss_ : float
        The smallest L_r of a training sample; it may be negative.
    offset_ : float
        Threshold on `score_samples`.
    pixel_threshold_ : float
        Threshold on maps. Images only.
    calibration_scores_, calibration_levels_ : ndarray of shape (n,)
        What the two were taken from, ascending.
    n_features_in_ : int
        Number of columns. Rows only.

    References
    ----------
    Kingma and Welling, "Auto-Encoding Variational Bayes", ICLR 2014, arXiv:1312.6114.
    Dai and Wipf, "Diagnosing and Enhancing VAE Models", ICLR 2019, arXiv:1903.05789.
    Matsubara et al., "Anomaly Machine Component Detection by Deep Generative Model with Unregularized Score",
    IJCNN 2018, arXiv:1807.05800.

    Examples
    --------
    >>> import numpy as np
    >>> from skanomaly.detectors import VAE
    >>> X = np.random.default_rng(0).normal(size=(500, 2)) @ [[1, 1, 0], [0, 1, 1]]  # a plane in space
    >>> detector = VAE((8, 2), max_epochs=40, lr=1e-2, random_state=0).fit(X)
    >>> detector.predict([[1.0, 2.0, 1.0], [3.0, -3.0, 3.0]])
    array([ 1, -1])
    """

    _parameter_constraints = {
        **ReconstructionDetector._parameter_constraints,
        "hidden": [tuple, list],
        "activation": [StrOptions(set(ACTIVATIONS))],
        "code_size": [Interval(Integral, 1, None, closed="left")],
        "decoder_variance": [StrOptions({"learned"}), Interval(Real, 0, None, closed="neither")],
        "beta": [Interval(Real, 0, None, closed="left")],
        "anomaly_score": [StrOptions({"elbo", "reconstruction", "unregularized"})],
        "calibration": [StrOptions({"split", "cv"})],
    }

    def __init__(
        self,
        hidden=(64, 32),
        *,
        activation="relu",
        code_size=100,
        decoder_variance="learned",
        beta=1.0,
        anomaly_score="reconstruction",
        image_size=128,
        gray=False,
        patch_size="auto",
        stride=None,
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
        self.activation = activation
        self.code_size = code_size
        self.decoder_variance = decoder_variance
        self.beta = beta
        self.anomaly_score = anomaly_score
        self.image_size = image_size
        self.gray = gray
        self.patch_size = patch_size
        self.stride = stride
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

    # ----------------------------------------------------------------------------------------- the network

    def _check_samples(self, X, reset):
        samples = super()._check_samples(X, reset)
        widths = self.hidden
        if self.kind_ == "rows" and not (widths and all(isinstance(n, Integral) and n >= 1 for n in widths)):
            raise ValueError(f"hidden={widths!r}; accepted are numbers of units, from 1 on, of one layer or more.")
        return samples

    def _build(self):
        if self.kind_ == "images":
            n_channels, *size = self.network_shape_
            encoder = strided_encoder(n_channels, tuple(size), 2 * self.code_size)
            return EncoderDecoder(encoder, strided_decoder(n_channels, tuple(size), self.code_size), n_channels)
        *inner, code_size = self.network_shape_[0], *self.hidden
        activations = [self.activation] * (len(inner) - 1) + ["linear"]
        return EncoderDecoder(
            dense_layers([*inner, 2 * code_size], activations), dense_layers([code_size, *inner[::-1]], activations)
        )

    def _posterior(self, x):
        """Return the mean and the log-variance (n, k) of codes."""
        mean, log_variance = self._module().encode(x).chunk(2, dim=1)
        return mean, log_variance.clamp(*_LOG_VARIANCES)

    # ----------------------------------------------------------------------------------------- training

    def _training_loss(self, x, generator):
        mean, log_variance = self._posterior(x)
        squares = self._drawn_squares(x, mean, log_variance, generator)
        variance = self.decoder_variance
        if variance == "learned":
            variance = squares.detach().mean().clamp(min=_LEAST_VARIANCE)
        losses = (_normalizer(variance, x) + squares / (2 * variance)).flatten(1).sum(dim=1)
        return (losses + self.beta * _divergence(mean, log_variance)).mean()

    def _drawn_squares(self, x, mean, log_variance, generator):
        """Return squared residuals, of the shape of x, of reconstructions from one code each."""
        noise = torch.randn(mean.shape, generator=generator).to(mean.device)
        return (x - self._module().decode(mean + (log_variance / 2).exp() * noise)).square()

    def _train(self, data, held_out, generator):
        history = super()._train(data, held_out, generator)
        self.decoder_variance_ = self.decoder_variance
        if self.decoder_variance == "learned":
            error = mean_loss(
                lambda x: self._drawn_squares(x, *self._posterior(x), generator).mean(),
                data,
                _BATCH_SIZES[self.kind_][1],
            )
            self.decoder_variance_ = max(error, _LEAST_VARIANCE)
        return history

    # ----------------------------------------------------------------------------------------- scores

    def _restore(self, x):
        return self._module().decode(self._posterior(x)[0])

    @property
    def _loss_unit(self):
        return prod(self.network_shape_) / (2 * self.decoder_variance_)

    def _compare(self, x, restored):
        return (self._normalizer(x) + self._deviations(x, restored)).flatten(1).sum(dim=1)

    def _evidence(self, x):
        terms = self._deviations(x, self._restore(x))
        if self.anomaly_score != "unregularized":
            terms = terms + self._normalizer(x)
        return terms.sum(dim=1)

    def _normalizer(self, x):
        """Return A of one value, a scalar."""
        return _normalizer(self.decoder_variance_, x)

    def _deviations(self, x, restored):
        """Return M, of the shape of x."""
        return (x - restored).square() / (2 * self.decoder_variance_)

    def _divergences(self, x):
        """Return KL (n,) of whole samples."""
        return _divergence(*self._posterior(self._split(x))).view(len(x), -1).mean(dim=1)

    def _score(self, Z):
        scores, grids = super()._score(Z)
        if self.anomaly_score == "elbo":
            n_pixels = 1 if grids is None else self.network_shape_[1] * self.network_shape_[2]
            scores = scores + self._run(self._divergences, Z) / n_pixels
        return scores, grids


def _normalizer(variance, x):
    """Return log(2 pi variance) / 2 in the dtype and on the device of x."""
    return torch.as_tensor(2 * torch.pi * variance, dtype=x.dtype, device=x.device).log() / 2


def _divergence(mean, log_variance):
    """Return the Kullback-Leibler divergence (n,) of diagonal normal distributions from the standard one."""
    return (mean.square() + log_variance.exp() - 1 - log_variance).sum(dim=1) / 2
