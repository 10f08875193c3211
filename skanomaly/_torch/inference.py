"""Inference whose result for one sample does not depend on its companions."""

import torch


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
