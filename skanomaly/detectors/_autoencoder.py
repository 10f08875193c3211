"""Autoencoders for rows, images and grids of features."""

import copy
from numbers import Real

import numpy as np
import torch
from sklearn.covariance import ledoit_wolf
from sklearn.utils._param_validation import HasMethods, Interval, StrOptions
from sklearn.utils.metaestimators import available_if

from .._kernels.checks import require
from .._torch.inference import row_by_row
from .._torch.views import mean_values
from ..networks._losses import resolve_loss
from ._reconstruction import ReconstructionDetector

_RIDGE = 1e-6  # smallest variance of a residual, as a share of its column's
_ROWS_PER_COLUMN = 10  # with as many held-out vectors, the statistics of residuals are computed from these alone


def _has_columns(detector):
    features = detector._features()
    if features is not None and features.makes_maps:
        raise AttributeError(
            f"this {type(detector).__name__} has no contributions of columns because {type(features).__name__} looks "
            "at images; anomaly_map shows where they are anomalous."
        )
    return True


class Autoencoder(ReconstructionDetector):
    r"""Autoencoder: score samples by how badly a network trained on normal samples reconstructs them.

    A network f compresses a sample x into a narrow code and reconstructs it. It is trained on normal samples,

    .. math:: \min_f \sum_x L(x, f(x + \epsilon)),

    and anomalies are the samples with a large residual r = x - f(x). `features` define x, and `network` defines f; None
    stands for `Columns` and a `DenseNetwork` if the samples are rows, and for `Pixels` and a `StridedNetwork` if they
    are images.

    **Vectors** are rows, or the single cells of a grid of features, such as `PretrainedPatchFeatures`. Columns and
    features are standardised with the training samples; noise :math:`\epsilon` of one standard deviation is added in
    training (a denoising autoencoder), which keeps f from learning the identity. With r the residual of d
    standardised columns, its mean m and covariance S on normal samples, the score of a row, and the value of a cell in
    the anomaly map, is

    ================  ====================================================
    `residual`        score
    ================  ====================================================
    "mse"             :math:`\frac{1}{d} \sum_i r_i^2`
    "standardized"    :math:`\frac{1}{d} \sum_i (r_i - m_i)^2 / S_{ii}`
    "mahalanobis"     :math:`\frac{1}{d} (r - m)^T S^{-1} (r - m)`
    ================  ====================================================

    **Images** have the anomaly map

    =================  =========================================  ==================================
    `loss`             L                                          map
    =================  =========================================  ==================================
    "l2"               mean squared residual of all pixels        squared residual, mean of channels
    "bce"              mean binary cross-entropy of all pixels    squared residual, mean of channels
    ``SSIMLoss()``     mean of 1 - SSIM of all windows            1 - SSIM, mean of channels
    ``FeatureLoss()``  "l2" + `weight` x mean squared difference  squared residual, mean of channels
                       of pretrained feature maps
    =================  =========================================  ==================================

    smoothed with `sigma` and resized to the image; the score is its maximum or mean. By default the network sees
    overlapping patches of the image, so that a few images yield many patches; maps and reconstructions are averaged
    where patches overlap. ``StridedNetwork(patch_size=None)`` sees the whole image, for parts that are always in the
    same place.

    Parameters
    ----------
    features : estimator or None, default=None
        Features that turn samples into the input of the network, such as `Columns`, `Pixels` or
        `PretrainedPatchFeatures`, or a `FrozenEstimator` of fitted features; None is ``Columns()`` for rows and
        ``Pixels()`` for images.
    network : DenseNetwork, StridedNetwork, PooledNetwork or None, default=None
        Network to train; None is ``StridedNetwork()`` for images and ``DenseNetwork()`` for rows and the cells of other
        features.
    loss : "l2", "bce", SSIMLoss or FeatureLoss, default="l2"
        Loss that training minimises. It must be "l2" for vectors. "bce" is the binary cross-entropy of pixels, for
        networks whose outputs are in [0, 1].
    residual : {"mse", "standardized", "mahalanobis"}, default="mse"
        Score of vectors, see above. m and S are computed from the samples held out for early stopping if there are at
        least 10 per column, otherwise from the other training samples; S is shrunk (Ledoit and Wolf) if there are fewer
        than 10 of these per column.
    noise : float or None, default=None
        Standard deviation of the noise added in training, in units of standardised columns or of pixels in [0, 1]; None
        is 1 for vectors and 0 for images.
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
        Seed of the initial weights, the shuffling, the noise, the folds and the splits.
    verbose : int, default=0
        If 1, progress bars are shown.

    Attributes
    ----------
    features_ : estimator
        Fitted features.
    network_ : DenseNetwork, StridedNetwork or PooledNetwork
        Description of the network.
    training_ : Training
        Training settings that were used.
    loss_ : estimator
        Fitted loss.
    network_state_ : dict of str to ndarray
        Weights of the network.
    sample_shape_ : tuple of int
        Shape of an embedded sample: (d,) or (h, w, d).
    input_statistics_ : dict of str to ndarray
        "location" and "scale" (d,) of the cells of the training samples; empty if the network sees rows or images.
    history_ : dict of str to ndarray of shape (n_epochs,)
        Losses of each epoch: "train_loss", and "valid_loss" if samples were held out.
    residual_mean_ : ndarray of shape (d,)
        Mean m of residuals. Defined only for vectors.
    residual_covariance_ : ndarray of shape (d, d)
        Covariance S of residuals. Defined only for vectors.
    lowest_loss_ : float
        Smallest loss L of a training sample.
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
    VAE : Variational autoencoder, which scores by the likelihood.
    GradientProjection : Distance that samples have to move until an autoencoder reconstructs them.
    skanomaly.networks : Networks, losses and training settings to pass.

    Notes
    -----
    The tutorial network for credit-card fraud (4 layers, 30-14-7-7-30, whose output cannot be negative) is
    ``Autoencoder(network=DenseNetwork((14, 7), decoder=(7,), activation=("tanh", "relu", "tanh"),
    output_activation="relu", activity_penalty=1e-7), noise=0, training=Training(batch_size=128), max_epochs=100)``.

    The dense autoencoder of the Keras tutorial (784-32-784, for digits in whole images) is ``Autoencoder(Pixels(28,
    gray=True), DenseNetwork((32,), output_activation="sigmoid"), loss="bce", training=Training(batch_size=256),
    max_epochs=50)``.

    To search parameters of the network or of training, pass the object, then name its parameter:
    ``{"network__hidden": [(64, 32), (32, 8)], "training__lr": [1e-3, 1e-2]}`` for
    ``Autoencoder(network=DenseNetwork(), training=Training())``.

    Training keeps all embedded samples in memory; scoring runs in bounded memory. Pickles hold the parameters and the
    attributes above; the network is rebuilt from `network_state_`.

    References
    ----------
    Vincent et al., "Extracting and Composing Robust Features with Denoising Autoencoders", ICML 2008.
    Bergmann et al., "Improving Unsupervised Defect Segmentation by Applying Structural Similarity to Autoencoders",
    VISAPP 2019, arXiv:1807.02011.

    Examples
    --------
    >>> import numpy as np
    >>> from skanomaly import Autoencoder
    >>> from skanomaly.networks import DenseNetwork
    >>> X = np.random.default_rng(0).normal(size=(500, 2)) @ [[1, 1, 0], [0, 1, 1]]  # a plane in space
    >>> detector = Autoencoder(network=DenseNetwork((8, 2)), max_epochs=20, random_state=0).fit(X)
    >>> detector.predict([[1.0, 2.0, 1.0], [3.0, -3.0, 3.0]])
    array([ 1, -1])
    """

    _parameter_constraints = {
        **ReconstructionDetector._parameter_constraints,
        "loss": [StrOptions({"l2", "bce"}), HasMethods(["losses", "residuals"])],
        "residual": [StrOptions({"mse", "standardized", "mahalanobis"})],
        "noise": [Interval(Real, 0, None, closed="left"), None],
    }

    def __init__(
        self,
        features=None,
        network=None,
        *,
        loss="l2",
        residual="mse",
        noise=None,
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
        self.loss = loss
        self.residual = residual
        self.noise = noise
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

    @available_if(_has_columns)
    def contributions(self, X):
        """Compute the share of each column in the anomaly scores of rows; they sum to ``-score_samples(X)``.

        Parameters
        ----------
        X : array-like of shape (n, d)
            Rows.

        Returns
        -------
        ndarray of shape (n, d), float64
            Shares of the columns. They are non-negative, except with "mahalanobis", where correlated columns share
            their contribution.
        """
        model = self.reconstructor()
        return np.concatenate([model.run(lambda x: self._shares(model.module, x), Z) for _, Z in self._batches(X)])

    # ----------------------------------------------------------------------------------------- fitting

    def _open(self, X):
        samples = super()._open(X)
        self.loss_ = resolve_loss(self.loss)
        return samples

    def _prepare(self):
        super()._prepare()
        shape = self._view().shape
        self.loss_.check(shape)
        if getattr(self.loss_, "bounded", False) and not getattr(self.network_, "bounded", False):
            raise ValueError(
                f"loss={self.loss!r} compares pixels in [0, 1], but the outputs of network={self.network_!r} are not "
                "bounded; use DenseNetwork(output_activation='sigmoid') or PooledNetwork()."
            )
        if self.residual != "mse" and len(shape) > 1:
            raise ValueError(
                f"residual={self.residual!r} is for vectors, but network={self.network_!r} sees images of shape "
                f"{shape}; it must be 'mse'."
            )

    def _fit_loss(self, samples):
        self.loss_ = copy.copy(self.loss_).fit_samples(samples)

    def _training_loss(self, module, x, generator):
        noise = self.network_.default_noise(x.shape[1:]) if self.noise is None else self.noise
        seen = x
        if noise > 0:
            seen = x + noise * torch.randn(x.shape, generator=generator).to(x.device)
        loss = self.loss_.losses(x, module(seen), mean_values).mean()
        return loss + self.network_.penalty(module, seen)

    _private_state = {
        "_precision": "ndarray of shape (d, d), float64",
        "_residual_variances": "ndarray of shape (d,), float64",
    }

    def _check_state(self):
        super()._check_state()
        if hasattr(self, "network_state_") and len(self._view().shape) == 1:
            d = (self._view().shape[0],)
            names = "residual_mean_", "_residual_variances", "_precision"
            found = [getattr(self, name, np.empty(0)) for name in names]
            shapes = [part.shape for part in found]
            require(shapes == [d, d, d * 2], "the statistics of residuals are missing, or have another width")
            require(all(np.isfinite(part).all() for part in found), "the statistics of residuals are not finite")

    def _learn_residuals(self, train, held_out):
        super()._learn_residuals(train, held_out)
        if len(self._view().shape) > 1:
            return
        model = self.reconstructor()
        enough = held_out.size >= _ROWS_PER_COLUMN * held_out.shape[-1] ** 2
        residuals = model.run(
            lambda x: model.per_part(lambda part: part - model.module(part), x), held_out if enough else train
        ).reshape(-1, train.shape[-1])
        self.residual_mean_ = residuals.mean(axis=0)
        n, d = residuals.shape
        covariance = np.cov(residuals.T, bias=True) if n >= _ROWS_PER_COLUMN * d else ledoit_wolf(residuals)[0]
        self.residual_covariance_ = covariance + _RIDGE * np.eye(d)
        self._residual_variances = residuals.var(axis=0, dtype=np.float64) + _RIDGE
        self._precision = np.linalg.inv(self.residual_covariance_)

    # ----------------------------------------------------------------------------------------- scoring

    def _restore(self, module, x):
        return module(x)

    def _compare(self, x, restored, view):
        return self.loss_.losses(x, restored, view.mean)

    def _evidence(self, module, x):
        if x.ndim > 2:
            return self.loss_.residuals(x, module(x)).mean(dim=1)
        return self._shares(module, x).sum(dim=1)

    def _shares(self, module, x):
        """Return the share of each value of vectors (N, d) in their scores."""
        r = x - module(x)
        if self.residual == "mse":
            return r.square() / r.shape[1]
        precision = self._precision if self.residual == "mahalanobis" else np.diag(1 / self._residual_variances)
        mean, precision = (torch.from_numpy(part).to(x) for part in (self.residual_mean_, precision))
        return (r - mean) * row_by_row(r - mean, precision) / r.shape[1]  # the precision is symmetric
