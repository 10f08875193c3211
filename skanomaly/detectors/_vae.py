"""Variational autoencoders for rows, images and grids of features."""

from math import prod
from numbers import Real

import torch
from sklearn.utils._param_validation import Interval, StrOptions

from .._torch.training import mean_loss
from ._reconstruction import ReconstructionDetector

_LEAST_VARIANCE = 1e-6  # of the decoder, where it is learned
_LOG_VARIANCES = (-20, 5)  # of codes; extreme rows must not make the loss of a whole batch explode


class VAE(ReconstructionDetector):
    r"""Variational autoencoder: score samples by their likelihood under a model with few latent variables.

    An encoder computes the mean m and the variance :math:`s^2` of the code z of a sample x, and a decoder the mean
    :math:`\mu(z)` of a normal distribution of x with variance :math:`\gamma`. They are trained on normal samples to
    minimise the negative lower bound of the log-likelihood, in nats per sample,

    .. math::

        L(x) &= \underbrace{\mathbb{E}_{z \sim N(m, s^2)} \sum_i \Big( \overbrace{\tfrac12 \log 2 \pi \gamma}^A +
        \overbrace{\frac{(x_i - \mu_i(z))^2}{2 \gamma}}^M \Big)}_{L_r(x)} + \beta \, \mathrm{KL}(x), \\
        \mathrm{KL}(x) &= \tfrac12 \sum_j (m_j^2 + s_j^2 - 1 - \log s_j^2).

    Training draws one z per sample; scoring uses z = m, so that scores are deterministic. They are

    ================  ==========  ============================================================
    `anomaly_score`   score       of vectors
    ================  ==========  ============================================================
    "elbo"            A + M + KL  the bound L with :math:`\beta = 1`
    "reconstruction"  A + M       the reconstruction term L_r
    "unregularized"   M           the reconstruction term without the normaliser
    ================  ==========  ============================================================

    Since :math:`\gamma` is a single number here, the normaliser A is a constant: "unregularized" and "reconstruction"
    rank samples, label them and mask pixels identically; only their scores differ, by a constant.

    `features` define x, and `network` defines the encoder and the decoder; None stands for `Columns` and a
    `DenseNetwork` if the samples are rows, and for `Pixels` and a `StridedNetwork` if they are images. **Vectors**,
    which are rows or the single cells of a grid of features, are standardised with the training samples; the value of a
    cell in the anomaly map is its score. **Images** have a map of A + M (or M) at each pixel, summed over the channels
    and smoothed with `sigma`; the score is its maximum or mean. KL is one number per image and appears in no map;
    "elbo" adds KL per pixel to the score, so that with ``image_score="mean"`` the score is L per pixel. By default the
    network sees overlapping patches, over which L_r, KL and maps are averaged.

    Parameters
    ----------
    features : estimator or None, default=None
        Features that turn samples into the input of the network, such as `Columns`, `Pixels` or
        `PretrainedPatchFeatures`, or a `FrozenEstimator` of fitted features; None is ``Columns()`` for rows and
        ``Pixels()`` for images.
    network : DenseNetwork, StridedNetwork or None, default=None
        Network to train, whose encoder gets a second head; None is ``StridedNetwork()`` for images and
        ``DenseNetwork()`` for rows and the cells of other features. ``DenseNetwork((k,))`` is the linear model,
        probabilistic PCA.
    decoder_variance : "learned" or float, default="learned"
        Variance :math:`\gamma` of the decoder, in units of standardised columns or of pixels in [0, 1]. "learned" is
        the gamma-VAE, which uses the optimal value, the mean squared error: of each batch during training, and finally
        of all training samples, each with one draw of z. It is at least 1e-6.
    beta : float, default=1.0
        Weight of KL in training.
    anomaly_score : {"reconstruction", "elbo", "unregularized"}, default="reconstruction"
        Terms of L that are summed in the score, see above.
    sigma : float, default=4.0
        Standard deviation of the Gaussian that smooths anomaly maps, in pixels of a 224 x 224 image.
    image_score : {"max", "mean", "contrast"} or float, default="max"
        How the score of an image is computed from its map, at the size at which the features see images: its maximum,
        its mean, its maximum minus its mean, or the mean over this share of its highest pixels, in (0, 1).
    max_epochs : int or "auto", default="auto"
        Maximum number of epochs; "auto" uses the default of the network.
    training : Training or None, default=None
        Batch size, optimiser settings and early stopping; None is ``Training()``.
    warm_start : bool, default=False
        If True, `fit` continues training the previously fitted network, with unchanged features, for another
        `max_epochs`. Such a fit sets no thresholds because the network may already have seen its samples: call
        `calibrate` with fresh normal samples.
    device : {"auto", "cpu", "cuda", "mps"}, default="auto"
        Device on which the network runs.
    false_alarm_rate : float or None, default=0.05
        Share of normal samples that may be flagged, in (0, 1); None sets no threshold.
    calibration : {"split", "cv"}, default="split"
        How thresholds are calibrated.

        - "split" holds out a random 20 % of the training samples, which the network never sees. Only "split" carries
          the guarantee of split-conformal prediction.
        - "cv" uses 10-fold cross-validation and trains 11 networks.
    min_defect_area : int, default=1
        Area of the smallest region in masks, in pixels.
    random_state : int, RandomState instance or None, default=None
        Seed of the initial weights, the shuffling, the draws of z, the folds and the splits.
    verbose : int, default=0
        If 1, progress bars are shown.

    Attributes
    ----------
    features_ : estimator
        Fitted features.
    network_ : DenseNetwork or StridedNetwork
        Description of the network.
    training_ : Training
        Training settings that were used.
    decoder_variance_ : float
        Variance :math:`\gamma` of the decoder.
    network_state_ : dict of str to ndarray
        Weights of the network.
    sample_shape_ : tuple of int
        Shape of an embedded sample: (d,) or (h, w, d).
    input_statistics_ : dict of str to ndarray
        "location" and "scale" (d,) of the cells of the training samples; empty if the network sees rows or images.
    history_ : dict of str to ndarray of shape (n_epochs,)
        Mean L of each epoch: "train_loss", and "valid_loss" if samples were held out.
    lowest_loss_ : float
        Smallest L_r of a training sample; it may be negative.
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
    Autoencoder : Deterministic autoencoder, which scores by the residual.
    GradientProjection : Distance that samples have to move until an autoencoder reconstructs them.
    skanomaly.networks : Networks and training settings to pass.

    References
    ----------
    Kingma and Welling, "Auto-Encoding Variational Bayes", ICLR 2014, arXiv:1312.6114.
    Dai and Wipf, "Diagnosing and Enhancing VAE Models", ICLR 2019, arXiv:1903.05789.
    Matsubara et al., "Anomaly Machine Component Detection by Deep Generative Model with Unregularized Score",
    IJCNN 2018, arXiv:1807.05800.

    Examples
    --------
    >>> import numpy as np
    >>> from skanomaly import VAE
    >>> from skanomaly.networks import DenseNetwork, Training
    >>> X = np.random.default_rng(0).normal(size=(500, 2)) @ [[1, 1, 0], [0, 1, 1]]  # a plane in space
    >>> detector = VAE(network=DenseNetwork((8, 2)), training=Training(lr=1e-2), max_epochs=40, random_state=0).fit(X)
    >>> detector.predict([[1.0, 2.0, 1.0], [3.0, -3.0, 3.0]])
    array([ 1, -1])
    """

    _parameter_constraints = {
        **ReconstructionDetector._parameter_constraints,
        "decoder_variance": [StrOptions({"learned"}), Interval(Real, 0, None, closed="neither")],
        "beta": [Interval(Real, 0, None, closed="left")],
        "anomaly_score": [StrOptions({"elbo", "reconstruction", "unregularized"})],
    }
    _n_codes_per_unit = 2  # mean and log-variance

    def __init__(
        self,
        features=None,
        network=None,
        *,
        decoder_variance="learned",
        beta=1.0,
        anomaly_score="reconstruction",
        sigma=4.0,
        image_score="max",
        max_epochs="auto",
        training=None,
        warm_start=False,
        device="auto",
        false_alarm_rate=0.05,
        calibration="split",
        min_defect_area=1,
        random_state=None,
        verbose=0,
    ):
        self.features = features
        self.network = network
        self.decoder_variance = decoder_variance
        self.beta = beta
        self.anomaly_score = anomaly_score
        self.sigma = sigma
        self.image_score = image_score
        self.max_epochs = max_epochs
        self.training = training
        self.warm_start = warm_start
        self.device = device
        self.false_alarm_rate = false_alarm_rate
        self.calibration = calibration
        self.min_defect_area = min_defect_area
        self.random_state = random_state
        self.verbose = verbose

    # ----------------------------------------------------------------------------------------- training

    def _training_loss(self, module, x, generator):
        mean, log_variance = posterior(module, x)
        squares = _drawn_squares(module, x, generator, mean, log_variance)
        variance = self.decoder_variance
        if variance == "learned":
            variance = squares.detach().mean().clamp(min=_LEAST_VARIANCE)
        losses = (_normalizer(variance, x) + squares / (2 * variance)).flatten(1).sum(dim=1)
        return (losses + self.beta * divergence(mean, log_variance)).mean() + self.network_.penalty(module, x)

    def _after_training(self, module, data, generator):
        self.decoder_variance_ = self.decoder_variance
        if self.decoder_variance == "learned":
            error = mean_loss(
                lambda x: _drawn_squares(module, x, generator, *posterior(module, x)).mean(),
                data,
                self.network_.batch_sizes[1],
            )
            self.decoder_variance_ = max(error, _LEAST_VARIANCE)

    # ----------------------------------------------------------------------------------------- scores

    def _restore(self, module, x):
        return module.decode(posterior(module, x)[0])

    def _loss_unit(self, view):
        return prod(view.shape) / (2 * self.decoder_variance_)

    def _compare(self, x, restored, view):
        return view.total(_normalizer(self.decoder_variance_, x) + self._deviations(x, restored))

    def _evidence(self, module, x):
        terms = self._deviations(x, self._restore(module, x))
        if self.anomaly_score != "unregularized":
            terms = terms + _normalizer(self.decoder_variance_, x)
        evidence = terms.sum(dim=1)
        if self.anomaly_score == "elbo" and x.ndim == 2:
            evidence = evidence + divergence(*posterior(module, x))
        return evidence

    def _deviations(self, x, restored):
        """Return M, of the shape of x."""
        return (x - restored).square() / (2 * self.decoder_variance_)

    def _score(self, Z, maps=True):
        scores, grids = super()._score(Z, maps)
        shape = self._view().shape
        if self.anomaly_score == "elbo" and len(shape) > 1:
            scores = scores + self._divergences(Z) / prod(shape[1:])
        return scores, grids

    def _divergences(self, Z):
        """Return KL (n,) of images."""
        model = self.reconstructor()
        return model.run(lambda x: model.per_sample(lambda part: divergence(*posterior(model.module, part)), x), Z)


