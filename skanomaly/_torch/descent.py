"""Descent of samples, each by itself, down an energy: a loss plus an L1 anchor at the start."""

import torch

_PROMISE_KEPT = 0.25  # least share of its first-order decrease that a step must bring
_MOST_FAILURES = 12  # halvings in a row, after which there is no descent


def with_gradient(losses_and_restored):
    """Return a function that evaluates a mean loss: x to L (n,), the gradient of d L, and the residual.

    Parameters
    ----------
    losses_and_restored : callable
        Takes x (n, ...) to L and to the reconstruction of x; d is the number of values of a sample.
    """

    def evaluate(x):
        with torch.enable_grad():
            x = x.detach().requires_grad_()
            losses, restored = losses_and_restored(x)
            (gradient,) = torch.autograd.grad(losses.sum(), x)
        return losses.detach(), x[0].numel() * gradient, (x - restored).detach()

    return evaluate


def descend(start, evaluate, weigh, *, alpha, anchor, n_steps, lowest_loss, line_search, limits, real):
    """Yield x and E(x) (n,) of all samples, at the start and after every trial, until the last one stops.

    Parameters
    ----------
    start : Tensor of shape (n, ...)
        Where x begins, and where the anchor holds it.
    evaluate : callable
        As returned by `with_gradient`.
    weigh : callable
        Takes residuals to m, the weight of the gradient in every value.
    alpha : float
        Length of steps: the factor itself, or, with `line_search`, the largest change of a value in the first trial,
        as a share of the largest residual.
    anchor : float
        Weight of the mean distance to the start in E.
    n_steps : int
        Largest number of steps of a sample.
    lowest_loss : float
        Samples stop when their loss is not above it.
    line_search : bool
        If True, steps are proximal, and shortened until E falls; else they are plain steps of length `alpha`.
    limits : tuple of float or None
        Smallest and largest value of x.
    real : Tensor of shape (n,), bool
        False for samples that stay where they are.
    """
    loss, gradient, residual = evaluate(start)
    now = (start, gradient, weigh(residual), loss, loss, torch.zeros_like(loss))
    length = _first_length(alpha, residual, *now[1:3]) if line_search else torch.full_like(loss, alpha)
    steps, failures = torch.zeros_like(loss), torch.zeros_like(loss)
    running = (loss > lowest_loss) & real & (n_steps > 0)
    yield start, loss
    while running.any():
        x, gradient, weight, _, energy, distance = now
        if line_search:
            x_new = _proximal_step(x, start, gradient, anchor, _per_value(length / _peak(weight), x) * weight, limits)
        else:
            x_new = _plain_step(x, start, gradient, anchor, alpha * weight, limits)
        loss_new, gradient_new, residual = evaluate(x_new)
        distance_new = anchor * _mean((x_new - start).abs())
        energy_new = loss_new + distance_new
        if line_search:
            promise = _mean(gradient * (x_new - x)) + distance_new - distance
            running &= promise < 0
            taken = running & (energy_new <= energy + _PROMISE_KEPT * promise)
            length *= torch.where(taken, torch.where(failures == 0, 2.0, 1.0), 0.5)
        else:
            taken = running & energy_new.isfinite()
        after = (x_new, gradient_new, weigh(residual), loss_new, energy_new, distance_new)
        now = tuple(torch.where(_per_value(taken, new), new, old) for new, old in zip(after, now, strict=True))
        steps, failures = steps + taken, torch.where(taken, 0, failures + 1)
        running &= (now[3] > lowest_loss) & (steps < n_steps) & (failures < (_MOST_FAILURES if line_search else 1))
        yield now[0], now[4]


def _proximal_step(x, start, gradient, anchor, rate, limits):
    """Return x after the gradient's step, its distance to the start shrunk by the anchor's."""
    shift = x - start - rate * gradient
    return _within(start + shift.sign() * (shift.abs() - rate * anchor).clamp(min=0), limits)


def _plain_step(x, start, gradient, anchor, rate, limits):
    """Return x after a step along the gradient of the loss and the sub-gradient of the anchor, 0 at the start."""
    return _within(x - rate * (gradient + anchor * (x - start).sign()), limits)


def _within(x, limits):
    return x if limits is None else x.clamp(*limits)


def _first_length(alpha, residual, gradient, weight):
    """Return the length (n,) of the first trial, for weights of which the largest is 1."""
    weight = weight / _per_value(_peak(weight), weight)
    return alpha * _peak(weight * residual) / _peak(weight * gradient)


def _peak(values):
    """Return the largest absolute value of every sample (n,), not zero."""
    return values.abs().flatten(1).amax(dim=1).clamp(min=torch.finfo(values.dtype).tiny)


def _mean(values):
    return values.flatten(1).mean(dim=1)


def _per_value(values, x):
    """Return values (n,), or of the shape of x, in a shape that broadcasts to x."""
    return values.view(len(x), *[1] * (x.ndim - 1)) if values.ndim == 1 else values
