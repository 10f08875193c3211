"""Features from the L2-constrained softmax loss."""

from numbers import Real

import torch
from sklearn.utils._param_validation import Interval
from torch.nn import functional as F

from ._fine_tuned import FineTunedDetector


class MetricFeatures(FineTunedDetector):
    r"""MetricFeatures: features on a sphere that tell normal images from the classes of a reference.

    A pretrained network v is trained further to classify normal images and labelled reference images, by the
    L2-constrained softmax loss: the features of each image are scaled to the norm :math:`\alpha`, so that classes
    differ in their directions only.

    .. math::

        g(x) = \alpha \frac{v(x)}{\lVert v(x) \rVert_2}, \qquad
        L = \text{cross entropy of } W^T g(x) + b

    The score is the distance of g(x) to the nearest normal image. There are no anomaly maps.

    Parameters
    ----------
    features : PretrainedPatchFeatures or None, default=None
        Pretrained network, its layers, and the size of images; the averages of the layers over the image, concatenated,
        are the vector of an image. None is ``PretrainedPatchFeatures(layers=("bn2",), neighborhood=1, image_size=96,
        batch_size=32)``, whose averages are the 1280 features before the classifier. `neighborhood`, `dim` and
        `normalize` have no effect.
    reference : str, path-like, (images, labels), Reference or None, default=None
        Labelled images of at least two classes, which need not resemble the anomalies: the path of a folder with one
        subfolder of images per class, the path of an .npz file with the arrays X and y, a pair of images and labels, or
        a `Reference`, which is not copied by `clone`. It must not contain images like those in `fit`, on which the
        thresholds are calibrated. It is never pickled or saved. None is accepted only if ``max_epochs=0``.
    alpha : float, default=5.0
        Norm :math:`\alpha` of the vectors. A probability p among K classes can be reached only if :math:`\alpha \ge
        \log(p (K - 2) / (1 - p))`, which is 4.28 for p = 0.9 and K = 10.
    normals_as_class : bool, default=True
        If True, normal images are one more class; if False, only the reference is learnt from.
    scoring : {"nearest", "mean", "lof"}, default="nearest"
        Rule that scores vectors.

        - "nearest" is the Euclidean distance to the nearest vector of a normal image.
        - "mean" is the Euclidean distance to the mean C of these vectors.
        - "lof" is the local outlier factor, after the range of every feature among the normal images is scaled to
          [0, 1].
    n_neighbors : int, default=5
        Number of neighbours in "lof".
    max_epochs : int, default=3
        Number of passes over the images; 0 leaves the pretrained network as it is.
    frozen : sequence of str, default=()
        Names of modules of the backbone, such as "blocks.0", or patterns of names, such as "blocks.[0-2]", whose
        weights and statistics are not trained. On a CPU, the kernels of convolutions by channel (``"*.conv_dw"``)
        take about a third of the time of a step.
    batch_statistics : bool, default=False
        If True, batch normalisation uses the statistics of each batch in training, and their moving averages
        afterwards; if False, it keeps the statistics of the pretrained network.
    training : Training or None, default=None
        Training settings; None is ``Training(batch_size=64, lr=1e-4, validation_share=0.0, patience=None)``, a fixed
        number of epochs without validation. A positive `validation_share` holds out this share of the normal images and
        of the reference, and the epoch with the smallest loss on these is kept. Adam runs in its AMSGrad variant.
    false_alarm_rate : float or None, default=0.05
        Share of normal samples that may be flagged, in (0, 1); None sets no threshold.
    calibration : {"split", "cv"}, default="split"
        How thresholds are calibrated. "split" holds out a random 20 % of the training samples; "cv" uses 10-fold
        cross-validation and trains 11 networks. Only "split" carries the guarantee of split-conformal prediction.
    random_state : int, RandomState instance or None, default=None
        Seed of the last layer, the order of the images, the folds and the split.
    verbose : int, default=0
        If 1, progress bars are shown.

    Attributes
    ----------
    features_ : VectorFeatures
        Vectors of images. If the network was trained, they hold its weights.
    n_features_out_ : int
        Number of features d of a vector.
    training_ : Training
        Training settings.
    history_ : dict of str to ndarray of shape (n_epochs,)
        Losses of every epoch by name: "train_loss"; also "valid_loss" if `validation_share` is positive.
    gallery_ : ndarray of shape (n, d), float32
        Vectors of the normal images.
    center_ : ndarray of shape (d,), float64
        Mean C of these vectors.
    low_ : ndarray of shape (d,), float32
        Smallest value of each feature in `gallery_`. Defined only for "lof".
    range_ : ndarray of shape (d,), float32
        Range of each feature in `gallery_`. Defined only for "lof".
    radii_ : ndarray of shape (n,), float64
        Distance of each scaled vector to its neighbour number `n_neighbors`. Defined only for "lof".
    densities_ : ndarray of shape (n,), float64
        Local reachability density of each scaled vector. Defined only for "lof".
    offset_ : float
        Threshold on `score_samples`.
    calibration_scores_ : ndarray of shape (n,)
        Anomaly scores of the calibration samples, from which `offset_` is set.
    calibration_indices_ : ndarray of shape (n,)
        Positions of the calibration samples in the data of `fit` or `calibrate`.

    See Also
    --------
    DeepOneClass : Features that are compact for normal images and tell the classes of the reference apart.
    MahalanobisAD : Mahalanobis distance of the averages of pretrained layers, without training.
    Reference : Labelled images of other classes.

    Notes
    -----
    The detector is also a transformer, and it can be the parameter `features` of detectors that score vectors, such as
    `MahalanobisAD` or `Autoencoder`: the network is then trained on what that detector learns from, never on the
    samples that its thresholds are set from.

    Each row is divided by its own norm. In the author's code, the rows of a batch are divided by the norm of the whole
    batch, so that C and the loss depend on the size of the batch.

    For "nearest", distances are ordered as angles.

    Pickles hold the weights of the trained network, and neither the reference nor, for ``max_epochs=0``, any weights.

    References
    ----------
    Ranjan, Castillo and Chellappa, "L2-constrained Softmax Loss for Discriminative Face Verification", 2017,
    arXiv:1703.09507.

    Examples
    --------
    >>> import numpy as np
    >>> from skanomaly import PretrainedPatchFeatures
    >>> from skanomaly.detectors import MetricFeatures
    >>> rng = np.random.default_rng(0)
    >>> normal, others = (rng.integers(0, high, (12, 32, 32), np.uint8) for high in (100, 256))
    >>> features = PretrainedPatchFeatures(
    ...     "test_efficientnet", layers=("bn2",), weights="random", image_size=32
    ... )  # a quick control
    >>> detector = MetricFeatures(
    ...     features, reference=(others, np.arange(12) % 2), max_epochs=1, false_alarm_rate=0.4, random_state=0
    ... )
    >>> detector.fit(normal).predict(normal).shape
    (12,)
    >>> detector.transform(normal).shape
    (12, 256)
    """

    _parameter_constraints = {
        **FineTunedDetector._parameter_constraints,
        "alpha": [Interval(Real, 0, None, closed="neither")],
    }

    def __init__(
        self,
        features=None,
        *,
        reference=None,
        alpha=5.0,
        normals_as_class=True,
        scoring="nearest",
        n_neighbors=5,
        max_epochs=3,
        frozen=(),
        batch_statistics=False,
        training=None,
        false_alarm_rate=0.05,
        calibration="split",
        random_state=None,
        verbose=0,
    ):
        self.features = features
        self.reference = reference
        self.alpha = alpha
        self.normals_as_class = normals_as_class
        self.scoring = scoring
        self.n_neighbors = n_neighbors
        self.max_epochs = max_epochs
        self.frozen = frozen
        self.batch_statistics = batch_statistics
        self.training = training
        self.false_alarm_rate = false_alarm_rate
        self.calibration = calibration
        self.random_state = random_state
        self.verbose = verbose

    @property
    def _norm(self):
        return self.alpha

    def _batches_of(self, normals, reference, labels, normal_label, generator):
        return Mixture(normals, reference, labels, normal_label)

    def _losses(self, module, x, y):
        return {"loss": F.cross_entropy(module["head"](module["network"](x)), y)}


class Mixture:
    """Normal images, unless they are no class, and the images of the reference.

    Parameters
    ----------
    normals : Images
        Normal images.
    reference : Images
        Images of the reference.
    labels : Tensor of shape (m,), int64
        Class of each image of the reference.
    normal_label : int
        Class of normal images; -1 for none.
    """

    def __init__(self, normals, reference, labels, normal_label):
        self.normals, self.reference = normals, reference
        self.n_normals = len(normals) if normal_label >= 0 else 0
        self.labels = torch.cat([labels.new_full((self.n_normals,), normal_label), labels])

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, indices):
        """Return the images (n, 3, H, W) at a LongTensor (n,), normal ones first, and their classes."""
        indices = indices.sort().values
        parts = (self.normals, indices[indices < self.n_normals]), (self.reference, indices[indices >= self.n_normals])
        x = [
            images[found - offset]
            for (images, found), offset in zip(parts, (0, self.n_normals), strict=True)
            if len(found)
        ]
        return torch.cat(x), self.labels[indices]
