"""Inference whose result for one sample does not depend on its companions."""

import torch
from torch.nn import functional


def padded_batches(n, batch_size):
    """Yield (start, stop) of the batches of n samples."""
    for start in range(0, n, batch_size):
        yield start, min(start + batch_size, n)


def padded(batch, batch_size):
    """Return a tensor of shape (batch_size, ...): a batch filled up with zeros."""
    n_missing = batch_size - len(batch)
    return torch.cat([batch, batch.new_zeros((n_missing, *batch.shape[1:]))]) if n_missing else batch


def run_padded(forward, batch, batch_size):
    """Apply `forward` to a batch filled up with zeros to `batch_size`, so that its shape is always the same.

    Parameters
    ----------
    forward : callable
        Tensor of shape (batch_size, ...) to tensor of shape (batch_size, ...).
    batch : Tensor of shape (n, ...), n <= batch_size

    Returns
    -------
    Tensor of shape (n, ...)
    """
    with torch.inference_mode():
        return forward(padded(batch, batch_size))[: len(batch)]


def row_by_row(x, weight, bias=None):
    """Return ``x @ weight.T + bias`` so that the bits of a row, and of its gradient, do not depend on its place in x.

    With an odd number of columns, products in float64 treat rows differently, by where they lie in memory; a column of
    zeros more makes it even. The gradient is such a product over the columns of the result.

    Parameters
    ----------
    x : Tensor of shape (n, d), float64
    weight : Tensor of shape (k, d), float64
    bias : Tensor of shape (k,), optional

    Returns
    -------
    Tensor of shape (n, k)
    """
    k, d = weight.shape
    if d % 2:
        x, weight = (functional.pad(part, (0, 1)) for part in (x, weight))
    if k % 2:
        weight, bias = functional.pad(weight, (0, 0, 0, 1)), None if bias is None else functional.pad(bias, (0, 1))
    return functional.linear(x, weight, bias)[:, :k]
