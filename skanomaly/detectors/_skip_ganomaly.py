"""Skip-GANomaly: reconstruction by a U-Net that is trained against a discriminator."""

from numbers import Real

from sklearn.utils._param_validation import HasMethods, Interval

from .._torch.adversarial import SkipStep
from .._torch.views import mean_values
from ..networks import SkipGAN
from ._adversarial import AdversarialDetector
from ._image_scores import image_scores


class SkipGANomaly(AdversarialDetector):
    r"""Skip-GANomaly: score images by the residual of a U-Net and by what a discriminator notices.

    A generator G, a U-Net with skip connections, rebuilds normal images, and a discriminator learns to tell images from
    rebuilt ones. The generator minimises

    .. math::
        w_a \log(1 / D(G(x))) + w_r \overline{|x - G(x)|} + w_f \overline{(f(x) - f(G(x)))^2},

    where f are the last feature maps of the discriminator, D its decision as a probability, bars denote means, and
    pixels are between -1 and 1. The discriminator minimises :math:`-\log D(x) - \log(1 - D(G(x)))` and the same
    difference of features, as in the code of the authors. The anomaly score is

    .. math::
        A(x) = (1 - \lambda) \overline{(x - G(x))^2} + \lambda \overline{(f(x) - f(G(x)))^2},

    with the first mean replaced by another level of the map if `image_score` is not "mean"; the map is
    :math:`(x - G(x))^2`, averaged over channels. The networks are in evaluation mode, so that the score of an image
    does not depend on the others in its batch.

    Parameters
    ----------
    features : Pixels or None, default=None
        Features that turn images into the input of the network; None is ``Pixels(64)``.
    network : SkipGAN or None, default=None
        Networks to train; None is ``SkipGAN()``.
    adversarial_weight : float, default=1.0
        Weight :math:`w_a` of the discriminator's decision in the loss of the generator.
    residual_weight : float, default=50.0
        Weight :math:`w_r` of the residual in the loss of the generator.
    feature_weight : float, default=1.0
        Weight :math:`w_f` of the difference of features in the losses of both networks.
    lam : float, default=0.1
        Weight :math:`\lambda` of the features in the score, in [0, 1]; 0 leaves the residual only.
    sigma : float, default=4.0
        Standard deviation of the Gaussian that smooths anomaly maps, in pixels of a 224 x 224 image.
    image_score : {"max", "mean", "contrast"} or float, default="mean"
        How the residual of an image is computed from its map, at the size at which the features see images: its
        maximum, its mean, its maximum minus its mean, or the mean over this share of its highest pixels, in (0, 1).
    max_epochs : int or "auto", default="auto"
        Number of epochs; "auto" uses the default of the network.
    training : Training or None, default=None
        Batch size and optimiser settings; None is ``Training(validation_share=0)``. The GAN is trained for all
        epochs, and `patience` is ignored.
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
        Seed of the initial weights, the shuffling, the folds and the splits.
    verbose : int, default=0
        If 1, progress bars are shown.

    Attributes
    ----------
    features_ : estimator
        Fitted features.
    network_ : SkipGAN
        Description of the networks.
    training_ : Training
        Training settings that were used.
    network_state_ : dict of str to ndarray
        Weights of the generator and the discriminator.
    sample_shape_ : tuple of int
        Shape of an embedded sample, (h, w, c).
    input_statistics_ : dict of str to ndarray
        Statistics of the input of the network: none.
    history_ : dict of str to ndarray of shape (n_epochs,)
        Losses of each epoch: "train_loss" of the generator and "discriminator_loss".
    lowest_loss_ : float
        Smallest mean squared residual of a training sample.
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

    See Also
    --------
    AnoGAN : Generator of images from codes.
    Autoencoder : Reconstruction without a discriminator and without skip connections.
    GradientProjection : Distance that images have to move until a network reconstructs them.

    Notes
    -----
    Skip connections pass details, and with them defects, from the image to its reconstruction; what is left in the
    residual is how well the network, trained on normal images, copies the image. The published code differs in three
    ways that matter for its figures: it never leaves training mode, so that batch norm uses the statistics of test
    batches, which are sorted by class; it scales scores by their extremes over the test set, which leaves the AUROC as
    it is; and it reports the epoch with the highest test AUROC. Its CIFAR-10 figures are for one abnormal and nine
    normal classes.

    Training keeps all embedded samples in memory; scoring runs in bounded memory. Pickles hold the parameters and the
    attributes above; the networks are rebuilt from `network_state_`.

    References
    ----------
    Akcay et al., "Skip-GANomaly: Skip Connected and Adversarially Trained Encoder-Decoder Anomaly Detection", IJCNN
    2019, arXiv:1901.08954.

    Examples
    --------
    >>> from skanomaly import Pixels, SkipGANomaly
    >>> from skanomaly.datasets import make_surfaces
    >>> from skanomaly.networks import SkipGAN
    >>> data = make_surfaces("cloth", n_train=8, n_good=1, n_anomalous=1, size=32, random_state=0)
    >>> detector = SkipGANomaly(Pixels(32), SkipGAN(4), max_epochs=2, false_alarm_rate=None, random_state=0)
    >>> detector.fit(data.X_train).reconstruct(data.X_test).shape
    (2, 32, 32)
    """

    _parameter_constraints = {
        **AdversarialDetector._parameter_constraints,
        "network": [HasMethods(["build_skip_gan", "view", "check"]), None],
        "adversarial_weight": [Interval(Real, 0, None, closed="left")],
        "residual_weight": [Interval(Real, 0, None, closed="left")],
        "feature_weight": [Interval(Real, 0, None, closed="left")],
        "lam": [Interval(Real, 0, 1, closed="both")],
    }
    _examples = {"features": "Pixels(64)", "network": "SkipGAN()", "training": "Training()"}

    def __init__(
        self,
        features=None,
        network=None,
        *,
        adversarial_weight=1.0,
        residual_weight=50.0,
        feature_weight=1.0,
        lam=0.1,
        sigma=4.0,
        image_score="mean",
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
        self.adversarial_weight = adversarial_weight
        self.residual_weight = residual_weight
        self.feature_weight = feature_weight
        self.lam = lam
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

    def default_network(self, features=None):
        """Return the network that ``network=None`` stands for.

        Parameters
        ----------
        features : Ignored
            Not used, present for API consistency by convention.

        Returns
        -------
        SkipGAN
            Network.
        """
        return SkipGAN()

    # ----------------------------------------------------------------------------------------- fitting

    def _build(self):
        return self.network_.build_skip_gan(self._view().shape)

    def _optimize(self, module, data, held_out, generator):
        weights = self.adversarial_weight, self.residual_weight, self.feature_weight
        step = SkipStep(module, weights, lr=self.training_.lr, weight_decay=self.training_.weight_decay)
        return self._alternate(step, module, data, generator)

    # ----------------------------------------------------------------------------------------- scoring

    def _restore(self, gan, x):
        return gan.rebuild(x)

    def _compare(self, x, restored, view):
        return view.mean((x - restored).square())

    def _score(self, Z, maps=True):
        grids, differences = self._run(self._evidence, Z)
        residuals = image_scores(self, grids, self.image_score)
        return (1 - self.lam) * residuals + self.lam * differences, grids if maps else None

    def _evidence(self, gan, x):
        """Return maps (n, h, w), and the mean squared differences of features (n,)."""
        rebuilt = self._restore(gan, x)
        squares = (2 * (x - rebuilt)).square().mean(dim=1)  # of pixels between -1 and 1
        return squares, mean_values((gan.features(x) - gan.features(rebuilt)).square())
