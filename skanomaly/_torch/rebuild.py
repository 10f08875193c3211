"""Optimisation of networks side by side, each of which rebuilds its own image."""

import torch


def rebuild(module, x, losses, weights, optimizer, *, n_steps, patience, real, averages=False):
    """Optimise networks that rebuild images; return the images and losses of the states with the lowest losses.

    Parameters
    ----------
    module : Module
        Networks side by side. The sum of their losses is minimised, and none of them depends on another.
    x : Tensor of shape (n, c, h, w)
        Images, one for each network.
    losses : callable
        Function of rebuilt images (n, c, h, w) that returns the terms (n, k) of their losses.
    weights : Tensor of shape (k,)
        Weights of the terms.
    optimizer : torch.optim.Optimizer
        Optimiser of the parameters of the module.
    n_steps : int
        Largest number of steps.
    patience : int or None
        Number of steps without a lower loss after which a network stops; None never stops early.
    real : Tensor of shape (n,), bool
        False for padding, which is not waited for.
    averages : bool, default=False
        If True, the images are those of the last states, made in evaluation mode.

    Returns
    -------
    rebuilt : Tensor of shape (n, c, h, w)
        Rebuilt images.
    terms : Tensor of shape (n, k)
        Terms of their losses.
    n_steps : Tensor of shape (n,)
        Number of steps after which each network stopped.
    """
    running, lowest = real, torch.full(x.shape[:1], torch.inf, dtype=x.dtype, device=x.device)
    waited = steps = torch.zeros_like(lowest)
    shown = None
    for step in range(n_steps + 1):
        now = _forward(module.train(), x, losses, step < n_steps)
        loss = now[1] @ weights
        better = running & (loss.detach() < lowest)
        waited = torch.where(better, 0, waited + 1)
        lowest = torch.where(better, loss.detach(), lowest)
        goes_on = running & (step < n_steps) & (waited < (n_steps + 1 if patience is None else patience))
        if averages:
            better = running & ~goes_on
            now = _forward(module.eval(), x, losses, False) if better.any() else now
        shown = _replaced(shown, now, better)
        running, steps = goes_on, steps + goes_on
        if not running.any():
            break
        optimizer.zero_grad()
        loss.sum().backward()
        optimizer.step()
    return *shown, steps


def _forward(module, x, losses, gradients):
    with torch.set_grad_enabled(gradients):
        rebuilt = module(x)
        return rebuilt, losses(rebuilt)


def _replaced(old, new, where):
    """Return tensors (n, ...) with the samples in question replaced."""
    new = tuple(values.detach() for values in new)
    if old is None:
        return new
    return tuple(torch.where(where.view(-1, *[1] * (b.ndim - 1)), b, a) for a, b in zip(old, new, strict=True))
