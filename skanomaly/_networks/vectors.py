"""Networks from images to single vectors."""

import difflib
import fnmatch

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm as BatchNorm  # the base class of all of them


class VectorNetwork(nn.Module):
    """Averages of the layers of a backbone over the image, concatenated.

    Parameters
    ----------
    backbone : Backbone
        Backbone, which this module shares and may change.
    norm : float or None, default=None
        Euclidean norm to which every vector is scaled; None does not scale.
    """

    def __init__(self, backbone, norm=None):
        super().__init__()
        self.body, self.norm = backbone.module, norm
        self._maps_of, self._kept = backbone.maps_of, ()

    def forward(self, x):
        """Return the vectors (n, d) of images (n, 3, H, W) in [0, 1]."""
        alone = self.training and len(x) == 1  # which has no statistics
        if alone:
            self.eval()
        maps = self._maps_of(x)
        if alone:
            self.train()
        pooled = torch.cat([m.mean(dim=(2, 3)) for m in maps], dim=1)
        return pooled if self.norm is None else self.norm * unit_rows(pooled)

    def train(self, mode=True):
        """Put the network into training or evaluation mode; frozen modules stay in evaluation mode."""
        super().train(mode)
        for module in self._kept:
            module.eval()
        return self

    def learn_all_but(self, frozen, batch_statistics=True):
        """Let all parameters learn except those of the modules named, and keep their statistics.

        Parameters
        ----------
        frozen : sequence of str
            Names of modules of the backbone, or patterns of names with "*", "?" and "[...]".
        batch_statistics : bool, default=True
            If True, batch normalisation in training uses the statistics of the batch; if False, it keeps its own.

        Raises
        ------
        ValueError
            If a pattern matches no module; the message lists similar names.
        """
        modules = {name: module for name, module in self.body.named_modules() if name}
        self.body.requires_grad_(True)
        self._kept = []
        for pattern in frozen:
            chosen = fnmatch.filter(modules, pattern)
            if not chosen:
                near = difflib.get_close_matches(pattern, modules, n=5, cutoff=0.3)
                raise ValueError(
                    f"frozen: {pattern!r} matches no module of the backbone; nearest names: {', '.join(near)}."
                )
            self._kept += [modules[name].requires_grad_(False) for name in chosen]
        if not batch_statistics:
            self._kept += [module for module in modules.values() if isinstance(module, BatchNorm)]


def unit_rows(x):
    """Return rows (n, d) divided by their Euclidean norms; rows of zeros stay, with a finite gradient.

    Each row is divided by its own norm, so that it does not depend on the other rows.
    """
    norms = torch.linalg.vector_norm(x, dim=1, keepdim=True)
    return x / torch.where(norms > 0, norms, 1.0)
