"""Training of networks: `fit_loop` calls `run_epoch`, which calls `train_step`."""

import math

import numpy as np
import torch
from tqdm import tqdm


def fit_loop(
    module, data, train_step, validate=None, *, max_epochs, batch_size, patience, generator, keep="best", verbose=0
):
    """Train a module for `max_epochs`, or until the validation loss has not improved for `patience` epochs.

    Parameters
    ----------
    module : Module
        Network to be trained, or several in a `ModuleDict`. It is put into training mode before every epoch, and into
        evaluation mode afterwards.
    data : Tensor, or another object with a length that can be indexed by a LongTensor
        Training samples.
    train_step : callable
        Function that takes a batch of `data`, updates the module, and returns the loss as a tensor without gradient, or
        a dict of such tensors with an entry "loss". Use `gradient_step` to create one; a GAN needs its own.
    validate : callable, default=None
        Function that returns the loss on held-out samples as a float; it is called in evaluation mode. If None, the
        training loss is used instead.
    max_epochs : int
        Largest number of epochs; 0 leaves the module unchanged.
    batch_size : int
        Number of samples in a batch; the last batch of an epoch may be smaller.
    patience : int or None
        Number of epochs without improvement after which training stops; None never stops early.
    generator : torch.Generator
        Generator that shuffles the samples.
    keep : {"best", "last"}, default="best"
        Epoch whose parameters and buffers are kept: the epoch with the lowest validation loss, or the last epoch, for
        losses that do not measure quality, such as the losses of a GAN.
    verbose : int, default=0
        If 1, a progress bar is shown.

    Returns
    -------
    dict of str to ndarray of shape (n_epochs,)
        History: "train_loss", the mean over the samples of each epoch; "valid_loss", the loss after each epoch, if
        `validate` is given; and any other losses that `train_step` returned.

    Raises
    ------
    ValueError
        If a loss becomes NaN or infinite.
    """
    history, best, best_epoch, best_state = [], math.inf, -1, None
    with tqdm(range(max_epochs), desc="training", unit="epoch", disable=not verbose) as epochs:
        for epoch in epochs:
            module.train()
            losses = run_epoch(train_step, data, batch_size, generator)
            module.eval()
            if validate is not None:
                losses["valid_loss"] = validate()
            watched = losses["train_loss" if validate is None else "valid_loss"]
            _check_finite(losses, epoch, max_epochs)
            epochs.set_postfix(losses, refresh=False)
            history.append(losses)
            if watched < best:
                best, best_epoch = watched, epoch
                best_state = _snapshot(module) if keep == "best" else None
            elif patience is not None and epoch - best_epoch >= patience:
                break
    module.eval()
    if best_state is not None:
        module.load_state_dict(best_state)
    names = history[0] if history else ("train_loss",) if validate is None else ("train_loss", "valid_loss")
    return {name: np.array([losses[name] for losses in history]) for name in names}


def run_epoch(train_step, data, batch_size, generator):
    """Call `train_step` on all samples in random order; return its mean losses by name, as floats."""
    totals = {}
    for indices in torch.randperm(len(data), generator=generator).split(batch_size):
        losses = train_step(data[indices])
        for name, value in losses.items() if isinstance(losses, dict) else [("loss", losses)]:
            totals[name] = totals.get(name, 0) + value * len(
                indices
            )  # stays on the device, to avoid synchronisation at every step
    return {_HISTORY_NAME.get(name, name): float(total) / len(data) for name, total in totals.items()}


_HISTORY_NAME = {"loss": "train_loss"}


def gradient_step(module, loss, *, lr, weight_decay=0.0, amsgrad=False):
    """Return a `train_step` that minimises `loss` by Adam.

    Parameters
    ----------
    module : Module
        Module whose parameters are trained, if they require gradients.
    loss : callable
        Function from a batch to a scalar tensor, or to a dict of scalar tensors whose entry "loss" is minimised.
    lr : float
        Learning rate of Adam.
    weight_decay : float, default=0.0
        Weight decay of Adam.
    amsgrad : bool, default=False
        If True, the largest second moment so far is used (AMSGrad).

    Returns
    -------
    callable
        Function from a batch to the loss, or the losses by name, before the step and without gradient.
    """
    optimizer = adam(module, lr=lr, weight_decay=weight_decay, amsgrad=amsgrad)

    def train_step(batch):
        optimizer.zero_grad()
        value = loss(batch)
        losses = value if isinstance(value, dict) else {"loss": value}
        losses["loss"].backward()
        optimizer.step()
        detached = {name: part.detach() for name, part in losses.items()}
        return detached if isinstance(value, dict) else detached["loss"]

    return train_step


def adam(module, *, lr, weight_decay=0.0, betas=(0.9, 0.999), amsgrad=False):
    """Return an Adam optimiser of the parameters of a module that require gradients.

    Parameters
    ----------
    module : Module
        Module whose parameters are trained.
    lr : float
        Learning rate.
    weight_decay : float, default=0.0
        Weight decay.
    betas : tuple of float, default=(0.9, 0.999)
        Decays of the averages of the gradient and of its square.
    amsgrad : bool, default=False
        If True, the AMSGrad variant is used.

    Returns
    -------
    Adam
        Optimiser.
    """
    parameters = [p for p in module.parameters() if p.requires_grad]
    fused = all(p.device.type in ("cpu", "cuda") for p in parameters)
    return torch.optim.Adam(parameters, lr=lr, weight_decay=weight_decay, betas=betas, amsgrad=amsgrad, fused=fused)


def mean_loss(loss, data, batch_size):
    """Return the mean of `loss` over the samples of `data`, in order and without gradients, as a float."""
    total = 0
    with torch.no_grad():
        for indices in torch.arange(len(data)).split(batch_size):
            total = total + loss(data[indices]) * len(indices)
    return float(total) / len(data)


def hold_out(n, share, generator, groups=None):
    """Split n samples at random into training and validation samples.

    Parameters
    ----------
    n : int
        Number of samples.
    share : float
        Share of validation samples, in [0, 1); there are none if their number rounds to 0.
    generator : torch.Generator
        Generator of the split.
    groups : ndarray of shape (n,), default=None
        Group of each sample. Samples of one group are never split, and `share` refers to groups.

    Returns
    -------
    train : ndarray of int
        Indices of the training samples, ascending.
    valid : ndarray of int
        Indices of the validation samples, ascending.

    >>> train, valid = hold_out(10, 0.2, torch.Generator().manual_seed(0))
    >>> sorted([*train, *valid]) == list(range(10)), len(valid)
    (True, 2)
    """
    members = np.arange(n) if groups is None else _by_first_appearance(groups)
    n_groups = int(members.max()) + 1
    order = torch.randperm(n_groups, generator=generator).numpy()
    held_out = np.isin(members, order[: min(round(share * n_groups), n_groups - 1)])
    return np.flatnonzero(~held_out), np.flatnonzero(held_out)


def _by_first_appearance(groups):
    """Return the group (n,) of each sample, numbered in order of appearance."""
    _, firsts, members = np.unique(groups, return_index=True, return_inverse=True)
    return np.argsort(np.argsort(firsts))[members]


def _check_finite(losses, epoch, max_epochs):
    wrong = [f"{name}={value}" for name, value in losses.items() if not math.isfinite(value)]
    if wrong:
        raise ValueError(
            f"Training diverged in epoch {epoch + 1} of {max_epochs}: {', '.join(wrong)}. Lower lr, for example by a "
            "factor of 10, and check the scale of the data for extreme values."
        )


def _snapshot(module):
    return {name: value.clone() for name, value in module.state_dict().items()}
