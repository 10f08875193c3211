"""Gradient descent of each sample on an energy: a loss plus the l1 distance to the start."""

import torch

_PROMISE_KEPT = 0.25  # smallest share of its first-order decrease that a step must achieve
_MOST_FAILURES = 12  # consecutive halvings after which the descent stops


def with_gradient(losses_and_restored):
    """Return a function from x to the mean loss L, the gradient of d L and the residual.

    Parameters
    ----------
    losses_and_restored : callable
        Function from x (n, ...) to L (n,) and the reconstruction of x; d is the number of values of a sample.

    Returns
    -------
    callable
        Function from x to L (n,), the gradient and the residual.
    """

    def evaluate(x):
        with torch.enable_grad():
            x = x.detach().requires_grad_()
            losses, restored = losses_and_restored(x)
            (gradient,) = torch.autograd.grad(losses.sum(), x)
        return losses.detach(), x[0].numel() * gradient, (x - restored).detach()

    return evaluate


def descend(start, evaluate, weigh, *, alpha, anchor, n_steps, lowest_loss, line_search, limits, real):
    """Yield x and its energies E (n,), at the start and after every trial, until all samples have stopped.

    Parameters
    ----------
    start : Tensor of shape (n, ...)
        Start of the descent, to which the anchor pulls.
    evaluate : callable
        Function returned by `with_gradient`.
    weigh : callable
        Function from residuals to the weights of the gradient, value by value.
    alpha : float
        Step length: the factor of the gradient, or, with `line_search`, the largest change of a value in the first
        trial, as a share of the largest residual.
    anchor : float
        Weight of the mean distance to the start in E.
    n_steps : int
        Largest number of steps of a sample.
    lowest_loss : float
        Loss at or below which samples stop.
    line_search : bool
        If True, steps are proximal, and shortened until the energy decreases; if False, they are plain steps of length
        `alpha`.
    limits : tuple of float or None
        Smallest and largest value of x; None for no limits.
    real : Tensor of shape (n,), bool
        False for samples that must not move.

    Yields
    ------
    x : Tensor of shape (n, ...)
        Samples.
    energies : Tensor of shape (n,)
        Their energies.
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
    """Return x after a gradient step and soft-thresholding of the distance to the start."""
    shift = x - start - rate * gradient
    return _within(start + shift.sign() * (shift.abs() - rate * anchor).clamp(min=0), limits)


def _plain_step(x, start, gradient, anchor, rate, limits):
    """Return x after a step along the gradient of the loss and the sub-gradient of the anchor, 0 at the start."""
    return _within(x - rate * (gradient + anchor * (x - start).sign()), limits)


def _within(x, limits):
    return x if limits is None else x.clamp(*limits)


def _first_length(alpha, residual, gradient, weight):
    """Return the step length (n,) of the first trial, for weights whose maximum is 1."""
    weight = weight / _per_value(_peak(weight), weight)
    return alpha * _peak(weight * residual) / _peak(weight * gradient)


def _peak(values):
    """Return the largest absolute value (n,) of each sample, at least a tiny positive number."""
    return values.abs().flatten(1).amax(dim=1).clamp(min=torch.finfo(values.dtype).tiny)


def _mean(values):
    return values.flatten(1).mean(dim=1)


def _per_value(values, x):
    """Return values (n,) in a shape that broadcasts to x; values in the shape of x are left as they are."""
    return values.view(len(x), *[1] * (x.ndim - 1)) if values.ndim == 1 else values
