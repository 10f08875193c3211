"""What detectors share that learn to reconstruct normal samples: the training, the residuals, the way back."""

import copy
from itertools import chain
from numbers import Integral, Real

import numpy as np
import torch
from sklearn.base import clone
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import HasMethods, Interval, StrOptions
from sklearn.utils.metaestimators import available_if

from .._inputs.images import as_pair
from .._inputs.samples import digests
from .._torch.device import DEVICES, resolve_device
from .._torch.net import Net
from ..base import BaseDetector, stack_if_equal
from ..features._resolve import resolve_features
from ..networks import DenseNetwork, StridedNetwork, Training

_EXAMPLES = {  # of what a parameter is passed as, before its own parameters can be set
    "features": "Pixels()",
    "network": "DenseNetwork()",
    "training": "Training()",
    "loss": "SSIMLoss()",
}


def _has_way_back(detector):
    features = detector._features()
    if features is not None and not hasattr(features, "inverse_transform"):
        raise AttributeError(
            f"this {type(detector).__name__} has no samples to show: {type(features).__name__} has no "
            "inverse_transform, which would lead back to them."
        )
    return True


with_way_back = available_if(_has_way_back)


class ReconstructionDetector(BaseDetector):
    """Detectors that score a sample by how badly a network trained on normal samples reconstructs it.

    The features make samples Z, arrays (n, d) or (n, h, w, d). The view of the network (`_torch.views`) makes of these
    tensors x, and of x what the network sees: rows, images, patches of images, or the cells of a grid of features. Rows
    are scored in float64, everything else in float32.

    A subclass takes the parameters below and writes, for what the network sees (N, ...),

    - ``_training_loss(module, x, generator)``: the scalar that is minimised;
    - ``_restore(module, x)``: the reconstruction, of the shape of x;
    - ``_compare(x, restored, view)``: the reconstruction loss L_r of every sample (n,);
    - ``_evidence(module, x)``: anomaly scores (N,) of vectors, residual maps (N, H, W) of images;

    and where it needs to, ``_fit_loss(samples)``, ``_after_training(module, data, generator)`` and
    ``_learn_residuals(train, held_out)``.
    """

    _parameter_constraints = {
        **BaseDetector._parameter_constraints,
        "features": [HasMethods(["fit_samples", "transform"]), None],
        "network": [HasMethods(["build", "view", "check"]), None],
        "sigma": [Interval(Real, 0, None, closed="left")],
        "image_score": [StrOptions({"max", "mean"})],
        "max_epochs": [Interval(Integral, 0, None, closed="left"), StrOptions({"auto"})],
        "training": [HasMethods(["hold_out", "run"]), None],
        "warm_start": ["boolean"],
        "device": [StrOptions(set(DEVICES))],
        "calibration": [StrOptions({"split", "cv"})],
    }
    _derived = ("_net",)
    _n_codes_per_unit = 1

    # ----------------------------------------------------------------------------------------- public

    def default_features(self, X):
        """Return the features that ``features=None`` stands for.

        Parameters
        ----------
        X : array-like
            Samples that the detector is to be fitted on.

        Returns
        -------
        Columns or Pixels
            Unfitted: `Columns` for rows, `Pixels` for images.
        """
        return resolve_features(X)

    def default_network(self, features):
        """Return the network that ``network=None`` stands for.

        Parameters
        ----------
        features : estimator
            Features, fitted or not.

        Returns
        -------
        DenseNetwork or StridedNetwork
            `StridedNetwork` for images, `DenseNetwork` for rows and for the cells of feature grids.
        """
        return StridedNetwork() if _are_images(features) else DenseNetwork()

    def set_params(self, **params):
        """Set parameters of this estimator, and of the objects that were passed to it.

        Parameters
        ----------
        **params : dict
            Estimator parameters; those of a passed object as in ``network__hidden``.

        Returns
        -------
        self
        """
        for name, value in params.items():
            head, nested, _ = name.partition("__")
            owner = params.get(head, getattr(self, head, self))
            if nested and (owner is None or isinstance(owner, str)):
                raise ValueError(
                    f"{name}={value!r} sets a parameter of {head}, which is {owner!r}; pass the object first: "
                    f"{type(self).__name__}({head}={_EXAMPLES.get(head, '...')})."
                )
        return super().set_params(**params)

    @with_way_back
    def reconstruct(self, X):
        """Return the network's reconstruction of samples.

        Parameters
        ----------
        X : array-like
            Samples in a form that the class accepts.

        Returns
        -------
        ndarray of shape (n, d), float64, or of shape (n, H, W[, 3]), float32
            Rows in the units of `X`; images in [0, 1] and of their own sizes (a list where these differ).
        """
        model = self.reconstructor()
        return join_samples(
            self.features_.inverse_transform(model.run(lambda x: model.arrange_back(model.restore(x)), Z), batch)
            for batch, Z in self._batches(X)
        )

    def reconstructor(self):
        """Return the fitted network as functions of tensors that can be differentiated.

        Returns
        -------
        Reconstructor
        """
        view, net = self._view(), self._derived_state("_net", self._frozen_net)
        return Reconstructor(
            net,
            view,
            lambda x: self._restore(net.module, x),
            lambda x, restored: self._compare(x, restored, view),
            loss_unit=self._loss_unit(view),
            lowest_loss=getattr(self, "lowest_loss_", None),
            limits=(0, 1) if _are_images(self.features_) else None,
            digests=getattr(self, "_fitted_digests", None),
        )

    # ----------------------------------------------------------------------------------------- fitting

    def _open(self, X):
        if self._continues():
            self._keep_settings()
            samples = self.features_.check_samples(X)
        else:
            samples = super()._open(X)
            self.network_ = self.default_network(self.features_) if self.network is None else clone(self.network)
            self.input_statistics_ = {}
        self.training_ = Training() if self.training is None else clone(self.training)
        self.training_.check()
        return samples

    def _continues(self):
        """Return whether this fit goes on where the last one ended."""
        return self.warm_start and hasattr(self, "network_state_")

    def _calibrate(self, samples, groups):
        if self._continues():  # the network may have seen these samples before
            return self._learn(samples, groups=groups)
        return super()._calibrate(samples, groups)

    def _digests(self, samples):
        fresh, earlier = digests(samples), getattr(self, "_fitted_digests", None)
        if not self.warm_start or fresh is None or earlier is None:
            return fresh
        return np.union1d(earlier, fresh)

    def _prepare(self):
        grid_shape = self.features_.grid_shape_ if self.features_.makes_maps else ()
        self.sample_shape_ = (*grid_shape, self.features_.n_features_out_)
        self.network_.check(self.sample_shape_)

    def _embed(self, samples):
        return self.features_.transform(samples).astype(self._dtype, copy=False)

    @property
    def _dtype(self):
        """That of samples in scoring."""
        return np.float32 if self.features_.makes_maps else np.float64

    def _learn(self, samples, Z=None, groups=None):
        """Learn from samples; those that early stopping holds out are not learnt from by the features either."""
        warm = self._continues()
        self._forget_derived()
        generator = torch.Generator().manual_seed(int(check_random_state(self.random_state).randint(2**31)))
        train, held_out = self.training_.hold_out(len(samples), generator, groups)
        if Z is None:
            if not warm:
                self.features_ = copy.copy(self.features_).fit_samples(samples[train])
            self._prepare()
            Z = self._embed(samples)
        self._fit_loss(samples[train])
        self._train(Z[train], Z[held_out], warm, generator)
        self._learn_residuals(Z[train], Z[held_out])

    def _train(self, Z, held_out, warm, generator):
        if not warm:
            self.input_statistics_ = self._view().fit(Z)
        view, net = self._view(), self._first_net(Z, warm, generator)
        module, data, validation = net.module, *(_to_learn_from(view, net, part) for part in (Z, held_out))
        history = self.training_.run(
            module,
            lambda x, noise: self._training_loss(module, x, noise),
            data,
            validation,
            self.network_,
            max_epochs=self.max_epochs,
            generator=generator,
            verbose=self.verbose,
        )
        self._after_training(module, data, generator)
        old = self.history_ if warm else {}
        self.history_ = {name: np.concatenate([old.get(name, ()), values]) for name, values in history.items()}
        self.network_state_ = net.state()

    def _first_net(self, Z, warm, generator):
        """Return the net that training starts from."""
        device = resolve_device(self.device, self._dtype)
        if warm:
            return Net.from_state(self._build, self.network_state_, device)
        net = Net.untrained(self._build, generator, device)
        net.module.standardize_by(self._view().arrange(Z))
        return net

    def _build(self):
        return self.network_.build(self._view().shape, self._n_codes_per_unit)

    def _view(self):
        """Return what the network sees of samples."""
        return self.network_.view(self.sample_shape_, cells=not _are_images(self.features_), **self.input_statistics_)

    def _fit_loss(self, samples):
        """Learn what the loss needs from training samples."""

    def _after_training(self, module, data, generator):
        """Learn what the trained module, in the dtype of training, has to say about the training samples."""

    def _learn_residuals(self, train, held_out):
        """Learn from embedded samples, after training, what scores need beside the network."""
        model = self.reconstructor()
        self.lowest_loss_ = float(model.run(model.losses, train).min())

    # ----------------------------------------------------------------------------------------- scoring

    def _frozen_net(self):
        device = resolve_device(self.device, self._dtype)
        return Net.from_state(self._build, self.network_state_, device, self._dtype).freeze()

    def _loss_unit(self, view):
        """Return what L_r is divided by to be of the scale of a mean squared residual, as it is here."""
        return 1.0

    def _score(self, Z, maps=True):
        model = self.reconstructor()
        evidence = model.run(lambda x: model.per_part(lambda part: self._evidence(model.module, part), x), Z)
        if not self.features_.makes_maps:
            return evidence, None
        return self._image_scores(evidence), evidence if maps else None

    def _image_scores(self, grids):
        if self.image_score == "mean":
            return grids.reshape(len(grids), -1).mean(axis=1, dtype=np.float64)
        return highest_levels(self, grids)


