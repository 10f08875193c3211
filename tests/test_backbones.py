"""Networks other than the default: convolutional ones and transformers, all untrained."""

import pickle
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import timm
import torch
from sklearn.utils import check_random_state

import skanomaly
from skanomaly import PatchCore, PretrainedPatchFeatures
from skanomaly._networks import backbones


def untrained(backbone, layers, image_size, **options):
    options = {"neighborhood": 1, "batch_size": 1, "random_state": 0, **options}
    return PretrainedPatchFeatures(backbone, layers=layers, weights="random", image_size=image_size, **options)


def timm_module(backbone):
    """Return timm's own network at its own size, initialised as ``random_state=0`` initialises that of features."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(check_random_state(0).randint(2**31)))
        return timm.create_model(backbone).eval()


def normalized(module, images):
    mean, std = (np.float32(module.pretrained_cfg[key]) for key in ("mean", "std"))
    return torch.from_numpy((images - mean) / std).permute(0, 3, 1, 2)


@pytest.mark.parametrize(
    ("backbone", "layers", "image_size", "shapes"),
    [
        ("vit_small_patch14_dinov2", (2, "norm"), 224, [(16, 16, 384)] * 2),
        ("vit_small_patch14_dinov2", (2, "norm"), (98, 448), [(7, 32, 384)] * 2),
        ("vit_small_patch16_dinov3", (3, -1), (96, 160), [(6, 10, 384)] * 2),
        ("vit_xsmall_patch16_clip_224", (5, "norm"), (160, 96), [(10, 6, 256)] * 2),
        ("swin_tiny_patch4_window7_224", (1, 2), (96, 160), [(12, 20, 192), (6, 10, 384)]),
        ("convnext_tiny", ("/8", "stages.1.blocks.0.norm"), 96, [(12, 12, 192)] * 2),
        ("resnet18", (1, "layer2", 3), (96, 64), [(24, 16, 64), (12, 8, 128), (6, 4, 256)]),
        ("mobilenetv3_large_100", ("/8",), 96, [(12, 12, 40)]),
    ],
)
def test_shapes_places_and_reloading(backbone, layers, image_size, shapes, tmp_path):
    features = untrained(backbone, layers, image_size)
    images = np.full((3, *features.fit(np.zeros((1, 48, 64))).input_shape), 0.5)
    assert features.layer_shapes_ == shapes
    height, width = images.shape[1:]
    centers = np.array([(0.3 * height, 0.7 * width), (0.7 * height, 0.3 * width)])
    for image, (row, column) in zip(images[1:], centers.astype(int), strict=True):
        image[row - 7 : row + 7, column - 7 : column + 7] = 1
    grids = features.transform(images)
    maps = [features.map_to_image(np.linalg.norm(grid - grids[0], axis=-1), None, 0) for grid in grids[1:]]
    peaks = [np.unravel_index(score_map.argmax(), score_map.shape) for score_map in maps]
    cell = np.divide(images.shape[1:], features.grid_shape_)
    assert (np.abs(np.array(peaks) - centers) <= 1.5 * cell).all()
    skanomaly.save(features, tmp_path / "features.skops")
    for restored in (pickle.loads(pickle.dumps(features)), skanomaly.load(tmp_path / "features.skops")):
        np.testing.assert_array_equal(restored.transform(images[1:2]), grids[1:2])


@pytest.mark.parametrize(
    "backbone", ["vit_small_patch14_reg4_dinov2", "vit_small_patch16_dinov3", "vit_xsmall_patch16_clip_224"]
)
def test_tokens_are_those_of_timm_resized_once(backbone, rng):
    """Blocks, the last norm and L2 norms by hand, in timm's network whose positions were resized for good."""
    module = timm_module(backbone)
    side = module.patch_embed.patch_size[0]
    images = rng.random((2, 4 * side, 6 * side, 3)).astype(np.float32)
    module.set_input_size(images.shape[1:3])
    with torch.inference_mode():
        last = module.forward_features(normalized(module, images))[:, module.num_prefix_tokens :].numpy()
        (block,) = module.forward_intermediates(normalized(module, images), indices=[4], intermediates_only=True)
    last = last.reshape(2, 4, 6, -1)
    features = untrained(backbone, ("norm", 4), images.shape[1:3]).fit(images)
    expected = np.concatenate([last, block.permute(0, 2, 3, 1).numpy()], axis=-1)
    np.testing.assert_allclose(features.transform(images), expected, rtol=1e-3, atol=1e-4)
    features.set_params(normalize=True)
    whole = expected / np.linalg.norm(expected, axis=-1, keepdims=True)
    np.testing.assert_allclose(features.transform(images), whole, rtol=1e-3, atol=1e-5)
    parts = features.transform_layers(images).arrays
    np.testing.assert_allclose(parts[0], last / np.linalg.norm(last, axis=-1, keepdims=True), rtol=1e-3, atol=1e-5)
    features.set_params(normalize=False, combine="averaged")
    np.testing.assert_allclose(
        features.fit(images).transform(images), (last + expected[..., last.shape[-1] :]) / 2, rtol=1e-3, atol=1e-4
    )


