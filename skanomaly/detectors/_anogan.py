"""AnoGAN: images that a generator of normal images cannot make."""

import warnings
from numbers import Integral, Real

import numpy as np
import torch
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import HasMethods, Interval, StrOptions
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import check_is_fitted

from .._torch.adversarial import CodeStep
from .._torch.net import Net
from .._torch.search import adam_search
from .._torch.views import mean_values
from ..exceptions import CollapseWarning
from ..networks import DCGAN, Training
from ._adversarial import AdversarialDetector
from ._image_scores import image_scores
from ._reconstruction import ReconstructionDetector, join_samples

_STEPS = {"search": 500, "both": 50}  # that n_steps="auto" stands for
_N_SAMPLES = 256  # generated images whose diversity is measured
_AT_A_TIME = 32
_LEAST_DIVERSITY = 0.1


def _is_differentiable(detector):
    if detector.inversion != "encoder":
        raise AttributeError(
            f"this AnoGAN searches codes, which has no gradient, because inversion={detector.inversion!r}; only "
            "'encoder' has a reconstructor."
        )
    return True


class AnoGAN(AdversarialDetector):
    r"""AnoGAN: score images by how well a generator of normal images can imitate them.

    A generator G, which turns codes z into images, is trained against a discriminator on normal images,

    .. math:: \min_G \max_D \; E_x \log D(x) + E_z \log(1 - D(G(z))),

    here with the hinge loss and the stabilisers of `DCGAN`. To score an image x, its code is searched with both
    networks frozen: from a starting point that is the same for every image, `n_steps` steps of Adam minimise

    .. math::
        A(z) = (1 - \lambda) R(z) + \lambda D(z), \qquad
        R(z) = \overline{|x - G(z)|}, \qquad D(z) = \overline{|f(x) - f(G(z))|},

    where f are the last feature maps of the discriminator and bars denote means over pixels or features. The anomaly
    score is the lowest A found, with R replaced by another level of the map if `image_score` is not "mean"; the map is
    :math:`|x - G(z)|`, averaged over channels, at the same z.

    A search takes hundreds of passes through both networks. `inversion` says how the code is found instead:

    ===========  ===================================================================================
    `inversion`  code
    ===========  ===================================================================================
    "search"     search from each of `n_restarts` starting points; the best code counts (AnoGAN)
    "encoder"    :math:`z = E(x)`, in a single pass (f-AnoGAN)
    "both"       search from :math:`E(x)`
    ===========  ===================================================================================

    The encoder E is trained on the same normal images after the GAN, with G and f frozen, to minimise
    :math:`\overline{(x - G(E(x)))^2} + \overline{(f(x) - f(G(E(x))))^2}` (izi_f with :math:`\kappa = 1`).

    Parameters
    ----------
    features : Pixels or None, default=None
        Features that turn images into the input of the network; None is ``Pixels(64)``.
    network : DCGAN or None, default=None
        Networks to train; None is ``DCGAN()``.
    inversion : {"search", "encoder", "both"}, default="search"
        How the code of an image is found, see above.
    n_steps : int or "auto", default="auto"
        Number of steps of a search; "auto" is 500 for "search" and 50 for "both".
    n_restarts : int, default=1
        Number of starting points, for "search".
    lam : float, default=0.1
        Weight :math:`\lambda` of the features, in [0, 1]; 0 leaves the residual only.
    search_lr : float, default=0.1
        Learning rate of the search.
    chunk_size : int, default=16
        Number of images whose codes are searched at a time, each with a state of Adam of its own. Fewer images are
        padded to this number, which makes scores independent of each other to the bit. Images are read 64 at a time.
    sigma : float, default=4.0
        Standard deviation of the Gaussian that smooths anomaly maps, in pixels of a 224 x 224 image.
    image_score : {"max", "mean", "contrast"} or float, default="mean"
        How the residual R of an image is computed from its map, at the size at which the features see images: its
        maximum, its mean, its maximum minus its mean, or the mean over this share of its highest pixels, in (0, 1).
    max_epochs : int or "auto", default="auto"
        Number of epochs of the GAN, and maximum number of epochs of the encoder; "auto" uses the default of the
        network.
    training : Training or None, default=None
        Batch size and optimiser settings; None is ``Training(validation_share=0)``. The GAN is trained for all
        epochs, and `patience` is ignored. The encoder is trained with the default learning rate and patience of
        `Training`, and keeps its best epoch.
    warm_start : bool, default=False
        If True, `fit` continues training the previously fitted network, with unchanged features, for another
        `max_epochs`. Such a fit sets no thresholds because the network may already have seen its samples: call
        `calibrate` with fresh normal samples. The encoder is trained from the start.
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
        Seed of the initial weights, the shuffling, the codes, the starting points, the folds and the splits.
    verbose : int, default=0
        If 1, progress bars are shown.

    Attributes
    ----------
    features_ : estimator
        Fitted features.
    network_ : DCGAN
        Description of the networks.
    training_ : Training
        Training settings that were used.
    network_state_ : dict of str to ndarray
        Weights of the generator and the discriminator.
    encoder_state_ : dict of str to ndarray
        Weights of the encoder; empty if `inversion` is "search".
    starts_ : ndarray of shape (n_restarts, code_size)
        Starting points of searches.
    diversity_ : float
        Total variance of generated images, as a share of that of the training images.
    sample_shape_ : tuple of int
        Shape of an embedded sample, (h, w, c).
    input_statistics_ : dict of str to ndarray
        Statistics of the input of the network: none.
    history_ : dict of str to ndarray of shape (n_epochs,)
        Losses of each epoch: "train_loss" of the generator and "discriminator_loss". They do not measure quality.
    encoder_history_ : dict of str to ndarray of shape (n_epochs,)
        Losses of each epoch of the encoder: "train_loss", and "valid_loss" if samples were held out; empty if
        `inversion` is "search".
    lowest_loss_ : float
        Smallest A of a training sample. Defined only if `inversion` is "encoder".
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

    Warns
    -----
    CollapseWarning
        If `diversity_` is below 0.1 after training: the generator makes almost the same image from every code.

    See Also
    --------
    SkipGANomaly : Generator of images from images, which needs no search.
    Autoencoder : Reconstruction without a discriminator.
    skanomaly.networks : Networks and training settings to pass.

    Notes
    -----
    The paper sums over pixels and features, so that its :math:`\lambda_\Sigma` depends on their numbers P and F, here
    on the size of the image and the width of the network; with means it does not. The minimiser is the same if
    :math:`\frac{\lambda}{1 - \lambda} = \frac{F}{P} \frac{\lambda_\Sigma}{1 - \lambda_\Sigma}`. The default 0.1 is that
    of the paper, as are the 500 steps. The paper scores the last code, not the best one.

    `chunk_size` changes the cost of scores, but not their values, except for rounding. Training keeps all embedded
    samples in memory; scoring runs in memory bounded by `chunk_size`. Pickles hold the parameters and the attributes
    above; networks are rebuilt from `network_state_` and `encoder_state_`.

    References
    ----------
    Schlegl et al., "Unsupervised Anomaly Detection with Generative Adversarial Networks to Guide Marker Discovery",
    IPMI 2017, arXiv:1703.05921.
    Schlegl et al., "f-AnoGAN: Fast unsupervised anomaly detection with generative adversarial networks", Medical Image
    Analysis 54, 2019.

    Examples
    --------
    >>> from skanomaly import AnoGAN, Pixels
    >>> from skanomaly.datasets import make_surfaces
    >>> from skanomaly.networks import DCGAN
    >>> data = make_surfaces("cloth", n_train=8, n_good=1, n_anomalous=1, size=32, random_state=0)
    >>> detector = AnoGAN(Pixels(32), DCGAN(8, width=4), n_steps=5, max_epochs=3, false_alarm_rate=None, random_state=0)
    >>> detector.fit(data.X_train).generate(2, random_state=0).shape
    (2, 32, 32)
    """

    _parameter_constraints = {
        **AdversarialDetector._parameter_constraints,
        "network": [HasMethods(["build_gan", "build_encoder", "draw", "view", "check"]), None],
        "inversion": [StrOptions({"search", "encoder", "both"})],
        "n_steps": [Interval(Integral, 0, None, closed="left"), StrOptions({"auto"})],
        "n_restarts": [Interval(Integral, 1, None, closed="left")],
        "lam": [Interval(Real, 0, 1, closed="both")],
        "search_lr": [Interval(Real, 0, None, closed="neither")],
        "chunk_size": [Interval(Integral, 1, None, closed="left")],
    }
    _examples = {"features": "Pixels(64)", "network": "DCGAN()", "training": "Training()"}

    def __init__(
        self,
        features=None,
        network=None,
        *,
        inversion="search",
        n_steps="auto",
        n_restarts=1,
        lam=0.1,
        search_lr=0.1,
        chunk_size=16,
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
        self.inversion = inversion
        self.n_steps = n_steps
        self.n_restarts = n_restarts
        self.lam = lam
        self.search_lr = search_lr
        self.chunk_size = chunk_size
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

    # ----------------------------------------------------------------------------------------- public

    def default_network(self, features=None):
        """Return the network that ``network=None`` stands for.

        Parameters
        ----------
        features : Ignored
            Not used, present for API consistency by convention.

        Returns
        -------
        DCGAN
            Network.
        """
        return DCGAN()

    def generate(self, n, random_state=None):
        """Generate images from random codes.

        Parameters
        ----------
        n : int
            Number of images.
        random_state : int, RandomState instance or None, default=None
            Seed of the codes.

        Returns
        -------
        ndarray of shape (n, h, w[, 3]), float32
            Images in [0, 1], of the size at which the features see images.
        """
        check_is_fitted(self)
        seed = int(check_random_state(random_state).randint(2**31))
        codes = self.network_.draw(n, torch.Generator().manual_seed(seed)).numpy()
        net, view = self._derived_state("_net", self._frozen_net), self._view()
        images = net.run(lambda z: view.arrange_back(net.module.generate(z)), codes, length=self.chunk_size)
        return np.stack(self.features_.inverse_transform(images))

    def reconstruct(self, X):
        """Generate the images G(z) whose codes are found for images.

        Parameters
        ----------
        X : array-like
            Samples, in any form that the detector accepts.

        Returns
        -------
        ndarray of shape (n, H, W[, 3]), float32
            Images in [0, 1] and in their original sizes (a list if these differ).
        """

        def rebuild(gan, x):
            return self._view().arrange_back(gan.generate(self._codes(gan, x)))

        return join_samples(
            self.features_.inverse_transform(self._search(rebuild, Z), batch) for batch, Z in self._batches(X)
        )

    reconstructor = available_if(_is_differentiable)(ReconstructionDetector.reconstructor)

    # ----------------------------------------------------------------------------------------- fitting

    def _build(self):
        return self.network_.build_gan(self._view().shape)

    def _optimize(self, module, data, held_out, generator):
        def draw(n):
            return self.network_.draw(n, generator).to(data.device)

        step = CodeStep(module, draw, generator, lr=self.training_.lr, weight_decay=self.training_.weight_decay)
        history = self._alternate(step, module, data, generator)
        step.finish()
        self.starts_ = torch.cat([draw(1) for _ in range(self.n_restarts)]).cpu().numpy()  # more points, same first
        self._check_diversity(module, data, draw)
        self._fit_encoder(module.requires_grad_(False), data, held_out, generator)
        return history

    def _check_diversity(self, gan, data, draw):
        with torch.no_grad():
            made = torch.cat([gan.generate(draw(_AT_A_TIME)) for _ in range(_N_SAMPLES // _AT_A_TIME)])
        self.diversity_ = float(_total_variance(made) / _total_variance(data).clamp(min=1e-12))
        if self.diversity_ < _LEAST_DIVERSITY and self.max_epochs != 0:
            warnings.warn(
                f"The generator collapsed: the variance of its images is {self.diversity_:.3f} of that of the training "
                "images, so that scores measure the distance to nearly the same image. Lower lr, train for fewer or "
                "more epochs, or pass more images.",
                CollapseWarning,
                stacklevel=2,
            )

    def _fit_encoder(self, gan, data, held_out, generator):
        """Train the encoder with the GAN frozen, if codes depend on it."""
        self.encoder_state_, self.encoder_history_ = {}, {}
        if self.inversion == "search":
            return
        net = Net.untrained(self._build_encoder, generator, data.device)

        def loss(x, noise):
            made = gan.generate(net.module(2 * x - 1))
            return (x - made).square().mean() + (gan.features(x) - gan.features(made)).square().mean()

        self.encoder_history_ = Training(batch_size=self.training_.batch_size).run(
            net.module,
            loss,
            data,
            held_out,
            self.network_,
            max_epochs=self.max_epochs,
            generator=generator,
            verbose=self.verbose,
        )
        self.encoder_state_ = net.state()

    def _build_encoder(self):
        return self.network_.build_encoder(self._view().shape)

    def _learn_residuals(self, train, held_out):
        if self.inversion == "encoder":
            super()._learn_residuals(train, held_out)

    # ----------------------------------------------------------------------------------------- scoring

    def _search(self, function, Z):
        return self._run(function, Z, length=self.chunk_size, gradients=True)

    def _codes(self, gan, x):
        """Return the codes (n, d) of lowest energy A that are found for images."""
        with torch.no_grad():
            features = gan.features(x)
            starts = self._first_codes(gan, x)

        def energy(z):
            return self._energies(gan, x, features, gan.generate(z))

        if self.inversion == "encoder":
            return starts[0]
        n_steps = _STEPS[self.inversion] if self.n_steps == "auto" else self.n_steps
        found = [adam_search(energy, start, n_steps=n_steps, lr=self.search_lr) for start in starts]
        codes, energies = (torch.stack(parts) for parts in zip(*found, strict=True))
        return codes[energies.argmin(dim=0), torch.arange(len(x), device=x.device)]

    def _first_codes(self, gan, x):
        """Return the codes (n, d) from which each search starts."""
        if self.inversion == "search":
            return [start.expand(len(x), -1) for start in torch.from_numpy(self.starts_).to(x)]
        if gan.encoder is None:
            raise ValueError(
                f"inversion={self.inversion!r} needs an encoder, but this AnoGAN was fitted with inversion='search'; "
                "fit it again."
            )
        return [gan.encode(x)]

    def _frozen_net(self):
        net = super()._frozen_net()
        if self.encoder_state_:
            net.module.encoder = (
                Net.from_state(self._build_encoder, self.encoder_state_, net.device, self._dtype).freeze().module
            )
        return net

    def _energies(self, gan, x, features, made):
        """Return A (n,) of generated images."""
        residuals = mean_values((x - made).abs())
        if self.lam == 0:
            return residuals
        return (1 - self.lam) * residuals + self.lam * mean_values((features - gan.features(made)).abs())

    def _score(self, Z, maps=True):
        def evidence(gan, x):
            with torch.no_grad():
                made = gan.generate(self._codes(gan, x))
                return (x - made).abs().mean(dim=1), mean_values((gan.features(x) - gan.features(made)).abs())

        grids, differences = self._search(evidence, Z)
        residuals = image_scores(self, grids, self.image_score)
        return (1 - self.lam) * residuals + self.lam * differences, grids if maps else None

    def _restore(self, gan, x):
        return gan.generate(self._first_codes(gan, x)[0])

    def _compare(self, x, restored, view):
        gan = self._derived_state("_net", self._frozen_net).module
        return self._energies(gan, x, gan.features(x), restored)


def _total_variance(x):
    return x.var(dim=0, correction=int(len(x) > 1)).sum()