class Reconstructor:
    """A fitted network as functions of tensors x: samples with the axes and in the units that the network knows.

    All of them can be differentiated with respect to x; the parameters are frozen.

    Parameters
    ----------
    net : Net
    view : Rows or another view
    restore, compare : callable
        What the network sees to its reconstruction; both to the loss of every sample.
    loss_unit : float
        Losses divided by it are of the scale of a mean squared residual.
    lowest_loss : float
        The smallest loss of a training sample.
    limits : tuple of float or None
        Smallest and largest value of x.
    digests : ndarray of uint64 or None
        Hashes of the samples that the model was fitted on.

    Attributes
    ----------
    batch_len : int
        Number of samples that are passed through the network at a time.
    """

    def __init__(self, net, view, restore, compare, *, loss_unit, lowest_loss, limits, digests):
        self.module, self.batch_len = net.module, view.batch_len
        self.loss_unit, self.lowest_loss, self.limits, self.digests = loss_unit, lowest_loss, limits, digests
        self._net, self._view, self._restore, self._compare = net, view, restore, compare

    def to_tensor(self, Z):
        """Return samples, an array that features made, as x."""
        return self._net.to_tensor(self._view.arrange(self._view.standardize(Z)))

    def arrange_back(self, x):
        """Return x, or a tensor of its shape, with the axes of samples, (n, d) or (n, h, w, d)."""
        return self._view.arrange_back(x)

    def restore(self, x):
        """Return the reconstruction of x."""
        return self.per_part(self._restore, x)

    def losses(self, x):
        """Return the reconstruction losses (n,) of x."""
        return self.losses_and_restored(x)[0]

    def losses_and_restored(self, x):
        """Return the reconstruction losses (n,) and the reconstruction of x, which one pass gives together."""
        parts = self._view.split(x)
        restored = self._restore(parts)
        return self._compare(parts, restored), self._view.join(restored)

    def per_part(self, function, x):
        """Return `function` of what the network sees of x, put together again."""
        return self._view.join(function(self._view.split(x)))

    def per_sample(self, function, x):
        """Return the mean (n,) of `function`, one value for each part that the network sees of x."""
        return self._view.per_sample(function(self._view.split(x)))

    def run(self, function, Z, *others, length=None, gradients=False):
        """Return `function` of x as an array; no sample's bits depend on the others.

        Parameters
        ----------
        function : callable
            Takes x, and a tensor for each of the others, to a tensor (n, ...).
        Z : ndarray of shape (n, d) or (n, h, w, d)
            Samples.
        *others : ndarray of shape (n, ...)
            Further arrays with the axes of samples.
        length : int, optional
            Number of samples in a pass; by default `batch_len`.
        gradients : bool, default=False
            If True, the function may ask torch for gradients.

        Returns
        -------
        ndarray of shape (n, ...)
        """
        arrays = [self._view.arrange(array) for array in (self._view.standardize(Z), *others)]
        return self._net.run(function, *arrays, length=length or self.batch_len, gradients=gradients)


def highest_levels(detector, grids):
    """Return the highest level (n,) of the smoothed maps of grids, at the size that the features look at."""
    size, features = as_pair(detector.features_.image_size), detector.features_
    levels = [np.nanmax(features.map_to_image(grid, None, detector.sigma_, size=size)) for grid in grids]
    return np.array(levels, np.float64)


def join_samples(batches):
    """Return batches of rows as one array, batches of images as one array or a list where sizes differ."""
    batches = list(batches)
    if isinstance(batches[0], np.ndarray):
        return np.concatenate(batches)
    return stack_if_equal(list(chain.from_iterable(batches)))


def _are_images(features):
    """Return whether features make images: grids that lead back to what the user passed."""
    return features.makes_maps and hasattr(features, "inverse_transform")


def _to_learn_from(view, net, Z):
    """Return embedded samples in the form that `fit_loop` takes batches of, in float32."""
    return view.to_learn_from(net.to_tensor(view.arrange(view.standardize(Z))).float())