def test_swin_equals_timm_at_its_own_size(rng):
    module = timm_module("swin_tiny_patch4_window7_224")
    images = rng.random((1, 224, 224, 3)).astype(np.float32)
    with torch.inference_mode():
        last = module.forward_features(normalized(module, images))
    features = untrained("swin_tiny_patch4_window7_224", ("norm",), 224).fit(images)
    np.testing.assert_allclose(features.transform(images), last.numpy(), rtol=1e-3, atol=1e-4)


def test_channels_last_modules_are_turned(rng):
    module, outputs = timm_module("convnext_tiny"), []
    module.stages[1].blocks[0].norm.register_forward_hook(lambda *call: outputs.append(call[2].numpy()))
    images = rng.random((1, 64, 96, 3)).astype(np.float32)
    with torch.inference_mode():
        module.forward_features(normalized(module, images))
    features = untrained("convnext_tiny", ("stages.1.blocks.0.norm",), (64, 96)).fit(images)
    np.testing.assert_allclose(features.transform(images), outputs[0], rtol=1e-3, atol=1e-4)


def test_weights_do_not_depend_on_the_size(tmp_path, rng):
    """A state dict with positions for the own size of a network serves all sizes, under one hash."""
    name, images = "vit_xsmall_patch16_clip_224", rng.random((1, 64, 96))
    torch.save(timm_module(name).state_dict(), tmp_path / "w.pth")
    seeded = untrained(name, ("norm",), (64, 96)).fit(images)
    for size in (224, (64, 96)):
        features = untrained(name, ("norm",), size).set_params(weights=str(tmp_path / "w.pth")).fit(images)
        assert features.weights_sha256_ == seeded.weights_sha256_
    np.testing.assert_array_equal(features.transform(images), seeded.transform(images))
    skanomaly.save(features, tmp_path / "features.skops", include_weights=True)
    restored = skanomaly.load(tmp_path / "features.skops")
    np.testing.assert_array_equal(restored.transform(images), seeded.transform(images))
    assert [m.shape for m in restored.network_.layer_maps(torch.zeros(1, 3, 32, 48))] == [(1, 256, 2, 3)]


def test_detectors_do_not_depend_on_the_batch(rng):
    images = rng.random((6, 64, 64))
    features = untrained("vit_xsmall_patch16_clip_224", (3,), 64, batch_size=4)
    detector = PatchCore(features, false_alarm_rate=None, random_state=0).fit(images[:4])
    scores = detector.score_samples(images)
    np.testing.assert_array_equal(scores, [detector.score_samples(image[None])[0] for image in images])


