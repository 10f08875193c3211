"""Search of the code of each sample by gradient descent."""

import torch

_DECAYS = 0.9, 0.999  # of the means of gradients and of their squares
_EPSILON = 1e-8


def adam_search(energy, start, *, n_steps, lr):
    """Minimise an energy of each code by Adam, whose state is one row for each code: no code depends on the others.

    Parameters
    ----------
    energy : callable
        Function from codes (n, d) to their energies (n,), each of which depends on its own code only.
    start : Tensor of shape (n, d)
        Codes to start from.
    n_steps : int
        Number of steps.
    lr : float
        Learning rate.

    Returns
    -------
    codes : Tensor of shape (n, d)
        Codes of lowest energy, among the start and the codes after each step.
    energies : Tensor of shape (n,)
        Their energies.
    """
    z, mean, square = start.clone(), torch.zeros_like(start), torch.zeros_like(start)
    best, lowest = z.clone(), torch.full_like(start[:, 0], torch.inf)
    for step in range(1, n_steps + 1):
        energies, gradient = _with_gradient(energy, z)
        _keep_lower(best, lowest, z, energies)
        mean.lerp_(gradient, 1 - _DECAYS[0])
        square.lerp_(gradient.square(), 1 - _DECAYS[1])
        deviation = (square / (1 - _DECAYS[1] ** step)).sqrt_().add_(_EPSILON)
        z = z - lr / (1 - _DECAYS[0] ** step) * mean / deviation
    with torch.no_grad():
        _keep_lower(best, lowest, z, energy(z))
    return best, lowest


def _with_gradient(energy, z):
    with torch.enable_grad():
        z = z.detach().requires_grad_()
        energies = energy(z)
        energies.sum().backward(inputs=[z])
    return energies.detach(), z.grad


def _keep_lower(best, lowest, z, energies):
    """Replace codes of higher energy, in place."""
    lower = energies < lowest
    best[lower], lowest[lower] = z[lower], energies[lower]
