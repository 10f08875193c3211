"""Greedy k-centre selection on a GPU, by the plain loop."""

import torch

_RUN = 256  # centres per step of the progress bar
_PART_BYTES = 2**30  # largest size of the differences between points and a centre


def greedy_k_center(X, n_centers, start, device, progress=iter):
    """Select centres such that each new centre is the point farthest from the previous ones.

    All distances to every new centre are computed, from the differences themselves. The host waits for the device only
    at the end.

    Parameters
    ----------
    X : ndarray of shape (n_points, n_features), float32 or float64
        Points.
    n_centers : int
        Number of centres, in [1, n_points].
    start : int
        Index of the first centre.
    device : torch.device
        Device of the computation.
    progress : callable
        Wrapper of the iterable of runs of centres, such as a progress bar.

    Returns
    -------
    centers : ndarray of shape (n_centers,), int64
        Distinct indices of the centres, in order of selection; ties go to the lowest index.
    labels : ndarray of shape (n_points,), int32
        Position in `centers` of the centre nearest to each point.
    radius : float
        Largest distance of any point to its nearest centre; 0 if every point was selected.
    """
    rows = torch.tensor(X, device=device)
    parts = rows.split(max(1, _PART_BYTES // rows[0].nbytes))
    nearest = torch.full((len(X),), torch.inf, dtype=rows.dtype, device=device)
    labels = torch.zeros(len(X), dtype=torch.int32, device=device)
    centers = torch.empty(n_centers, dtype=torch.int64, device=device)
    new = torch.full((1,), start, dtype=torch.int64, device=device)
    for begin in progress(range(0, n_centers, _RUN)):
        for i in range(begin, min(begin + _RUN, n_centers)):
            centers[i : i + 1] = new
            center = rows.index_select(0, new)
            distances = torch.cat([torch.linalg.vector_norm(part - center, dim=1) for part in parts])
            labels.masked_fill_(distances < nearest, i).index_fill_(0, new, i)
            nearest = torch.minimum(nearest, distances).index_fill_(0, new, -1)  # never selected again
            new = nearest.argmax().reshape(1)
    return centers.cpu().numpy(), labels.cpu().numpy(), max(float(nearest.max()), 0.0)
