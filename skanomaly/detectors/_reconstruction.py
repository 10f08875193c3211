"""Base class of the detectors that learn to reconstruct normal samples."""

import copy
import math
from itertools import chain
from numbers import Integral, Real

import numpy as np
import torch
from sklearn.base import clone
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import HasMethods, Interval, StrOptions
from sklearn.utils.metaestimators import available_if

from .._inputs.samples import digests
from .._kernels.checks import require
from .._torch.device import DEVICES, resolve_device
from .._torch.net import Net
from .._torch.state import check_arrays
from ..base import BaseDetector, stack_if_equal
from ..features._resolve import resolve_features
from ..networks import DenseNetwork, StridedNetwork, Training
from ._image_scores import IMAGE_SCORE, image_scores

_MOST_VALUES = 2**28  # of a sample


def _has_way_back(detector):
    features = detector._features()
    if features is not None and not hasattr(features, "inverse_transform"):
        raise AttributeError(
            f"this {type(detector).__name__} cannot turn its output into samples because {type(features).__name__} has "
            "no inverse_transform."
        )
    return True


with_way_back = available_if(_has_way_back)


class ReconstructionDetector(BaseDetector):
    """Base class of detectors that score samples by how badly a network trained on normal samples reconstructs them.

    The features embed samples as arrays Z of shape (n, d) or (n, h, w, d). The view of the network (`_torch.views`)
    turns these into tensors x, and splits x into the inputs of the network, of shape (N, ...): rows, images, patches of
    images, or the cells of a grid of features. Rows are scored in float64, everything else in float32.

    A subclass takes the parameters below and implements, for inputs of the network,

    - ``_training_loss(module, x, generator)``: return the scalar that is minimised;
    - ``_restore(module, x)``: return the reconstruction, in the shape of x;
    - ``_compare(x, restored, view)``: return the reconstruction loss L_r (n,) of each sample;
    - ``_evidence(module, x)``: return anomaly scores (N,) of vectors, residual maps (N, H, W) of images.

    It may override ``_fit_loss(samples)``, ``_optimize(module, data, held_out, generator)``, ``_after_training(module,
    data, generator)`` and ``_learn_residuals(train, held_out)``.
    """

    _parameter_constraints = {
        **BaseDetector._parameter_constraints,
        "features": [HasMethods(["fit_samples", "transform"]), None],
        "network": [HasMethods(["build", "view", "check"]), None],
        "sigma": [Interval(Real, 0, None, closed="left")],
        "image_score": IMAGE_SCORE,
        "max_epochs": [Interval(Integral, 0, None, closed="left"), StrOptions({"auto"})],
        "training": [HasMethods(["hold_out", "run"]), None],
        "warm_start": ["boolean"],
        "device": [StrOptions(set(DEVICES))],
        "calibration": [StrOptions({"split", "cv"})],
    }
    _derived = ("_net",)
    _n_codes_per_unit = 1
    _examples = {  # of objects that must be passed before their own parameters can be set
        "features": "Pixels()",
        "network": "DenseNetwork()",
        "training": "Training()",
        "loss": "SSIMLoss()",
    }

    # ----------------------------------------------------------------------------------------- public

    def default_features(self, X):
        """Return the features that ``features=None`` stands for.

        Parameters
        ----------
        X : array-like
            Samples on which the detector will be fitted.

        Returns
        -------
        Columns or Pixels
            Unfitted features: `Columns` for rows, `Pixels` for images.
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
            Network: `StridedNetwork` for images, `DenseNetwork` for rows and for the cells of feature grids.
        """
        return StridedNetwork() if _are_images(features) else DenseNetwork()

    def default_training(self):
        """Return the training settings that ``training=None`` stands for.

        Returns
        -------
        Training
            Settings.
        """
        return Training()

    def set_params(self, **params):
        """Set the parameters of this estimator and of the objects passed to it.

        Parameters
        ----------
        **params : dict
            Estimator parameters. Parameters of a passed object are written as in ``network__hidden``.

        Returns
        -------
        self
            Estimator instance.
        """
        for name, value in params.items():
            head, nested, _ = name.partition("__")
            owner = params.get(head, getattr(self, head, self))
            if nested and (owner is None or isinstance(owner, str)):
                raise ValueError(
                    f"{name}={value!r} sets a parameter of {head}, which is {owner!r}; pass the object first: "
                    f"{type(self).__name__}({head}={self._examples.get(head, '...')})."
                )
        return super().set_params(**params)

    @with_way_back
    def reconstruct(self, X):
        """Reconstruct samples with the network.

        Parameters
        ----------
        X : array-like
            Samples, in any form that the detector accepts.

        Returns
        -------
        ndarray of shape (n, d), float64, or of shape (n, H, W[, 3]), float32
            Rows in the units of `X`; images in [0, 1] and in their original sizes (a list if these differ).
        """
        model = self.reconstructor()
        return join_samples(
            self.features_.inverse_transform(model.run(lambda x: model.arrange_back(model.restore(x)), Z), batch)
            for batch, Z in self._batches(X)
        )

    def reconstructor(self):
        """Return the fitted network as differentiable functions of tensors.

        Returns
        -------
        Reconstructor
            Fitted network, with its parameters frozen.
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
        self.training_ = self.default_training() if self.training is None else clone(self.training)
        self.training_.check()
        return samples

    def _continues(self):
        """Return whether this fit continues the previous one."""
        return self.warm_start and hasattr(self, "network_state_")

    def _calibrate(self, samples, groups):
        if self._continues():  # the network may have seen these samples before
            return self._learn_all(samples, groups)
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
        """Dtype of embedded samples in scoring."""
        return np.float32 if self.features_.makes_maps else np.float64

    def _learn(self, samples, Z=None, groups=None):
        """Learn from samples; the features, too, do not learn from those that are held out for early stopping."""
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
        net = self._first_net(Z, warm, generator)
        module, data, validation = net.module, *(self._to_learn_from(net, part) for part in (Z, held_out))
        history = self._optimize(module, data, validation, generator)
        self._after_training(module, data, generator)
        old = self.history_ if warm else {}
        self.history_ = {name: np.concatenate([old.get(name, ()), values]) for name, values in history.items()}
        self.network_state_ = net.state()

    def _optimize(self, module, data, held_out, generator):
        """Train the module; return the losses of each epoch by name."""
        return self.training_.run(
            module,
            lambda x, noise: self._training_loss(module, x, noise),
            data,
            held_out,
            self.network_,
            max_epochs=self.max_epochs,
            generator=generator,
            verbose=self.verbose,
        )

    def _first_net(self, Z, warm, generator):
        """Return the net that training starts from."""
        device = resolve_device(self.device, self._dtype)
        if warm:
            return Net.from_state(self._build, self.network_state_, device)
        net = Net.untrained(self._build, generator, device)
        net.module.standardize_by(self._view().arrange(Z))
        return net

    def _to_learn_from(self, net, Z):
        """Return embedded samples in the form from which `fit_loop` draws batches, in float32."""
        view = self._view()
        return view.to_learn_from(net.to_tensor(view.arrange(view.standardize(Z))).float())

    def _check_state(self):
        super()._check_state()
        if not hasattr(self, "network_state_"):
            return
        shape = tuple(self.sample_shape_)
        self._prepare()
        require(tuple(self.sample_shape_) == shape, "sample_shape_ is not that of the features")
        require(math.prod(shape) <= _MOST_VALUES, "sample_shape_ is too large")
        statistics = self.input_statistics_
        require(statistics.keys() in ({*()}, {"location", "scale"}), "input_statistics_ has other names")
        for values in statistics.values():
            require(values.shape == shape[-1:] and np.isfinite(values).all(), "input_statistics_ has another shape")
        check_arrays(self._build, self.network_state_)

    def _build(self):
        return self.network_.build(self._view().shape, self._n_codes_per_unit)

    def _view(self):
        """Return the view that turns samples into inputs of the network."""
        return self.network_.view(self.sample_shape_, cells=not _are_images(self.features_), **self.input_statistics_)

    def _fit_loss(self, samples):
        """Fit the loss on training samples."""

    def _after_training(self, module, data, generator):
        """Learn from the training samples with the trained module, which is still in the dtype of training."""

    def _learn_residuals(self, train, held_out):
        """Learn from embedded samples, after training, the statistics that scores need besides the network."""
        model = self.reconstructor()
        self.lowest_loss_ = float(model.run(model.losses, train).min())

    # ----------------------------------------------------------------------------------------- scoring

    def _frozen_net(self):
        device = resolve_device(self.device, self._dtype)
        return Net.from_state(self._build, self.network_state_, device, self._dtype).freeze()

    def _loss_unit(self, view):
        """Return the unit in which L_r has the scale of a mean squared residual: 1, unless L_r has another scale."""
        return 1.0

    def _score(self, Z, maps=True):
        model = self.reconstructor()
        evidence = model.run(lambda x: model.per_part(lambda part: self._evidence(model.module, part), x), Z)
        if not self.features_.makes_maps:
            return evidence, None
        return image_scores(self, evidence, self.image_score), evidence if maps else None


class Reconstructor:
    """Fitted network as functions of tensors x, which are samples with the axes and in the units of the network.

    All functions are differentiable with respect to x; the parameters of the network are frozen.

    Parameters
    ----------
    net : Net
        Network, with its dtype and device.
    view : Rows, Images, Patches or Cells
        View that turns samples into inputs of the network.
    restore : callable
        Function of inputs (N, ...) that returns their reconstructions.
    compare : callable
        Function of inputs and reconstructions (N, ...) that returns the losses (n,) of the samples.
    loss_unit : float
        Unit in which losses have the scale of a mean squared residual.
    lowest_loss : float
        Smallest loss of a training sample.
    limits : tuple of float or None
        Smallest and largest value of x; None if x is unbounded.
    digests : ndarray of uint64 or None
        Hashes of the samples on which the model was fitted.

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
        """Convert embedded samples to x.

        Parameters
        ----------
        Z : ndarray of shape (n, d) or (n, h, w, d)
            Embedded samples.

        Returns
        -------
        Tensor
            Samples x.
        """
        return self._net.to_tensor(self._view.arrange(self._view.standardize(Z)))

    def arrange_back(self, x):
        """Rearrange x, or a tensor of its shape, to the axes of embedded samples.

        Parameters
        ----------
        x : Tensor
            Samples x, or a tensor of the same shape.

        Returns
        -------
        Tensor of shape (n, d) or (n, h, w, d)
            Rearranged tensor.
        """
        return self._view.arrange_back(x)

    def restore(self, x):
        """Reconstruct x.

        Parameters
        ----------
        x : Tensor
            Samples x.

        Returns
        -------
        Tensor
            Reconstructions, in the shape of x.
        """
        return self.per_part(self._restore, x)

    def losses(self, x):
        """Compute the reconstruction losses of x.

        Parameters
        ----------
        x : Tensor
            Samples x.

        Returns
        -------
        Tensor of shape (n,)
            Reconstruction losses.
        """
        return self.losses_and_restored(x)[0]

    def losses_and_restored(self, x):
        """Compute the reconstruction losses and the reconstruction of x in a single pass.

        Parameters
        ----------
        x : Tensor
            Samples x.

        Returns
        -------
        losses : Tensor of shape (n,)
            Reconstruction losses.
        restored : Tensor
            Reconstructions, in the shape of x.
        """
        parts = self._view.split(x)
        restored = self._restore(parts)
        return self._compare(parts, restored), self._view.join(restored)

    def per_part(self, function, x):
        """Apply a function to the inputs into which x is split, and join its results.

        Parameters
        ----------
        function : callable
            Function of inputs (N, ...) that returns a tensor (N, ...).
        x : Tensor
            Samples x.

        Returns
        -------
        Tensor of shape (n, ...)
            Joined results; overlapping ones are averaged.
        """
        return self._view.join(function(self._view.split(x)))

    def per_sample(self, function, x):
        """Average a function over the inputs into which each sample is split.

        Parameters
        ----------
        function : callable
            Function of inputs (N, ...) that returns one value for each, (N,).
        x : Tensor
            Samples x.

        Returns
        -------
        Tensor of shape (n,)
            Mean value for each sample.
        """
        return self._view.per_sample(function(self._view.split(x)))

    def run(self, function, Z, *others, length=None, gradients=False):
        """Apply a function to embedded samples in batches; no result depends on the other samples, to the bit.

        Parameters
        ----------
        function : callable
            Function of x, and of a tensor for each of `others`, that returns a tensor (n, ...).
        Z : ndarray of shape (n, d) or (n, h, w, d)
            Embedded samples.
        *others : ndarray of shape (n, ...)
            Further arrays with the axes of embedded samples.
        length : int, default=None
            Number of samples in a batch; None is `batch_len`.
        gradients : bool, default=False
            If True, the function may compute gradients.

        Returns
        -------
        ndarray of shape (n, ...)
            Results of the function.
        """
        arrays = [self._view.arrange(array) for array in (self._view.standardize(Z), *others)]
        return self._net.run(function, *arrays, length=length or self.batch_len, gradients=gradients)


def join_samples(batches):
    """Join batches of samples.

    Parameters
    ----------
    batches : iterable
        Arrays of rows, or lists of images.

    Returns
    -------
    ndarray or list of ndarray
        All samples; a list if the sizes of images differ.
    """
    batches = list(batches)
    if isinstance(batches[0], np.ndarray):
        return np.concatenate(batches)
    return stack_if_equal(list(chain.from_iterable(batches)))


def _are_images(features):
    """Return whether features make images: grids that can be transformed back to the samples of the user."""
    return features.makes_maps and hasattr(features, "inverse_transform")
