"""Weights summed over equal scores, in bounded memory: what curves need of an unbounded number of scores."""

import numpy as np

_PENDING = 2**18  # items that are kept before they are merged


class ScoreCounts:
    """Sums of the weights of equal scores, which are rounded as little as a largest number of distinct scores allows.

    Scores are taken as float32, whose bits, read as an integer, sort like the numbers. While there are too many
    distinct scores, the lowest bit of all of them is dropped; neighbouring scores then become ties. What is dropped
    depends only on the set of all scores, not on their order or batches.

    Parameters
    ----------
    max_distinct : int
        Largest number of distinct scores.

    Attributes
    ----------
    n_dropped_bits : int
        Number of dropped bits; scores are rounded by a share of at most 2 ** (n_dropped_bits - 23).
    """

    def __init__(self, max_distinct):
        self.max_distinct, self.n_dropped_bits = max_distinct, 0
        self._parts = []

    def add(self, scores, weights):
        """Add items.

        Parameters
        ----------
        scores : ndarray of shape (n,)
            Scores, none of them NaN.
        weights : ndarray of shape (w, n)
            Weights of each score.
        """
        self._parts.append(summed(ordered_codes(scores) >> np.uint32(self.n_dropped_bits), weights))
        if sum(len(codes) for codes, _ in self._parts[1:]) > max(len(self._parts[0][0]), _PENDING):
            self._merge()

    def _merge(self):
        codes, weights = zip(*self._parts, strict=True)
        codes, weights = summed(np.concatenate(codes), np.concatenate(weights, axis=1))
        while len(codes) > self.max_distinct:
            bits = _surplus_bits(len(codes), self.max_distinct)
            codes, weights = summed(codes >> bits, weights)
            self.n_dropped_bits += int(bits)
        self._parts = [(codes, weights)]

    def curves(self):
        """Return the sums of each of the weights (w, n_distinct + 1) at or above every distinct score."""
        self._merge()
        _, weights = self._parts[0]
        sums = np.cumsum(weights[:, ::-1], axis=1)
        return np.concatenate([np.zeros((len(weights), 1)), sums], axis=1)


class ScoreCountsByImage:
    """Sums of the weights of equal scores of each image; scores are rounded as by `ScoreCounts`, alike for all images.

    Parameters
    ----------
    max_distinct : int
        Largest number of distinct scores of all images.
    """

    def __init__(self, max_distinct):
        self.max_distinct, self.n_dropped_bits = max_distinct, 0
        self._images, self._distinct = [], np.zeros(0, np.uint32)

    def add(self, scores, weights):
        """Add the items of an image.

        Parameters
        ----------
        scores : ndarray of shape (n,)
            Scores, none of them NaN.
        weights : ndarray of shape (w, n)
            Weights of each score.
        """
        self._images.append(summed(ordered_codes(scores) >> np.uint32(self.n_dropped_bits), weights))
        self._distinct = np.union1d(self._distinct, self._images[-1][0])
        while len(self._distinct) > self.max_distinct:
            bits = _surplus_bits(len(self._distinct), self.max_distinct)
            self._distinct = np.unique(self._distinct >> bits)
            self._images = [summed(codes >> bits, weights) for codes, weights in self._images]
            self.n_dropped_bits += int(bits)

    def histograms(self):
        """Return the sums of each of the weights (w, n_images, n_distinct), from the highest score to the lowest."""
        n_weights = len(self._images[0][1])
        found = np.zeros((n_weights, len(self._images), len(self._distinct)))
        for i, (codes, weights) in enumerate(self._images):
            found[:, i, np.searchsorted(self._distinct, codes)] = weights
        return found[..., ::-1]


def _surplus_bits(n, most):
    """Return a number of bits to drop from n distinct codes that leaves no fewer of them than necessary."""
    return np.uint32(max(1, int(np.log2(n / most))))  # a bit at most halves the number


def ordered_codes(scores):
    """Return integers that sort like the scores as float32 numbers.

    >>> ordered_codes(np.array([-1.0, -0.0, 0.0, 1e-30, 2.0])).argsort(kind="stable").tolist()
    [0, 1, 2, 3, 4]
    """
    bits = (np.asarray(scores, np.float32) + np.float32(0)).view(np.uint32)  # -0 becomes 0
    return np.where(bits >> np.uint32(31), ~bits, bits | np.uint32(2**31))


def summed(codes, weights):
    """Return the distinct codes in ascending order, and the sums of each of the weights (w, n_distinct).

    >>> summed(np.array([3, 1, 3]), np.array([[1.0, 2.0, 4.0]]))
    (array([1, 3]), array([[2., 5.]]))
    """
    distinct, place = np.unique(codes, return_inverse=True)
    return distinct, np.array([np.bincount(place, weight, minlength=len(distinct)) for weight in weights])
