"""Helpers of the benchmarks: command-line options, a description of the machine, and features computed only once."""

import argparse
import os
import platform
from pathlib import Path

import numpy as np
import scipy
import sklearn
import torch

from skanomaly import PretrainedPatchFeatures
from skanomaly.features._base import Layers


def parser(description):
    """Return an argument parser with an option for the data folder."""
    options = argparse.ArgumentParser(description=description)
    options.add_argument("--data", type=Path, default=Path("../shared/data"), help="folder of the data sets")
    return options


def print_machine():
    """Print the machine and the versions that the figures printed afterwards belong to."""
    versions = ", ".join(f"{m.__name__} {m.__version__}" for m in (np, scipy, sklearn, torch))
    machine = platform.processor() or platform.machine()
    print(f"{machine}, {os.cpu_count()} cores, Python {platform.python_version()}, {versions}")


PAPER = {"combine": "concatenated", "coreset_ratio": 0.1, "n_neighbors": 1, "image_score": "patch", "sigma": 4.0}


class RecalledFeatures(PretrainedPatchFeatures):
    """Pretrained features that are computed once per image or view and kept in memory."""

    _store = {}

    def transform(self, X):
        """Return the patch grids of images."""
        return np.stack(self._recall(self.check_samples(X), super().transform))

    def transform_layers(self, X):
        """Return the features of each layer."""
        images = self._recall(self.check_samples(X), lambda part: list(zip(*super_layers(self, part), strict=True)))
        return Layers([np.stack(layer) for layer in zip(*images, strict=True)])

    def _recall(self, source, compute):
        keys = [(str(self.get_params()), compute.__name__, *self._name(source, i)) for i in range(len(source))]
        new = [i for i, key in enumerate(keys) if key not in self._store]
        if new:
            self._store.update({keys[i]: value for i, value in zip(new, compute(source[new]), strict=True)})
        return [self._store[key] for key in keys]

    def _name(self, source, i):
        item = source.items[i]
        return source.name_of_view(i), item.tobytes() if isinstance(item, np.ndarray) else item


def super_layers(features, part):
    """Return the layers of images as the class of pretrained features computes them."""
    return PretrainedPatchFeatures.transform_layers(features, part).arrays
