"""Settings with which networks are trained."""

from numbers import Integral, Real

from sklearn.base import BaseEstimator
from sklearn.utils._param_validation import Interval, StrOptions

from .._doc_links import DocLinkMixin


class Training(DocLinkMixin, BaseEstimator):
    """Training settings: Adam on batches, with early stopping on held-out samples.

    Parameters
    ----------
    batch_size : int or "auto", default="auto"
        Number of samples (rows, images, patches or cells) in a training step; "auto" uses the default of the network.
    lr : float, default=1e-3
        Learning rate of Adam.
    weight_decay : float, default=0.0
        Weight of the L2 norm of the parameters in the gradients of Adam.
    validation_share : float, default=0.1
        Share of the training samples, in [0, 1), that is held out to decide when to stop and which epoch to keep. These
        are not the samples from which thresholds are set.
    patience : int or None, default=20
        Number of epochs without a lower validation loss after which training stops; None never stops early.

    See Also
    --------
    DenseNetwork : Network for rows and feature vectors, with its own default schedule.
    StridedNetwork : Network for images, with its own default schedule.

    Examples
    --------
    >>> from skanomaly import Autoencoder
    >>> from skanomaly.networks import Training
    >>> detector = Autoencoder(training=Training(lr=1e-2))
    >>> grid = {"training__lr": [1e-3, 1e-2], "training__batch_size": [32, 128]}
    """

    _parameter_constraints = {
        "batch_size": [Interval(Integral, 1, None, closed="left"), StrOptions({"auto"})],
        "lr": [Interval(Real, 0, None, closed="neither")],
        "weight_decay": [Interval(Real, 0, None, closed="left")],
        "validation_share": [Interval(Real, 0, 1, closed="left")],
        "patience": [Interval(Integral, 1, None, closed="left"), None],
    }

    def __init__(self, *, batch_size="auto", lr=1e-3, weight_decay=0.0, validation_share=0.1, patience=20):
        self.batch_size = batch_size
        self.lr = lr
        self.weight_decay = weight_decay
        self.validation_share = validation_share
        self.patience = patience

    def check(self):
        """Raise a ValueError for invalid parameters."""
        self._validate_params()

    def hold_out(self, n, generator, groups=None):
        """Draw the samples that are held out for early stopping.

        Parameters
        ----------
        n : int
            Number of samples.
        generator : torch.Generator
            Generator from which they are drawn.
        groups : ndarray of shape (n,), default=None
            Group of each sample. Samples of one group stay together.

        Returns
        -------
        train : ndarray of int
            Indices of the samples to learn from.
        held_out : ndarray of int
            Indices of the samples that are held out.
        """
        from .._torch.training import hold_out

        return hold_out(n, self.validation_share, generator, groups)

    def run(self, module, loss, data, held_out, network, *, max_epochs, generator, step=None, keep="best", verbose=0):
        """Train a module.

        Parameters
        ----------
        module : Module
            Network to train, or several in a `ModuleDict`.
        loss : callable
            Function of a batch and a generator of noise that returns the loss, a scalar tensor.
        data : Tensor, or another object with a length that is indexed by a LongTensor
            Samples to learn from.
        held_out : Tensor, or another object with a length that is indexed by a LongTensor
            Samples for validation.
        network : Network
            Description of the network, with its schedule.
        max_epochs : int or "auto"
            Maximum number of epochs; "auto" uses the default of the network.
        generator : torch.Generator
            Generator from which the order of samples and the noise are drawn.
        step : callable, default=None
            Training step, see `fit_loop`; None is a step of Adam on `loss`.
        keep : {"best", "last"}, default="best"
            Epoch whose weights are kept.
        verbose : int, default=0
            If 1, progress bars are shown.

        Returns
        -------
        dict of str to ndarray of shape (n_epochs,)
            Losses of each epoch, by name.
        """
        import torch

        from .._torch.training import fit_loop, gradient_step, mean_loss

        batch_size, n = self.batch_size, len(data)
        if batch_size == "auto":
            batch_size = network.auto_batch_size(n)
        if max_epochs == "auto":
            max_epochs = network.auto_epochs(n, batch_size)
        seed = int(torch.randint(2**31, (), generator=generator))

        def validate():  # the same noise after every epoch
            noise = torch.Generator().manual_seed(seed)
            return mean_loss(lambda x: loss(x, noise), held_out, batch_size)

        if step is None:
            step = gradient_step(module, lambda x: loss(x, generator), lr=self.lr, weight_decay=self.weight_decay)
        return fit_loop(
            module,
            data,
            step,
            validate if len(held_out) else None,
            max_epochs=max_epochs,
            batch_size=batch_size,
            patience=self.patience,
            generator=generator,
            keep=keep,
            verbose=verbose,
        )
