"""Dense networks for rows and for the cells of feature grids."""

import math
from numbers import Integral, Real

from sklearn.utils._param_validation import Interval, StrOptions

from .._networks.activations import ACTIVATIONS
from ._base import Network


class DenseNetwork(Network):
    """Dense layers, with a narrow code between an encoder and a decoder.

    The network sees rows of a table, single cells of a grid of features, or whole images, flattened to vectors.

    Parameters
    ----------
    hidden : tuple of int, default=(64, 32)
        Widths of the encoder's layers; the last one is the code.
    decoder : tuple of int or None, default=None
        Widths of the decoder's hidden layers; None mirrors `hidden`.
    activation : str or tuple of str, default="relu"
        Activation of all hidden layers, including the code, or one for each: "relu", "tanh", "elu", "sigmoid" or
        "linear". The code of a `VAE` is always linear.
    output_activation : str, default="linear"
        Activation of the last layer. Only "linear" can output any standardised value. With "sigmoid", the channels of
        images are not standardised: pixels are reconstructed as they are, in [0, 1].
    activity_penalty : float, default=0.0
        Weight of the L1 norm of the first hidden layer's activations in the training loss.

    See Also
    --------
    StridedNetwork : Strided convolutions for images, whose code is a vector.
    PooledNetwork : Convolutions with pooling for images, whose code is a feature map.

    Notes
    -----
    By default, training takes 2,000 optimiser steps, in 5 to 200 epochs, with batches of a hundredth of the samples, at
    least 32 and at most 512. The default noise is 1, one standard deviation of a standardised value, for vectors, and 0
    for images.

    Examples
    --------
    >>> from skanomaly import Autoencoder
    >>> from skanomaly.networks import DenseNetwork
    >>> detector = Autoencoder(network=DenseNetwork((8, 2), activation="tanh"))
    >>> detector.set_params(network__activity_penalty=1e-4).network
    DenseNetwork(activation='tanh', activity_penalty=0.0001, hidden=(8, 2))
    """

    n_steps, epochs, batch_sizes = 2000, (5, 200), (32, 512)

    _parameter_constraints = {
        "hidden": [tuple, list],
        "decoder": [tuple, list, None],
        "activation": [StrOptions(set(ACTIVATIONS)), tuple, list],
        "output_activation": [StrOptions(set(ACTIVATIONS))],
        "activity_penalty": [Interval(Real, 0, None, closed="left")],
    }

    def __init__(
        self, hidden=(64, 32), *, decoder=None, activation="relu", output_activation="linear", activity_penalty=0.0
    ):
        self.hidden = hidden
        self.decoder = decoder
        self.activation = activation
        self.output_activation = output_activation
        self.activity_penalty = activity_penalty

    @property
    def bounded(self):
        """Whether outputs are in [0, 1]."""
        return self.output_activation == "sigmoid"

    def check(self, shape):
        """Raise a ValueError if parameters contradict each other.

        Parameters
        ----------
        shape : tuple of int (d,) or (h, w, c)
            Shape of a sample.
        """
        self._validate_params()
        for name in ("hidden", "decoder"):
            widths = getattr(self, name)
            if not all(isinstance(n, Integral) and n >= 1 for n in widths or ()):
                raise ValueError(f"{name}={widths!r} is not accepted; widths must be integers, at least 1.")
        if not self.hidden:
            raise ValueError("hidden=() has no code; it must contain at least one width.")
        n_hidden = len(self.hidden) + len(self._decoder_widths())
        if len(self._activations()) != n_hidden + 1 or not set(self._activations()) <= set(ACTIVATIONS):
            raise ValueError(
                f"activation={self.activation!r} is not accepted; it must be one of {', '.join(sorted(ACTIVATIONS))}, "
                f"or one for each of the {n_hidden} hidden layers."
            )

    def view(self, shape, *, cells=False, **statistics):
        """Return the view that turns samples into inputs of the network.

        Parameters
        ----------
        shape : tuple of int (d,) or (h, w, c)
            Shape of a sample.
        cells : bool, default=False
            If True, each cell of a grid is an input of its own.
        **statistics : ndarray
            Statistics of the training samples, as returned by the view's `fit`.

        Returns
        -------
        Rows, Cells or Images
            View of rows, of the cells of grids, or of whole images.
        """
        from .._torch.views import Cells, Images, Rows

        if len(shape) == 1:
            return Rows(shape)
        height, width, n_channels = shape
        if cells:
            return Cells((n_channels,), (height, width), **statistics)
        return Images((n_channels, height, width), batch_len=1)  # as `Cells`

    def build(self, shape, n_codes_per_unit=1):
        """Return the untrained network.

        Parameters
        ----------
        shape : tuple of int (d,) or (c, h, w)
            Shape of an input.
        n_codes_per_unit : int, default=1
            Number of values that the encoder returns for each value that the decoder takes. If more than one, they are
            linear.

        Returns
        -------
        EncoderDecoder
            Untrained network.
        """
        from torch import nn

        from .._networks.autoencoders import EncoderDecoder, dense_layers

        n_values, n = math.prod(shape), len(self.hidden)
        activations = self._activations()
        inwards = activations[:n] if n_codes_per_unit == 1 else [*activations[: n - 1], "linear"]
        encoder = dense_layers([n_values, *self.hidden[:-1], n_codes_per_unit * self.hidden[-1]], inwards)
        decoder = dense_layers([self.hidden[-1], *self._decoder_widths(), n_values], activations[n:])
        if len(shape) == 1:
            return EncoderDecoder(encoder, decoder)
        encoder.insert(0, nn.Flatten())
        decoder.append(nn.Unflatten(1, shape))
        return EncoderDecoder(encoder, decoder, None if self.bounded else shape[0])

    def default_noise(self, shape):
        """Return the default standard deviation of the noise that is added to inputs in training.

        Parameters
        ----------
        shape : tuple of int (d,) or (c, h, w)
            Shape of an input.

        Returns
        -------
        float
            Standard deviation: 1 for vectors, 0 for images.
        """
        return 1.0 if len(shape) == 1 else 0.0

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
        Tensor or float
            Weighted L1 norm of the first hidden layer's activations, averaged over the batch.
        """
        if self.activity_penalty == 0:
            return 0.0
        first_layer = module.encoder[: 2 if x.ndim == 2 else 3]
        return self.activity_penalty * first_layer(module.standardized(x)).abs().sum(dim=1).mean()

    def _decoder_widths(self):
        return tuple(self.hidden[-2::-1]) if self.decoder is None else tuple(self.decoder)

    def _activations(self):
        """Return the names of the activations of all layers."""
        hidden = self.activation
        if isinstance(hidden, str):
            hidden = [hidden] * (len(self.hidden) + len(self._decoder_widths()))
        return [*hidden, self.output_activation]
