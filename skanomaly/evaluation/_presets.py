"""Detectors as they are in the papers, by name."""

from sklearn.base import clone

_PAPER_SIZE = {"image_size": 256, "crop": 224}
_PADIM = {"neighborhood": 1, **_PAPER_SIZE}
_PATCHCORE = {
    "combine": "concatenated",
    "projection": 128,
    "n_neighbors": 1,
    "image_score": "patch",
    "reweight": False,
    "sigma": 4.0,
}
_B4_LAYERS = ("bn1", *(f"blocks.{i}" for i in range(7)), "bn2")
_B5_LAYERS = ("blocks.1.3", "blocks.3.6", "blocks.4.5")
_VGG_LAYERS = ("features.21", "features.14", "features.7")


def preset(name):
    """Create a detector with the network and the settings of its paper.

    Parameters
    ----------
    name : {"patchcore-wrn50", "padim-resnet18", "padim-wrn50", "padim-efficientnet-b5", "spade-wrn50", \
            "mahalanobis-efficientnet-b4", "mlfsc-vgg16"}
        Name of the detector and its network.

    Returns
    -------
    detector
        Detector, unfitted. Its weights are downloaded when it is fitted, unless they are installed.

    Raises
    ------
    ValueError
        If the name is not known.

    See Also
    --------
    compare : Compare detectors on data sets.

    Examples
    --------
    >>> from skanomaly.evaluation import preset
    >>> preset("patchcore-wrn50").features.backbone
    'wide_resnet50_2'
    """
    presets = _presets()
    if name not in presets:
        raise ValueError(f"name={name!r} is not accepted; it must be one of {', '.join(presets)}.")
    return clone(presets[name])


def _presets():
    from ..detectors import MLFSC, SPADE, MahalanobisAD, PaDiM, PatchCore
    from ..features import PretrainedPatchFeatures  # torch is imported only when needed

    wide = "wide_resnet50_2"
    spade = PretrainedPatchFeatures(wide, layers=(1, 2, 3, 4), **_PADIM)
    b4 = PretrainedPatchFeatures("tf_efficientnet_b4", layers=_B4_LAYERS, neighborhood=1, image_size=380)
    return {
        "patchcore-wrn50": PatchCore(
            PretrainedPatchFeatures(wide, dim=1024, **_PAPER_SIZE), coreset_ratio=0.1, **_PATCHCORE
        ),
        "padim-resnet18": PaDiM(PretrainedPatchFeatures("resnet18", layers=(1, 2, 3), **_PADIM)),
        "padim-wrn50": PaDiM(PretrainedPatchFeatures(wide, layers=(1, 2, 3), **_PADIM), n_channels=550),
        "padim-efficientnet-b5": PaDiM(PretrainedPatchFeatures("tf_efficientnet_b5", layers=_B5_LAYERS, **_PADIM)),
        "spade-wrn50": SPADE(spade),
        "mahalanobis-efficientnet-b4": MahalanobisAD(b4),
        "mlfsc-vgg16": MLFSC(PretrainedPatchFeatures("vgg16", layers=_VGG_LAYERS, image_size=256)),
    }
