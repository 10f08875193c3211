"""Backbones with random weights: layers, time, whether maps lie where images change, and whether they reload alike."""

import argparse
import pickle
import tempfile
import time
from pathlib import Path

import numpy as np
from _common import print_machine

import skanomaly
from skanomaly import PretrainedPatchFeatures

BACKBONES = (  # name, layers, image_size
    ("tf_efficientnet_lite0", (2, 3), 224),
    ("resnet18", (1, 2, 3), 224),
    ("wide_resnet50_2", (2, 3), 224),
    ("vgg16", ("features.21", "features.14", "features.7"), 224),
    ("mobilenetv3_large_100", (2, 3), 224),
    ("efficientnet_b0", (2, 3), 224),
    ("convnext_tiny", (1, 2), 224),
    ("swin_tiny_patch4_window7_224", (1, 2), 224),
    ("swin_tiny_patch4_window7_224", (1, 2), (256, 384)),
    ("vit_base_patch32_clip_224", (5, "norm"), 224),
    ("vit_base_patch32_clip_224", (5, "norm"), (256, 448)),
    ("vit_small_patch16_dinov3", (3, 6, 9, 11), 224),
    ("vit_small_patch16_dinov3", (3, 6, 9, 11), 448),
    ("vit_small_patch14_dinov2", ("norm",), 224),
    ("vit_small_patch14_dinov2", ("norm",), 448),
    ("vit_small_patch14_dinov2", ("norm",), (448, 616)),
    ("vit_small_patch14_reg4_dinov2", (6, 7), 448),
)


def squares(size):
    """Return a grey image (H, W) and copies with a bright square, and the centres of the squares."""
    centers = [(int(a * size[0]), int(b * size[1])) for a, b in ((0.3, 0.7), (0.7, 0.3), (0.5, 0.5))]
    images = np.full((1 + len(centers), *size), 128, np.uint8)
    for image, (row, column) in zip(images[1:], centers, strict=True):
        image[row - 8 : row + 8, column - 8 : column + 8] = 255
    return images, centers


def lie_where_images_change(features, images, grids, centers):
    """Return whether what changes most lies at most a cell of the coarsest layer from each square."""
    cell = np.divide(images.shape[1:], min(shape[:2] for shape in features.layer_shapes_))
    changes = np.linalg.norm(grids[1:] - grids[0], axis=-1)
    maps = [features.map_to_image(change, None, 0) for change in changes]
    peaks = [np.unravel_index(score_map.argmax(), score_map.shape) for score_map in maps]
    return bool((np.abs(np.subtract(peaks, centers)) <= 8 + cell).all())


def reload_alike(features, images, grids):
    """Return whether features from a pickle and from a model file return the same bits."""
    with tempfile.TemporaryDirectory() as folder:
        skanomaly.save(features, Path(folder) / "features.skops")
        restored = pickle.loads(pickle.dumps(features)), skanomaly.load(Path(folder) / "features.skops")
    return all(np.array_equal(other.transform(images[:2]), grids[:2]) for other in restored)


def main():
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--names", nargs="+", help="backbones whose names contain one of these; default all")
    options = options.parse_args()
    print_machine()
    for name, layers, size in BACKBONES:
        if options.names and not any(part in name for part in options.names):
            continue
        features = PretrainedPatchFeatures(
            name, layers=layers, weights="random", image_size=size, neighborhood=1, batch_size=1, random_state=0
        )
        features.fit(np.zeros((1, 8, 8)))
        images, centers = squares(features.input_shape)
        features.transform(images[:1])
        start = time.perf_counter()
        grids = features.transform(images)
        milliseconds = 1e3 * (time.perf_counter() - start) / len(images)
        in_place, alike = (
            lie_where_images_change(features, images, grids, centers),
            reload_alike(features, images, grids),
        )
        print(
            f"{name:<30} {size!s:<11} {milliseconds:6.0f} ms, maps {'in place' if in_place else 'ELSEWHERE'}, reloaded "
            f"{'alike' if alike else 'DIFFERENT'}, {', '.join('x'.join(map(str, s)) for s in features.layer_shapes_)}",
            flush=True,
        )


if __name__ == "__main__":
    main()
