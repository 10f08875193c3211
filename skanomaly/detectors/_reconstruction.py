"""What detectors share that learn to give back normal samples: the door, the training, the residuals."""

from numbers import Integral, Real
from os import PathLike

import numpy as np
import torch
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.validation import validate_data

from .._inputs.arrays import check_magnitude
from .._inputs.images import ImageSource, as_pair, check_images
from .._kernels.smoothing import resize_antialiased, smooth_and_resize
from .._torch.device import DEVICES, resolve_device
from .._torch.inference import padded_batches, run_padded
from .._torch.patches import PatchSamples, average_patches, patch_corners, split_patches
from .._torch.state import blank, from_arrays, initialized, to_arrays
from .._torch.training import fit_loop, gradient_step, hold_out, mean_loss
from ..base import BaseDetector, stack_if_equal

_SCORING_LEN = {"rows": 1024, "images": 4, "patches": 1}  # samples per padded pass; an image is many patches
_DTYPE = {"rows": torch.float64, "images": torch.float32}  # of scoring; training is float32
_N_STEPS = {"rows": 2000, "images": 1000}  # of the optimiser, where max_epochs="auto"
_EPOCHS = {"rows": (5, 200), "images": (2, 200)}  # fewest and most of them
_PATCH_SIDE = 32  # where patch_size="auto"
_BATCH_SIZES = {"rows": (32, 512), "images": (16, 16)}  # smallest and largest, where batch_size="auto"


