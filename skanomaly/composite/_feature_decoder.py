"""Decoder from the features of a frozen network back to the image."""

import numpy as np
from sklearn.utils._param_validation import HasMethods

from .._torch.views import mean_values
from ..detectors._reconstruction import ReconstructionDetector
from ..networks import StridedNetwork
from ._feature_net import FEATURE_NET, FeatureNetMixin, features_of


class FeatureDecoder(FeatureNetMixin, ReconstructionDetector):
    r"""Decoder of features: score images by how badly they can be reconstructed from features learnt elsewhere.

    A feature network F, such as that of `MetricFeatures` or `DeepOneClass`, is trained first, and frozen. A decoder g
    then learns on normal images x to reconstruct them from their features,

    .. math:: \min_g \sum_x \|x - g(F(x))\|_2^2,

    from which only normal images can be drawn: what is anomalous is replaced by the normal image with the most similar
    features. The anomaly map is the squared residual, averaged over the channels.

    Parameters
    ----------
    feature_net : MetricFeatures, DeepOneClass, FrozenEstimator of a fitted one or None, default=None
        Detector that learns features of images. It is cloned and fitted, without a threshold of its own, or used as it
        is if frozen; None is ``MetricFeatures(max_epochs=0)``, a pretrained network that is not trained further.
    features : Pixels or None, default=None
        Size at which the feature network sees images, and the decoder reconstructs them; None is ``Pixels(96)``.
    network : StridedNetwork or None, default=None
        Network whose decoder is trained; None is ``StridedNetwork(patch_size=None)``. Its code is the features,
        standardised with those of the training images.
    sigma : float, default=4.0
        Standard deviation of the Gaussian that smooths anomaly maps, in pixels of a 224 x 224 image.
    image_score : {"max", "mean", "contrast"} or float, default="mean"
        How the score of an image is computed from its map, at the size at which the features see images: its maximum,
        its mean, its maximum minus its mean, or the mean over this share of its highest pixels, in (0, 1).
    max_epochs : int or "auto", default="auto"
        Maximum number of epochs; "auto" uses the default of the network.
    training : Training or None, default=None
        Batch size, optimiser settings and early stopping; None is ``Training()``.
    device : {"auto", "cpu", "cuda", "mps"}, default="auto"
        Device on which the network runs.
    false_alarm_rate : float or None, default=0.05
        Share of normal samples that may be flagged, in (0, 1); None sets no threshold.
    calibration : {"split", "cv"}, default="split"
        How thresholds are calibrated.

        - "split" holds out a random 20 % of the training samples, which neither network sees. Only "split" carries the
          guarantee of split-conformal prediction.
        - "cv" uses 10-fold cross-validation and trains 11 networks of each kind.

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
    network_ : StridedNetwork
        Description of the network.
    training_ : Training
        Training settings that were used.
    network_state_ : dict of str to ndarray
        Weights of the decoder, and the statistics of features with which it standardises them.
    n_codes_ : int
        Number of features d that are decoded.
    sample_shape_ : tuple of int
        Shape (h, w, c) of an image as the decoder rebuilds it.
    input_statistics_ : dict of str to ndarray
        Empty, because pixels are not standardised.
    history_ : dict of str to ndarray of shape (n_epochs,)
        Losses of each epoch: "train_loss", and "valid_loss" if samples were held out.
    lowest_loss_ : float
        Smallest loss of a training sample.
    calibration_ : Calibration
        Scores of the calibration samples and peaks of their maps, from which thresholds and p-values are computed.
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

    See Also
    --------
    AnoUNet : One U-Net for each image, which moves the features of the image to those of normal images.
    Autoencoder : Encoder and decoder that are trained together.

    Notes
    -----
    Features of a whole image say little about where its details are, so that reconstructions are blurred: the method
    shows which normal image is meant, rather than small defects. The features of the training images are computed once.

    References
    ----------
    shinmura0, "Ano-Unet", https://github.com/shinmura0/AnoUnet, whose author calls a decoder of features his first
    success.

    Examples
    --------
    >>> import numpy as np
    >>> from skanomaly import FeatureDecoder, MetricFeatures, Pixels, PretrainedPatchFeatures
    >>> images = np.random.default_rng(0).integers(0, 100, (12, 32, 32), np.uint8)
    >>> pretrained = PretrainedPatchFeatures("test_efficientnet", layers=("bn2",), weights="random", image_size=32)
    >>> net = MetricFeatures(pretrained, max_epochs=0)  # a quick control
    >>> detector = FeatureDecoder(net, Pixels(32), max_epochs=1, false_alarm_rate=None, random_state=0).fit(images)
    >>> detector.reconstruct(images[:2]).shape
    (2, 32, 32)
    """

    _parameter_constraints = {
        **ReconstructionDetector._parameter_constraints,
        "feature_net": FEATURE_NET,
        "network": [HasMethods(["build_decoder", "view", "check"]), None],
    }
    _derived = ("_net", "_features_net")
    warm_start = False

    def __init__(
        self,
        feature_net=None,
        features=None,
        network=None,
        *,
        sigma=4.0,
        image_score="mean",
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
        self.sigma = sigma
        self.image_score = image_score
        self.max_epochs = max_epochs
        self.training = training
        self.device = device
        self.false_alarm_rate = false_alarm_rate
        self.calibration = calibration
        self.min_defect_area = min_defect_area
        self.random_state = random_state
        self.verbose = verbose

    def default_network(self, features=None):
        """Return the network that ``network=None`` stands for.

        Parameters
        ----------
        features : Ignored
            Not used, present for consistency with other detectors.

        Returns
        -------
        StridedNetwork
            Network.
        """
        return StridedNetwork(patch_size=None)

    # ----------------------------------------------------------------------------------------- fitting

    def _prepare(self):
        super()._prepare()
        if self._view().shape[1:] != tuple(self.sample_shape_[:2]):
            raise ValueError(
                f"network={self.network_!r} sees patches, but features are of whole images; pass "
                "StridedNetwork(patch_size=None)."
            )

    def _first_net(self, Z, warm, generator):
        codes = self._codes(Z)
        self.n_codes_ = codes.shape[1]
        net = super()._first_net(Z, warm, generator)
        net.module.encoder.fit(net.to_tensor(codes))
        return net

    def _build(self):
        return self.network_.build_decoder(self._view().shape, self.n_codes_)

    def _to_learn_from(self, net, Z):
        codes = self._codes(Z) if len(Z) else np.empty((0, self.n_codes_), np.float32)
        return _Pairs(net.to_tensor(codes), super()._to_learn_from(net, Z))

    def _codes(self, Z):
        """Return the features (n, d) of embedded images."""
        net, view = self._feature_network(), self._view()
        return net.run(lambda x: features_of(net, x), view.arrange(Z), length=view.batch_len)

    def _training_loss(self, module, x, generator):
        codes, images = x
        return (images - _decode(module, codes)).square().mean()

    # ----------------------------------------------------------------------------------------- scoring

    def _restore(self, module, x):
        return _decode(module, features_of(self._feature_network(), x))

    def _compare(self, x, restored, view):
        return mean_values((x - restored).square())

    def _evidence(self, module, x):
        return (x - self._restore(module, x)).square().mean(dim=1)


class _Pairs:
    """Features and images, indexed together.

    Parameters
    ----------
    codes : Tensor of shape (n, d)
        Features.
    images : Tensor of shape (n, c, h, w)
        Images.
    """

    def __init__(self, codes, images):
        self.codes, self.images = codes, images

    def __len__(self):
        return len(self.codes)

    def __getitem__(self, index):
        return self.codes[index], self.images[index]


def _decode(module, codes):
    return module.decode(module.encoder(codes))
