"""Training in three verbs: fit_loop > run_epoch > train_step."""

import math

import numpy as np
import torch
from tqdm import tqdm


def fit_loop(
    module, data, train_step, validate=None, *, max_epochs, batch_size, patience, generator, keep="best", verbose=0
):
    """Train for `max_epochs`, or until the validation loss has not fallen for `patience` epochs.

    Parameters
    ----------
    module : Module
        Network that is trained, or several in a `ModuleDict`: put into training mode before every epoch, and left in
        evaluation mode.
    data : Tensor, or another object with a length that is indexed by a LongTensor
        Samples to learn from.
    train_step : callable
        Takes a batch of `data`, changes the module, and returns the loss as a tensor without gradient, or a dict of
        such, whose entry "loss" is the one to watch. `gradient_step` makes one; a GAN passes its own.
    validate : callable, optional
        Returns the loss on held-out samples as a float; called in evaluation mode. Without it the loss of training
        stands in.
    max_epochs : int
        0 leaves the module as it is.
    batch_size : int
        The last batch of an epoch may be smaller.
    patience : int or None
        None never stops early.
    generator : torch.Generator
        Shuffles the samples.
    keep : {"best", "last"}, default="best"
        Epoch whose parameters and buffers the module is left with: the one with the lowest validation loss, or the
        last one, for losses that say nothing about quality, as those of a GAN.
    verbose : int
        1 shows a progress bar.

    Returns
    -------
    dict of str to ndarray of shape (n_epochs,)
        "train_loss", mean over the samples of an epoch; "valid_loss", after it (where there is `validate`); and what
        else `train_step` returned.

    Raises
    ------
    ValueError
        As soon as a loss is NaN or infinite.
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
    """Call `train_step` on all samples in random order; return the means of what it returns, as floats by name."""
    totals = {}
    for indices in torch.randperm(len(data), generator=generator).split(batch_size):
        losses = train_step(data[indices])
        for name, value in losses.items() if isinstance(losses, dict) else [("loss", losses)]:
            totals[name] = totals.get(name, 0) + value * len(indices)  # stays on the device: no waiting per step
    return {_HISTORY_NAME.get(name, name): float(total) / len(data) for name, total in totals.items()}


_HISTORY_NAME = {"loss": "train_loss"}


def gradient_step(module, loss, *, lr, weight_decay=0.0):
    """Return the train_step that lowers `loss` by Adam.

    Parameters
    ----------
    module : Module
        All of its parameters that require a gradient are trained.
    loss : callable
        Batch to scalar tensor.
    lr, weight_decay : float
        Of Adam.

    Returns
    -------
    callable
        Batch to the loss before the step, without gradient.
    """
    parameters = [p for p in module.parameters() if p.requires_grad]
    fused = all(p.device.type in ("cpu", "cuda") for p in parameters)
    optimizer = torch.optim.Adam(parameters, lr=lr, weight_decay=weight_decay, fused=fused)

    def train_step(batch):
        optimizer.zero_grad()
        value = loss(batch)
        value.backward()
        optimizer.step()
        return value.detach()

    return train_step


def mean_loss(loss, data, batch_size):
    """Return the mean of `loss` over the samples of `data`, in their order and without gradient, as a float."""
    total = 0
    with torch.no_grad():
        for indices in torch.arange(len(data)).split(batch_size):
            total = total + loss(data[indices]) * len(indices)
    return float(total) / len(data)


def hold_out(n, share, generator, groups=None):
    """Return the indices to train on and those to validate on, a random `share` of n (none if it rounds to 0).

    Parameters
    ----------
    n : int
        Number of samples.
    share : float
        In [0, 1).
    generator : torch.Generator
    groups : ndarray of shape (n,), optional
        Samples with equal values stay together; the share is then one of groups.

    Returns
    -------
    train, valid : ndarray of int
        Ascending.

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
    """Return the number (n,) of the group of every sample, groups counted as they appear."""
    _, firsts, members = np.unique(groups, return_index=True, return_inverse=True)
    return np.argsort(np.argsort(firsts))[members]


def _check_finite(losses, epoch, max_epochs):
    wrong = [f"{name}={value}" for name, value in losses.items() if not math.isfinite(value)]
    if wrong:
        raise ValueError(
            f"Training diverged in epoch {epoch + 1} of {max_epochs}: {', '.join(wrong)}. Lower lr (by a factor of 10, "
            "say), and check the scale of the data for extreme values."
        )


def _snapshot(module):
    return {name: value.clone() for name, value in module.state_dict().items()}