class ReconstructionDetector(BaseDetector):
    """Detectors that score a sample by what a network, trained on normal ones, fails to give back.

    Rows are standardised here, by the statistics of the training rows, and scored in float64; images are resized to
    `image_size`. The result as a tensor is called x: rows (n, d), images (n, C, H, W) in [0, 1].

    A subclass takes the parameters below and writes, for what the network sees (x, or patches of it),

    - ``_build()``: the untrained `EncoderDecoder` for inputs of shape ``network_shape_``;
    - ``_training_loss(x, generator)``: what is minimised, a scalar;
    - ``_restore(x)``: the reconstruction, of the shape of x;
    - ``_compare(x, restored)``: the reconstruction loss L_r of every sample (n,);
    - ``_evidence(x)``: scores (n,) of rows, residual maps (n, H, W) of images.

    ``self._module()`` is the network. Once the detector is fitted, `_reconstruct`, `_losses` and `_residuals` are the
    last three for whole samples (`_losses_and_restored` the first two at once), differentiable with respect to x, with
    all parameters frozen; ``_embed(samples)``,
    ``_to_tensor`` and ``_to_samples`` lead to x and back.
    """

    _parameter_constraints = {
        **BaseDetector._parameter_constraints,
        "image_size": [Interval(Integral, 8, None, closed="left"), tuple],
        "gray": ["boolean"],
        "patch_size": [Interval(Integral, 8, None, closed="left"), StrOptions({"auto"}), None],
        "stride": [Interval(Integral, 1, None, closed="left"), None],
        "sigma": [Interval(Real, 0, None, closed="left")],
        "image_score": [StrOptions({"max", "mean"})],
        "max_epochs": [Interval(Integral, 0, None, closed="left"), StrOptions({"auto"})],
        "batch_size": [Interval(Integral, 1, None, closed="left"), StrOptions({"auto"})],
        "lr": [Interval(Real, 0, None, closed="neither")],
        "weight_decay": [Interval(Real, 0, None, closed="left")],
        "validation_share": [Interval(Real, 0, 1, closed="left")],
        "patience": [Interval(Integral, 1, None, closed="left"), None],
        "warm_start": ["boolean"],
        "device": [StrOptions(set(DEVICES))],
        "data_range": [Interval(Real, 0, None, closed="neither"), None],
        "max_pixels": [Interval(Integral, 1, None, closed="left")],
    }

    # ----------------------------------------------------------------------------------------- public

    def reconstruct(self, X):
        """Return what the network makes of samples.

        Parameters
        ----------
        X : array-like
            Samples in a form that the class accepts.

        Returns
        -------
        ndarray of shape (n, d), float64, or of shape (n, H, W[, 3]), float32
            Rows in the units of `X`; images in [0, 1] and of their own sizes (a list where these differ).
        """
        restored = [self._to_samples(self._run(self._reconstruct, Z), sizes) for Z, sizes in self._embedded_batches(X)]
        if self.kind_ == "rows":
            return np.concatenate(restored)
        return stack_if_equal([image for batch in restored for image in batch])

    # ----------------------------------------------------------------------------------------- the door

    @property
    def _makes_maps(self):
        return getattr(self, "kind_", "images") == "images"

    @property
    def _batch_len(self):
        return None if self.kind_ == "rows" else 64

    def _check_samples(self, X, reset):
        kind = kind_of(X)
        if not reset and kind != self.kind_ and not (self.kind_ == "images" and isinstance(X, np.ndarray)):
            raise ValueError(
                f"X holds {kind}{_shown_shape(X)}, but this {type(self).__name__} was fitted on {self.kind_}."
            )
        if reset:
            self.kind_ = kind
        if self.kind_ == "rows":
            rows = validate_data(self, X, reset=reset, dtype=np.float64, order="C", ensure_min_samples=1 + reset)
            check_magnitude(rows, self)
            return rows
        source = check_images(X, data_range=self.data_range, max_pixels=self.max_pixels)
        if reset:
            self._check_geometry()
            vars(self).pop("n_features_in_", None)  # of an earlier fit on rows
            self.n_channels_ = 1 if self.gray else source.read(0).shape[2]
        return source

    def _check_geometry(self):
        size = as_pair(self.image_size)
        if len(size) != 2 or not all(isinstance(n, Integral) and n >= 8 for n in size):
            raise ValueError(
                f"image_size={self.image_size!r}; accepted is one side or (height, width), in pixels, from 8 on."
            )
        side = self._patch_side()
        if side is not None and side > min(size):
            raise ValueError(f"patch_size={self.patch_size} is larger than image_size={self.image_size}.")
        if side is not None and (self.stride or 0) > side:
            raise ValueError(f"stride={self.stride} leaves gaps between patches of patch_size={side}.")

    def _embed(self, samples):
        if self.kind_ == "rows":
            return samples
        return np.stack([self._read(samples, i) for i in range(len(samples))])

    def _read(self, source, i):
        """Return image i, resized, (C, H, W) in [0, 1]."""
        pixels, size = source.read(i), as_pair(self.image_size)
        if self.n_channels_ == 1 and pixels.shape[2] == 3:
            pixels = pixels.mean(axis=2, keepdims=True, dtype=np.float64).astype(np.float32)  # equal channels: exact
        if pixels.shape[:2] != size:
            pixels = resize_antialiased(pixels, size)
        return np.ascontiguousarray(np.broadcast_to(pixels, (*size, self.n_channels_)).transpose(2, 0, 1))

    def _to_tensor(self, Z):
        """Return embedded samples as x, in the dtype and on the device of scoring."""
        if self.kind_ == "rows":
            Z = (Z - self.mean_) / self.scale_
        return torch.from_numpy(Z).to(self._device())

    def _to_samples(self, x, sizes):
        """Return x, as an array, in the form and the units of the samples: rows (n, d), or a list of images."""
        if self.kind_ == "rows":
            return x * self.scale_ + self.mean_
        images = np.clip(x, 0, 1).transpose(0, 2, 3, 1)
        images = [resize_antialiased(image, size) for image, size in zip(images, sizes, strict=True)]
        return [image[..., 0] if self.n_channels_ == 1 else image for image in images]

    def _device(self):
        device = resolve_device(self.device)
        return torch.device("cpu") if device.type == "mps" and self.kind_ == "rows" else device  # it has no float64

    # ----------------------------------------------------------------------------------------- training

    def _fit(self, Z):
        generator = torch.Generator().manual_seed(int(check_random_state(self.random_state).randint(2**31)))
        train, valid = (part.numpy() for part in hold_out(len(Z), self.validation_share, generator))
        warm = self._continues(Z)
        self.network_shape_ = self._network_shape(Z)
        if self.kind_ == "rows" and not warm:
            self.mean_, scale = Z[train].mean(axis=0), Z[train].std(axis=0)
            self.scale_ = np.where(scale > 10 * np.finfo(float).eps * np.abs(self.mean_), scale, 1.0)
        self._network = self._first_network(Z[train], warm, generator)
        history = self._train(self._learnable(Z[train]), self._learnable(Z[valid]), generator)
        old = self.history_ if warm else {}
        self.history_ = {name: np.concatenate([old.get(name, ()), values]) for name, values in history.items()}
        self.network_state_ = to_arrays(self._network)
        del self._network
        self._module()
        self._learn_residuals(Z[train], Z[valid])

    def _continues(self, Z):
        """Return whether this fit goes on where the last one ended."""
        if not (self.warm_start and hasattr(self, "network_state_")):
            return False
        if self.calibration == "cv" and self.false_alarm_rate is not None:
            raise ValueError(
                "warm_start=True: the network has seen the folds that calibration='cv' holds out; use 'split'."
            )
        if self._network_shape(Z) != self.network_shape_:
            raise ValueError(
                f"warm_start=True continues a network for inputs of shape {self.network_shape_}, not "
                f"{self._network_shape(Z)}."
            )
        return True

    def _network_shape(self, Z):
        """Return the shape (d,) or (C, H, W) of what the network sees of embedded samples."""
        side = self._patch_side()
        return Z.shape[1:] if side is None else (Z.shape[1], side, side)

    def _first_network(self, Z, warm, generator):
        """Return the network that training starts from, on its device."""
        if warm:
            module = from_arrays(blank(self._build), self.network_state_)
        else:
            module = initialized(self._build, generator)
            if self.kind_ == "images":
                module.standardize_by(Z)
        return module.to(self._device())

    def _learnable(self, Z):
        """Return training or validation samples in the form that `fit_loop` takes batches of."""
        x = self._to_tensor(Z).float()
        corners = self._corners()
        return x if corners is None else PatchSamples(x, corners, self._patch_side())

    def _train(self, data, held_out, generator):
        batch_size = self.batch_size
        if batch_size == "auto":
            batch_size = int(np.clip(len(data) // 100, *_BATCH_SIZES[self.kind_]))
        max_epochs = self.max_epochs
        if max_epochs == "auto":
            max_epochs = int(np.clip(-(-_N_STEPS[self.kind_] * batch_size // len(data)), *_EPOCHS[self.kind_]))
        seed = int(torch.randint(2**31, (), generator=generator))

        def validate():  # the same noise after every epoch
            noise = torch.Generator().manual_seed(seed)
            return mean_loss(lambda x: self._training_loss(x, noise), held_out, batch_size)

        return fit_loop(
            self._network,
            data,
            gradient_step(
                self._network,
                lambda x: self._training_loss(x, generator),
                lr=self.lr,
                weight_decay=self.weight_decay,
            ),
            validate if len(held_out) else None,
            max_epochs=max_epochs,
            batch_size=batch_size,
            patience=self.patience,
            generator=generator,
            verbose=self.verbose,
        )

    def _learn_residuals(self, train, held_out):
        """Learn from embedded samples, after training, what scores need beside the network."""
        self.lowest_loss_ = float(self._run(self._losses, train).min())

    # ----------------------------------------------------------------------------------------- scoring

    def _reconstruct(self, x):
        return self._average(self._restore(self._split(x)))

    def _losses(self, x):
        return self._losses_and_restored(x)[0]

    def _losses_and_restored(self, x):
        """Return L_r (n,) of samples, and their reconstructions, which one pass gives together."""
        patches = self._split(x)
        restored = self._restore(patches)
        losses = self._compare(patches, restored)
        return losses.view(len(x), -1).mean(dim=1), self._average(restored)

    @property
    def _loss_unit(self):
        """What L_r is divided by to be of the scale of a mean squared residual, as it is here."""
        return 1.0

    def _residuals(self, x):
        return self._average(self._evidence(self._split(x)))

    def _split(self, x):
        corners = self._corners()
        return x if corners is None else split_patches(x, corners, self._patch_side())

    def _average(self, values):
        corners = self._corners()
        return values if corners is None else average_patches(values, corners, as_pair(self.image_size))

    def _corners(self):
        """Return the corners of the patches that the network sees, None where it sees whole samples."""
        side = self._patch_side()
        return None if side is None else patch_corners(as_pair(self.image_size), side, self.stride or side // 2)

    def _patch_side(self):
        """Return the side of the patches that the network sees, None where it sees whole samples."""
        if self.kind_ == "rows":
            return None
        if self.patch_size == "auto":
            return _PATCH_SIDE if min(as_pair(self.image_size)) >= 2 * _PATCH_SIDE else None
        return self.patch_size

    def _module(self):
        """Return the fitted network: frozen, in evaluation mode, in the dtype of scoring."""
        if not hasattr(self, "_network"):
            module = from_arrays(blank(self._build), self.network_state_)
            self._network = module.to(self._device(), _DTYPE[self.kind_]).eval().requires_grad_(False)
        return self._network

    def __getstate__(self):
        return {name: value for name, value in super().__getstate__().items() if name != "_network"}

    def _run(self, function, Z):
        """Return `function` of embedded samples as an array; no sample's bits depend on the others."""
        self._module()  # not within inference mode, whose tensors have no gradients for good
        length = self._scoring_len
        parts = [
            run_padded(function, self._to_tensor(Z[start:stop]), length).cpu().numpy()
            for start, stop in padded_batches(len(Z), length)
        ]
        return np.concatenate(parts)

    @property
    def _scoring_len(self):
        return _SCORING_LEN[self.kind_ if self._patch_side() is None else "patches"]

    def _score(self, Z):
        residuals = self._run(self._residuals, Z)
        if self.kind_ == "rows":
            return residuals, None
        if self.image_score == "mean":
            return residuals.reshape(len(Z), -1).mean(axis=1, dtype=np.float64), residuals
        peaks = [self._render(grid, grid.shape).max() for grid in residuals]
        return np.array(peaks, np.float64), residuals

    def _render(self, grid, size):
        return smooth_and_resize(grid, size, self.sigma)


def kind_of(X):
    """Return "rows" or "images": what `X` holds.

    Rows are tables: 2-D arrays, data frames, sparse matrices, lists of lists or of 1-D arrays of numbers. Images are
    paths, globs, and arrays of one image each or of more than 2 axes. A 2-D array of uint8, uint16 or bool is taken
    for one image without its batch axis, which `check_images` refuses.
    """
    if isinstance(X, ImageSource) or _is_path(X):
        return "images"
    if hasattr(X, "dtype") and hasattr(X, "ndim"):
        if X.ndim == 1:
            return "images" if len(X) and _is_path(next(iter(X))) else "rows"
        return "images" if X.ndim > 2 or X.dtype in (np.uint8, np.uint16, bool) else "rows"
    if isinstance(X, (list, tuple)):
        return "images" if not X or _is_path(X[0]) or getattr(X[0], "ndim", 0) > 1 else "rows"
    return "rows"


def _is_path(item):
    return isinstance(item, (str, PathLike))


def _shown_shape(X):
    return f" of shape {X.shape}" if hasattr(X, "shape") else ""
