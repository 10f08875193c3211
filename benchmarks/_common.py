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


class RecalledFeatures(PretrainedPatchFeatures):
    """Pretrained features that are computed once per path and kept in memory."""

    _store = {}

    def transform(self, X):
        source = self.check_samples(X)
        setting = str(self.get_params())
        new = [i for i, path in enumerate(source.items) if (setting, path) not in self._store]
        if new:
            grids = super().transform(source[new])
            self._store.update({(setting, source.items[i]): grid for i, grid in zip(new, grids, strict=True)})
        return np.stack([self._store[setting, path] for path in source.items])
