"""Base class of the detectors that train a pretrained network further, on normal images and a labelled reference."""

import copy
from collections.abc import Iterable
from numbers import Integral
from os import PathLike

import numpy as np
import torch
from sklearn.base import TransformerMixin, clone
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import HasMethods, Interval, StrOptions
from sklearn.utils.validation import check_is_fitted
from torch import nn

from .._inputs.reference import Reference, open_reference
from .._kernels.neighbors import k_nearest
from .._kernels.outlier_factors import local_densities, outlier_factors
from .._torch.device import resolve_device, seeded
from .._torch.state import initialized, to_arrays
from .._torch.training import gradient_step
from ..base import BaseDetector
from ..features import PretrainedPatchFeatures
from ..features._base import Layers
from ..features._vectors import VectorFeatures
from ..networks import Training


class FineTunedDetector(TransformerMixin, BaseDetector):
    """Base class of detectors that train a pretrained network further, on normal images and a labelled reference.

    Vectors of images are averages of the layers of the network. The detector scores them by their distance to those of
    the normal images of `fit`. It is also a transformer to these vectors, and follows the protocol of features, so that
    it can be the parameter `features` of other detectors, which then fit it on their own training images.

    A subclass takes the parameters below and implements

    - ``_batches_of(normals, reference, labels, normal_label, generator)``: return the data set, whose items are batches
      (x, y) of images and their classes, -1 for none. The generator is None for the images that are held out;
    - ``_losses(module, x, y)``: return the losses of a batch by name; "loss" is minimised.

    It may set ``_norm``, the norm to which vectors are scaled.
    """

    _parameter_constraints = {
        **BaseDetector._parameter_constraints,
        "features": [HasMethods(["fit_samples", "read_batch", "trained"]), None],
        "reference": [str, PathLike, tuple, list, Reference, None],
        "normals_as_class": ["boolean"],
        "scoring": [StrOptions({"nearest", "mean", "lof"})],
        "n_neighbors": [Interval(Integral, 1, None, closed="left")],
        "max_epochs": [Interval(Integral, 0, None, closed="left")],
        "frozen": [Iterable],
        "batch_statistics": ["boolean"],
        "training": [HasMethods(["hold_out", "run"]), None],
        "calibration": [StrOptions({"split", "cv"})],
    }
    makes_maps, learns, _norm = False, True, None

    # ----------------------------------------------------------------------------------------- public

    def default_features(self, X=None):
        """Return the features that ``features=None`` stands for.

        Parameters
        ----------
        X : Ignored
            Not used, present for API consistency by convention.

        Returns
        -------
        PretrainedPatchFeatures
            Features, unfitted.
        """
        return PretrainedPatchFeatures(layers=("bn2",), neighborhood=1, image_size=96, batch_size=32)

    def default_training(self):
        """Return the settings that ``training=None`` stands for.

        Returns
        -------
        Training
            Settings: a fixed number of epochs, without early stopping.
        """
        return Training(batch_size=64, lr=1e-4, validation_share=0.0, patience=None)

    def transform(self, X):
        """Compute the vectors of images.

        Parameters
        ----------
        X : array of shape (n, H, W[, C]), sequence of images or paths, or str
            Images of dtype uint8, uint16, bool, or float in [0, 1], with C in {1, 3, 4}; a str is the path of a
            folder, or a glob pattern.

        Returns
        -------
        ndarray of shape (n, d), float32
            Vectors.
        """
        check_is_fitted(self)
        return self.features_.transform(X)

    def feature_network(self, device="cpu", dtype=np.float32):
        """Return the trained network as a differentiable function of tensors.

        The module of the result is a function from images x, of shape (n, 3, h, w) with values in [0, 1] and not
        normalised, to their vectors, of shape (n, d). It is differentiable with respect to x. Its parameters are
        frozen, and it is in evaluation mode, so that the vector of an image does not depend on the other images of the
        batch. For images as `transform` resizes them, the vectors are those of `transform`: to the bit in float32, on
        the device of the features and in batches of the same length, and within rounding errors otherwise. The sides h
        and w may be any that the backbone accepts; those of `features` are what it was trained on.

        Parameters
        ----------
        device : {"auto", "cpu", "cuda", "mps"}, default="cpu"
            Device of the network; "auto" takes CUDA, then MPS, then the CPU.
        dtype : dtype, default=float32
            Type of its parameters and of x: float32 or float64.

        Returns
        -------
        Net
            Copy of the network, which belongs to the caller.
        """
        check_is_fitted(self)
        return self.features_.network(device, dtype).freeze()

    # ----------------------------------------------------------------------------------------- protocol of features

    @property
    def n_features_out_(self):
        """Number of features d of a vector."""
        return self._of_features("n_features_out_")

    @property
    def batch_len(self):
        """Number of samples that are embedded and scored at a time."""
        return self._features().batch_len

    def check_samples(self, X, *, reset=False):
        """Check `X` and return it as images that are decoded when needed.

        Parameters
        ----------
        X : array of shape (n, H, W[, C]), sequence of images or paths, str, or ImageSource
            Images of dtype uint8, uint16, bool, or float in [0, 1], with C in {1, 3, 4}; a str is the path of a
            folder, or a glob pattern.
        reset : bool, default=False
            If True, fresh features are created first.

        Returns
        -------
        ImageSource
            Checked images.
        """
        if not reset:
            return self.features_.check_samples(X)
        self._validate_params()
        return self._open(X)

    def fit_samples(self, samples):
        """Train the network, without a threshold.

        Parameters
        ----------
        samples : ImageSource
            Normal images, as returned by `check_samples`.

        Returns
        -------
        self
            Fitted estimator.
        """
        self._learn(samples)
        return self

    def transform_layers(self, X):
        """Compute the vectors of images, as a single layer.

        Parameters
        ----------
        X : array of shape (n, H, W[, C]), sequence of images or paths, or str
            Images, as in `transform`.

        Returns
        -------
        Layers
            Vectors.
        """
        return Layers([self.transform(X)])

    # ----------------------------------------------------------------------------------------- state

    def __copy__(self):
        twin = object.__new__(type(self))
        vars(twin).update(vars(self))  # __getstate__ is for pickles only
        return twin

    def __getstate__(self):
        """Return the state without the images of the reference; before fit, the path of a reference stays."""
        state = super().__getstate__()
        if hasattr(self, "features_") or not isinstance(self.reference, (str, PathLike)):
            state["reference"] = None
        return state

    def _features(self):
        return vars(self).get("features_") or self._fresh_features()

    def _fresh_features(self):
        given = self.default_features() if self.features is None else self.features
        return VectorFeatures(given, norm=self._norm)

    def _open(self, X):
        self.features_ = self._fresh_features()
        samples = self.features_.check_samples(X, reset=True)
        self.training_ = self.default_training() if self.training is None else clone(self.training)
        self.training_.check()
        if self.training_.batch_size == "auto":
            self.training_.set_params(batch_size=self.default_training().batch_size)
        self._keep_settings()
        return samples

    # ----------------------------------------------------------------------------------------- learning

    def _learn(self, samples, Z=None, groups=None):
        generator = torch.Generator().manual_seed(int(check_random_state(self.random_state).randint(2**31)))
        self.features_ = copy.copy(self.features_).fit_samples(samples)
        self.history_ = {"train_loss": np.empty(0)}
        if self.max_epochs > 0:
            self._train(samples, groups, generator)
        self._fit(self._embed(samples))

    def _train(self, samples, groups, generator):
        """Train the network; the images that are held out for early stopping, if any, are not learnt from."""
        images, labels = self._open_reference()
        n_classes, width = labels.max() + 1, self.features_.n_features_out_
        data, held_out = self._data_sets(samples, images, labels, groups, generator)
        net = self.features_.network(self.features_.features_.device)
        net.module.learn_all_but(self.frozen, self.batch_statistics)
        head = initialized(lambda: nn.Linear(width, n_classes + self.normals_as_class), generator)
        module = nn.ModuleDict({"network": net.module, "head": head.to(net.device)})
        with seeded(generator.initial_seed(), net.device):  # from which the dropout of some backbones is drawn
            self.history_ = self._run(module, data, held_out, generator)
        self.features_ = self.features_.trained(to_arrays(net.module.body))

    def _data_sets(self, samples, images, labels, groups, generator):
        """Return the images to learn from and those that are held out, each normal ones and the reference."""
        reader, normal_label = self.features_.features_, labels.max() + 1 if self.normals_as_class else -1
        device = resolve_device(reader.device)
        normals, others = (
            self.training_.hold_out(len(part), generator, part_groups)
            for part, part_groups in ((samples, groups), (images, None))
        )
        return [
            self._batches_of(
                Images(reader, samples[normal], device),
                Images(reader, images[other], device),
                torch.from_numpy(labels[other]).to(device),
                normal_label,
                source,
            )
            for normal, other, source in zip(normals, others, (generator, None), strict=True)
        ]

    def _run(self, module, data, held_out, generator):
        """Run the training loop; return its history."""
        settings = self.training_

        def losses(batch):
            return self._losses(module, *batch)

        return settings.run(
            module,
            lambda batch, noise: losses(batch)["loss"],
            data,
            held_out,
            None,
            max_epochs=self.max_epochs,
            generator=generator,
            step=gradient_step(module, losses, lr=settings.lr, weight_decay=settings.weight_decay, amsgrad=True),
            keep="best" if len(held_out) else "last",
            verbose=self.verbose,
        )

    def _open_reference(self):
        if self.reference is None:
            raise ValueError(
                f"{type(self).__name__} learns from a labelled reference, but reference=None; pass a folder with one "
                "subfolder of images per class, an .npz file with the arrays X and y, a pair (images, labels) or a "
                "Reference. Pickles and model files do not hold it: set it again before a loaded detector is refitted."
            )
        reader = self.features_.features_
        return open_reference(self.reference, data_range=reader.data_range, max_pixels=reader.max_pixels)

    # ----------------------------------------------------------------------------------------- scoring

    def _fit(self, Z):
        self.center_ = Z.mean(axis=0, dtype=np.float64)
        self.gallery_ = Z
        if self.scoring == "lof":
            if len(Z) <= self.n_neighbors:
                raise ValueError(
                    f"n_neighbors={self.n_neighbors} is too large: 'lof' needs more normal images, got {len(Z)}."
                )
            self.low_, self.range_ = Z.min(axis=0), np.ptp(Z, axis=0)
            self.radii_, self.densities_ = local_densities(self._scaled(Z), self.n_neighbors)

    def _score(self, Z, maps=True):
        rules = {"nearest": self._to_nearest, "mean": self._to_center, "lof": self._outlier_factors}
        return rules[self.scoring](Z), None

    def _to_nearest(self, Z):
        return k_nearest(self.gallery_, Z, 1)[0][:, 0]

    def _to_center(self, Z):
        return np.linalg.norm(Z - self.center_, axis=1)

    def _outlier_factors(self, Z):
        return outlier_factors(
            self._scaled(self.gallery_), self.radii_, self.densities_, self._scaled(Z), self.n_neighbors
        )

    def _scaled(self, Z):
        """Return vectors with the range of every feature among the normal images scaled to [0, 1]."""
        return (Z.astype(np.float64) - self.low_) / np.where(self.range_ > 0, self.range_, 1)


class Images:
    """Images that are read when needed, as batches of tensors.

    Parameters
    ----------
    reader : PretrainedPatchFeatures
        Fitted features, which resize the images.
    samples : ImageSource
        Images.
    device : torch.device
        Device of the batches.
    """

    def __init__(self, reader, samples, device):
        self.reader, self.samples, self.device = reader, samples, device

    def __len__(self):
        return len(self.samples)

    def __getitem__(self, indices):
        """Return the images (n, 3, H, W) at a LongTensor."""
        return self.reader.read_batch(self.samples[indices.numpy()]).to(self.device)
