"""Inference whose result for a sample does not depend on the other samples in the batch."""

import torch
from torch.nn import functional


def padded_batches(n, batch_size):
    """Yield (start, stop) of each batch of n samples."""
    for start in range(0, n, batch_size):
        yield start, min(start + batch_size, n)


def padded(batch, batch_size):
    """Return a batch padded with zeros to shape (batch_size, ...)."""
    n_missing = batch_size - len(batch)
    return torch.cat([batch, batch.new_zeros((n_missing, *batch.shape[1:]))]) if n_missing else batch


def run_padded(forward, batch, batch_size):
    """Apply `forward` to a batch padded with zeros, so that its shape is always the same.

    Parameters
    ----------
    forward : callable
        Function from a tensor of shape (batch_size, ...) to a tensor of shape (batch_size, ...).
    batch : Tensor of shape (n, ...)
        Batch, with n <= `batch_size`.
    batch_size : int
        Number of samples after padding.

    Returns
    -------
    Tensor of shape (n, ...)
        Result, without the padding.
    """
    with torch.inference_mode():
        return forward(padded(batch, batch_size))[: len(batch)]


def row_by_row(x, weight, bias=None):
    """Return ``x @ weight.T + bias`` such that the bits of a row and of its gradient do not depend on its position.

    With an odd number of columns, float64 products treat rows differently depending on their alignment in memory; a
    column of zeros makes the number even. The gradient is such a product over the columns of the result.

    Parameters
    ----------
    x : Tensor of shape (n, d), float64
        Rows.
    weight : Tensor of shape (k, d), float64
        Weights.
    bias : Tensor of shape (k,), default=None
        Biases.

    Returns
    -------
    Tensor of shape (n, k)
        Product.
    """
    k, d = weight.shape
    if d % 2:
        x, weight = (functional.pad(part, (0, 1)) for part in (x, weight))
    if k % 2:
        weight, bias = functional.pad(weight, (0, 0, 0, 1)), None if bias is None else functional.pad(bias, (0, 1))
    return functional.linear(x, weight, bias)[:, :k]