def posterior(module, x):
    """Encode x.

    Parameters
    ----------
    module : EncoderDecoder
        Network whose encoder has a second head.
    x : Tensor of shape (n, ...)
        Inputs of the network.

    Returns
    -------
    mean : Tensor of shape (n, k)
        Means of the codes.
    log_variance : Tensor of shape (n, k)
        Logarithms of their variances.
    """
    mean, log_variance = module.encode(x).chunk(2, dim=1)
    return mean, log_variance.clamp(*_LOG_VARIANCES)


def divergence(mean, log_variance):
    """Compute the Kullback-Leibler divergence of diagonal normal distributions from the standard one.

    Parameters
    ----------
    mean : Tensor of shape (n, k)
        Means.
    log_variance : Tensor of shape (n, k)
        Logarithms of the variances.

    Returns
    -------
    Tensor of shape (n,)
        Divergences, in nats.
    """
    return (mean.square() + log_variance.exp() - 1 - log_variance).sum(dim=1) / 2


def _drawn_squares(module, x, generator, mean, log_variance):
    """Return the squared residuals, in the shape of x, of reconstructions from one drawn code each."""
    noise = torch.randn(mean.shape, generator=generator).to(mean.device)
    return (x - module.decode(mean + (log_variance / 2).exp() * noise)).square()


def _normalizer(variance, x):
    """Return A for a single value, log(2 pi variance) / 2, in the dtype and on the device of x."""
    return torch.as_tensor(2 * torch.pi * variance, dtype=x.dtype, device=x.device).log() / 2
