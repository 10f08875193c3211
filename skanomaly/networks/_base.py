"""Base class of the descriptions of networks."""

from sklearn.base import BaseEstimator

from .._doc_links import DocLinkMixin


class Network(DocLinkMixin, BaseEstimator):
    """Description, without torch, of an encoder and a decoder: their parameters, their inputs and their schedule.

    Samples have the shape (d,), rows, or (h, w, c), grids; networks see vectors (d,) or images (c, h, w). A subclass
    implements

    - ``view(shape, *, cells=False, **statistics)``: return the view (`_torch.views`) that turns samples of a shape into
      inputs of the network; `cells` is True if a grid consists of feature vectors rather than pixels;
    - ``build(shape, n_codes_per_unit=1)``: return the untrained `EncoderDecoder` for inputs of a shape. Its encoder
      returns `n_codes_per_unit` values, linear if more than one, for each value that is decoded;
    - ``check(shape)``: raise a ValueError if parameters contradict each other or do not suit samples of a shape;

    says whether its outputs are in [0, 1] (``bounded``), and sets its schedule: the number of optimiser steps, and the
    limits of the numbers of epochs and of batch sizes.
    """

    n_steps: int
    epochs: tuple
    batch_sizes: tuple
    bounded = False

    def auto_batch_size(self, n):
        """Return the default batch size.

        Parameters
        ----------
        n : int
            Number of training samples.

        Returns
        -------
        int
            Batch size.
        """
        return min(max(n // 100, self.batch_sizes[0]), self.batch_sizes[1])

    def auto_epochs(self, n, batch_size):
        """Return the default number of epochs.

        Parameters
        ----------
        n : int
            Number of training samples.
        batch_size : int
            Batch size.

        Returns
        -------
        int
            Number of epochs.
        """
        return min(max(-(-self.n_steps * batch_size // n), self.epochs[0]), self.epochs[1])

    def default_noise(self, shape):
        """Return the default standard deviation of the noise that is added to inputs in training.

        Parameters
        ----------
        shape : tuple of int (d,) or (c, h, w)
            Shape of an input.

        Returns
        -------
        float
            Standard deviation: 0.
        """
        return 0.0

    def penalty(self, module, x):
        """Return the penalty that is added to the training loss of a batch.

        Parameters
        ----------
        module : EncoderDecoder
            Network.
        x : Tensor of shape (n, ...)
            Inputs of the network.

        Returns
        -------
        float
            Penalty: 0.
        """
        return 0.0