@pytest.mark.parametrize(
    ("backbone", "parameters", "message"),
    [
        (
            "vit_tiny_patch16_224",
            {"image_size": 100},
            r"image_size=\(100, 100\) is not divisible by the 16 x 16 patches of 'vit_tiny_patch16_224'; nearest "
            r"accepted: \(96, 96\) or \(112, 112\)\.",
        ),
        ("vit_tiny_patch16_224", {"image_size": (8, 64)}, r"nearest accepted: \(16, 64\)\."),
        ("vit_tiny_patch16_224", {"image_size": 64, "crop": 50}, r"crop=\(50, 50\) .* \(48, 48\) or \(64, 64\)"),
        ("vit_tiny_patch16_224", {"layers": ("/8",)}, r"'/8' is not a layer of .* it has 0 to 11 \(/16\), and"),
        ("vit_tiny_patch16_224", {"layers": (12,)}, r"12 is not a layer"),
        ("vit_tiny_patch16_224", {"layers": ("blocks.0.attn.q_norm",)}, r"of shape \(1, 3, 197, 64\), but a map"),
        ("mixer_s32_224", {"image_size": 96}, r"image_size=\(96, 96\) is not accepted by .* made for .* \(224, 224\)"),
        ("resnet18", {"combine": "averaged"}, r"same number of channels, but they have \[128, 256\]"),
    ],
)
def test_what_a_network_does_not_take_is_said(backbone, parameters, message):
    features = untrained(backbone, (2, 3), 224).set_params(**parameters)
    with pytest.raises(ValueError, match=message):
        features.fit(np.zeros((1, 64, 64)))


def test_other_sizes_are_refused_with_the_sizes_that_are_not(rng):
    network = untrained("vit_tiny_patch16_224", (2, 3), 32).fit(rng.random((1, 32, 32))).network_
    with pytest.raises(ValueError, match=r"size=\(40, 32\) is not divisible .* \(32, 32\) or \(48, 32\)"):
        network.layer_maps(torch.zeros(1, 3, 40, 32))


def test_normalized_zeros_stay_zeros(rng):
    """An image of the mean colour becomes zero in a network without biases."""
    images = rng.random((2, 32, 32, 3)).astype(np.float32)
    images[0] = timm.get_pretrained_cfg("resnet18").mean
    features = untrained("resnet18", (1, 2), 32, normalize=True).fit(images)
    grids, layers = features.transform(images), features.transform_layers(images).arrays
    for values in (grids, *layers):
        assert not values[0].any()
        np.testing.assert_allclose(np.linalg.norm(values[1], axis=-1), 1, rtol=1e-5)


def test_a_file_of_weights_that_has_changed_is_read_again(rng, tmp_path):
    X, module = rng.random((2, 32, 32, 3)), timm.create_model("test_efficientnet")

    def fitted():
        options = {"weights": str(tmp_path / "w.pth"), "image_size": 32, "layers": (2,)}
        return PretrainedPatchFeatures("test_efficientnet", **options).fit(X)

    torch.save(module.state_dict(), tmp_path / "w.pth")
    before = fitted()
    for parameter in module.parameters():
        parameter.data.mul_(1.05)
    torch.save(module.state_dict(), tmp_path / "w.pth")
    assert fitted().weights_sha256_ != before.weights_sha256_
    with pytest.raises(ValueError, match="are not the weights used in fit"):
        before.transform(X)


def test_seeds_do_not_multiply_pretrained_networks(rng, tmp_path):
    torch.save(timm.create_model("test_efficientnet").state_dict(), tmp_path / "w.pth")
    options = {"weights": str(tmp_path / "w.pth"), "image_size": 32, "layers": (2,)}
    networks = [
        PretrainedPatchFeatures("test_efficientnet", random_state=seed, **options).fit(rng.random((2, 32, 32, 3)))
        for seed in range(3)
    ]
    assert len({id(features.network_._loaded().module) for features in networks}) == 1


def test_threads_create_the_networks_of_their_seeds(rng):
    X = rng.random((1, 32, 32, 3))

    def fitted(seed):
        options = {"weights": "random", "image_size": 32, "layers": (2,), "random_state": seed}
        return PretrainedPatchFeatures("test_efficientnet", **options).fit(X).weights_sha256_

    expected, state = [fitted(seed) for seed in range(6)], torch.get_rng_state()
    backbones._shared_backbone.cache_clear()
    with ThreadPoolExecutor(4) as executor:
        assert list(executor.map(fitted, range(6))) == expected
    assert torch.equal(torch.get_rng_state(), state)


def test_states_are_copies(rng):
    options = {"weights": "random", "image_size": 32, "layers": (2,), "random_state": 0}
    features = PretrainedPatchFeatures("test_efficientnet", **options).fit(rng.random((1, 32, 32, 3)))
    for array in features.network_.state().values():
        array[...] = 0
    assert any(array.any() for array in features.network_.state().values())
