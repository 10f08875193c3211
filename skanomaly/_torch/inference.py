"""Inference whose result for one sample does not depend on its companions."""

import torch


def padded_batches(n, batch_size):
    """Yield (start, stop) of the batches of n samples."""
    for start in range(0, n, batch_size):
        yield start, min(start + batch_size, n)


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
    n = len(batch)
    if n < batch_size:
        batch = torch.cat([batch, batch.new_zeros((batch_size - n, *batch.shape[1:]))])
    with torch.inference_mode():
        return forward(batch)[:n]
