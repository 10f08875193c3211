"""How thresholds are calibrated: which samples a detector is fitted on, and which it is then judged by."""

import copy
import warnings

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from sklearn.model_selection import KFold
from sklearn.utils import check_random_state

from ._inputs.samples import copies
from ._kernels.regions import largest_level
from .exceptions import CalibrationWarning
from .thresholds import Calibration

_N_FOLDS = 10
_HELD_OUT_SHARE = 0.2


def check_groups(groups, n):
    """Return groups as integers that start at 0, or None."""
    if groups is None:
        return None
    groups = np.asarray(groups)
    if groups.shape != (n,):
        raise ValueError(f"groups has shape {groups.shape}; it must hold one value for each of the {n} samples.")
    return np.unique(groups, return_inverse=True)[1]


def grouped(samples, groups, *, warn=True):
    """Return the group of each sample, an integer that starts at 0; groups that share equal images are joined."""
    n, same = len(samples), copies(samples)
    groups = np.arange(n) if groups is None else groups
    if same is None or same.max(initial=0) + 1 == n:
        return groups
    size = groups.max() + same.max() + 2
    links = coo_array((np.ones(n, bool), (groups, groups.max() + 1 + same)), shape=(size, size))
    joined = np.unique(connected_components(links, directed=False)[1][groups], return_inverse=True)[1]
    if warn and joined.max() < groups.max():
        warnings.warn(
            f"Copies among the {n} images: {n - same.max() - 1}. Equal images count as a single sample "
            "and are never split between training and calibration; pass `groups` to keep near copies together as well.",
            CalibrationWarning,
            stacklevel=2,
        )
    return joined


def _members(groups, chosen):
    """Return the indices, ascending, of the samples whose group is among those chosen."""
    return np.flatnonzero(np.isin(groups, chosen))


def concatenated(batches):
    """Concatenate the statistics of several batches."""
    return tuple(np.concatenate(values) for values in zip(*batches, strict=True))


def statistics(detector, scores, grids, samples):
    """Return what the thresholds are computed from: the scores and, if there are maps, the highest level of each."""
    if grids is None:
        return (scores,)
    area = detector.min_defect_area_
    return scores, np.array([largest_level(detector._render(g, samples[i]), area) for i, g in enumerate(grids)])


def training_views(features, samples, groups):
    """Return what a detector learns from: all views of the samples, with their groups, and the number of views of each.

    The first view of each sample is the sample as it is.
    """
    make = getattr(features, "training_views", None)
    if make is None:
        return samples, groups, 1
    views = make(samples)
    n_views = len(views) // len(samples)
    return views, np.repeat(np.arange(len(samples)) if groups is None else groups, n_views), n_views


def _embed_once(detector, samples):
    """Embed all samples; None if the features learn, so that parts of the samples cannot share an embedding."""
    if detector.features_.learns:
        return None
    detector.features_.fit_samples(samples)
    detector._prepare()
    return detector._embed(samples)


def _embed_views(detector, samples, groups):
    """Return all views of the samples, the number of views of each, their embedding, and the groups of the samples."""
    views, _, n_views = training_views(detector.features_, samples, groups)
    Z = _embed_once(detector, views)
    return views, n_views, Z, grouped(samples, groups)


def _first_of(Z, n_views):
    """Return the embedding of the samples as they are, given that of all views."""
    return Z if Z is None or n_views == 1 else Z[::n_views]


def _score_unseen(detector, samples, Z, held_out):
    """Return the statistics of samples that the detector has not learnt from."""
    step = detector.features_.batch_len or len(held_out)
    runs = [held_out[start : start + step] for start in range(0, len(held_out), step)]
    found = []
    for run in runs:
        scores, grids = detector._score(
            detector._embed(samples[run]) if Z is None else Z[run], detector._calibrates_maps
        )
        found.append(statistics(detector, scores, grids, samples[run]))
    return concatenated(found)


def _leave_one_out(detector, samples, groups):
    """Fit on all samples; score each without its own group."""
    if detector.features_.learns:
        raise ValueError(
            f"calibration='loo' does not suit {type(detector.features_).__name__}, because these features learn from "
            "all samples; it must be 'split' or 'cv'."
        )
    views, n_views, Z, groups = _embed_views(detector, samples, groups)
    of_views = np.repeat(groups, n_views)
    detector._learn(views, Z, of_views)
    if groups.max() == 0:
        raise ValueError(
            f"calibration='loo' needs at least 2 samples from different groups, got {len(samples)} from one; set "
            "false_alarm_rate=None to fit without a threshold."
        )
    scores, grids = detector._leave_one_out(Z, of_views)
    as_they_are = scores[::n_views], None if grids is None else grids[::n_views]
    return Calibration(*statistics(detector, *as_they_are, samples), groups=groups)


def _cross_validate(detector, samples, groups):
    """Score each sample by a copy of the detector fitted without its fold."""
    views, n_views, Z, groups = _embed_views(detector, samples, groups)
    n_groups, of_views = groups.max() + 1, np.repeat(groups, n_views)
    folds = min(_N_FOLDS, n_groups)
    if folds < 2:
        raise ValueError(
            "calibration='cv' needs at least 2 samples, got n_samples = 1; set false_alarm_rate=None to fit "
            "without a threshold."
        )
    seed = check_random_state(detector.random_state).randint(2**31)
    found, order = [], []
    for train, held_out in KFold(folds, shuffle=True, random_state=seed).split(np.arange(n_groups)):
        twin, held_out = copy.copy(detector), _members(groups, held_out)
        _learn_part(twin, views, Z, of_views, _members(of_views, train))
        found.append(_score_unseen(twin, samples, _first_of(Z, n_views), held_out))
        order.append(held_out)
    detector._learn(views, Z, of_views)
    back = np.argsort(np.concatenate(order))
    return Calibration(*(values[back] for values in concatenated(found)), groups=groups)


def _hold_out(detector, samples, groups):
    """Fit on a part of the samples; score the rest."""
    views, n_views, Z, groups = _embed_views(detector, samples, groups)
    n_groups, of_views = groups.max() + 1, np.repeat(groups, n_views)
    n_held_out = max(1, round(_HELD_OUT_SHARE * n_groups))
    if n_held_out >= n_groups:
        raise ValueError(
            f"calibration='split' needs at least 2 samples, got n_samples = {n_groups}; set false_alarm_rate=None to "
            "fit without a threshold."
        )
    order = check_random_state(detector.random_state).permutation(n_groups)
    held_out = _members(groups, order[:n_held_out])
    _learn_part(detector, views, Z, of_views, _members(of_views, order[n_held_out:]))
    unseen = _score_unseen(detector, samples, _first_of(Z, n_views), held_out)
    return Calibration(*unseen, groups=groups[held_out], indices=held_out)


def _learn_part(detector, samples, Z, groups, part):
    detector._learn(samples[part], None if Z is None else Z[part], groups[part])


CALIBRATIONS = {"loo": _leave_one_out, "cv": _cross_validate, "split": _hold_out}
