"""What descriptions of networks share."""

from sklearn.base import BaseEstimator


class Network(BaseEstimator):
    """Description of an encoder and a decoder, without torch: parameters, schedule, and what the network sees.

    Samples have the shape (d,), rows, or (h, w, c), grids; networks see vectors (d,) or images (c, h, w). A subclass
    writes

    - ``view(shape, *, cells=False, **statistics)``: the view, see `_torch.views`, of samples of a shape; `cells` says
      that a grid is one of feature vectors rather than an image;
    - ``build(shape, n_codes_per_unit=1)``: the untrained `EncoderDecoder` for what the view has the network see, whose
      code has `n_codes_per_unit` values, linear ones where there are several, for each value that is decoded;
    - ``check(shape)``: raise a ValueError for parameters that do not fit together, or not to samples of a shape;

    and states its schedule: number of optimiser steps, fewest and most epochs, smallest and largest batch.
    """

    n_steps: int
    epochs: tuple
    batch_sizes: tuple

    def auto_batch_size(self, n):
        """Return the batch size for n training samples."""
        return min(max(n // 100, self.batch_sizes[0]), self.batch_sizes[1])

    def auto_epochs(self, n, batch_size):
        """Return the number of epochs for n training samples."""
        return min(max(-(-self.n_steps * batch_size // n), self.epochs[0]), self.epochs[1])

    def default_noise(self, shape):
        """Return the standard deviation of the noise that denoising training adds to inputs of a shape."""
        return 0.0

    def penalty(self, module, x):
        """Return what is added to the training loss of a batch."""
        return 0.0
