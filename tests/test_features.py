import copy
import pickle
import threading

import numpy as np
import pytest
import timm
import torch
from sklearn.base import clone
from sklearn.utils import check_random_state
from torch.nn import functional as F

from skanomaly import PretrainedPatchFeatures
from skanomaly.exceptions import MissingWeightsError


def timm_maps(x, layers, backbone="tf_efficientnet_lite0", seed=0):
    """Return the maps of timm's own network, initialised as ``weights="random"`` with this random_state is."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(check_random_state(seed).randint(2**31)))
        module = timm.create_model(backbone).eval()
    return module.forward_intermediates(x, indices=list(layers), intermediates_only=True)


@pytest.mark.weights
def test_packaged_weights_know_a_daisy(flower):
    """ImageNet class 985 on sklearn's flower: the weights are real, in order, and normalised as they should be."""
    from skanomaly._networks.backbones import load_backbone

    backbone = load_backbone("tf_efficientnet_lite0", None, (2, 3), torch.device("cpu"), 0)
    features = PretrainedPatchFeatures().fit([flower])
    pixels = features.read_batch(features.check_samples([flower]))
    mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in (backbone.mean, backbone.std))
    with torch.inference_mode():
        assert backbone.module((pixels - mean) / std).argmax().item() == 985
    assert features.transform([flower]).shape == (1, 28, 28, 40 + 112)


def test_equals_the_plain_computation(small_features, rng):
    images = rng.random((2, 64, 64, 3)).astype(np.float32)
    grids = small_features.fit_transform(images)
    pixels = torch.from_numpy(images).permute(0, 3, 1, 2)
    with torch.inference_mode():
        fine, coarse = (F.avg_pool2d(m, 3, 1, 1) for m in timm_maps((pixels - 0.5) / 0.5, (2, 3)))
        expected = torch.cat([fine, F.interpolate(coarse, fine.shape[2:], mode="bilinear")], dim=1)
    np.testing.assert_allclose(grids, expected.permute(0, 2, 3, 1).numpy(), rtol=1e-4, atol=1e-5)


def test_official_pooling_equals_the_plain_computation(small_features, rng):
    """`dim`: neighbourhoods flattened channel by channel, pooled per layer, stacked, pooled again."""
    images = rng.random((1, 64, 64, 3)).astype(np.float32)
    features = clone(small_features).set_params(dim=20, layers=(2,))
    grids = features.fit_transform(images)
    with torch.inference_mode():
        (maps,) = timm_maps((torch.from_numpy(images).permute(0, 3, 1, 2) - 0.5) / 0.5, (2,))
    padded = np.pad(maps[0].numpy(), ((0, 0), (1, 1), (1, 1)))
    flat = padded[:, 3:6, 5:8].ravel()  # the neighbourhood of cell (3, 5)
    n = len(flat)
    pooled = [flat[(i * n) // 20 : -(-(i + 1) * n // 20)].mean() for i in range(20)]
    np.testing.assert_allclose(grids[0, 3, 5], pooled, rtol=1e-4, atol=1e-6)


def test_same_bits_in_every_batch(small_features, rng):
    images = rng.random((7, 40, 50))
    features = clone(small_features).fit(images)
    together = features.transform(images)
    np.testing.assert_array_equal(together[3:4], features.transform(images[3:4]))
    np.testing.assert_array_equal(together[::-1], features.transform(images[::-1]))


def test_forms_of_one_image_agree(small_features, tmp_path, rng):
    from PIL import Image

    gray = rng.integers(0, 256, (48, 40), np.uint8)
    Image.fromarray(gray).save(tmp_path / "gray.png")
    rgba = np.dstack([gray, gray, gray, np.full_like(gray, 255)])
    Image.fromarray(rgba).save(tmp_path / "rgba.png")
    expected = small_features.fit_transform(gray[None])
    for form in (
        (gray / 255)[None],
        (gray.astype(np.uint16) * 257)[None],
        np.repeat(gray[None, ..., None], 3, axis=-1),
        rgba[None],
        [gray],
        [tmp_path / "gray.png"],
        [str(tmp_path / "rgba.png")],
        str(tmp_path / "gr*.png"),
    ):
        np.testing.assert_array_equal(small_features.transform(form), expected)


def test_channel_order_matters(small_features, flower):
    a, b = (small_features.fit_transform(image[None]) for image in (flower, flower[..., ::-1]))
    assert np.abs(a - b).max() > 1e-3 * np.abs(a).max()


def test_data_range_scales_integers(small_features, rng):
    twelve_bit = rng.integers(0, 4096, (1, 64, 64)).astype(np.uint16)
    features = clone(small_features).set_params(data_range=4095).fit(twelve_bit)
    np.testing.assert_allclose(
        features.transform(twelve_bit), small_features.fit_transform(twelve_bit / 4095), rtol=1e-4, atol=1e-5
    )
    with pytest.raises(ValueError, match="outside data_range=4095"):
        features.transform(np.full((1, 64, 64), 5000, np.uint16))


def test_crop_keeps_the_centre(small_features, rng):
    images = rng.random((1, 64, 64))
    cropped = clone(small_features).set_params(crop=32)
    direct = clone(small_features).set_params(image_size=32)
    np.testing.assert_array_equal(
        cropped.fit_transform(images), direct.fit_transform(np.ascontiguousarray(images[:, 16:48, 16:48]))
    )
    (sample,) = cropped.check_samples(images)
    score_map = cropped.map_to_image(np.ones((4, 4)), sample)
    assert np.isnan(score_map[:16]).all()
    np.testing.assert_allclose(score_map[16:48, 16:48], 1, rtol=1e-6)


def test_layers_by_reduction(small_features, rng):
    images = rng.random((1, 64, 64))
    by_name = clone(small_features).set_params(layers=("/8", "/16"))
    np.testing.assert_array_equal(by_name.fit_transform(images), small_features.fit_transform(images))


def test_random_weights_follow_random_state_and_leave_torch_alone(rng):
    images = rng.random((1, 64, 64))
    torch.manual_seed(5)
    before = torch.get_rng_state()
    a, b, c = (
        PretrainedPatchFeatures(weights="random", image_size=64, random_state=seed).fit_transform(images)
        for seed in (1, 1, 2)
    )
    assert torch.equal(before, torch.get_rng_state())
    np.testing.assert_array_equal(a, b)
    assert not np.allclose(a, c)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"backbone": "tf_eficientnet_lite0"}, "nearest names: .*tf_efficientnet_lite0"),
        ({"backbone": "vgg 16"}, "'vgg 16' is not a timm model; nearest names: .*vgg16"),
        ({"layers": (2, 9)}, "9 is not a layer .* it has 0 .*/2"),
        ({"layers": ("/3",)}, "'/3' is not a layer"),
        ({"layers": ("block.3",)}, "'block.3' is not a layer .* modules by name, such as .*'blocks.3'"),
        ({"layers": ("classifier",)}, "module 'classifier' takes no part in the features"),
        ({"image_size": (64,)}, "image_size=.64,. must be one side or .height, width."),
        ({"layers": ()}, "layers is empty"),
        ({"crop": 65}, "crop=65 is larger than image_size=64"),
        ({"neighborhood": 2}, "neighborhood=2 must be odd"),
        ({"device": "tpu"}, "'device' parameter"),
        ({"batch_size": 0}, "'batch_size' parameter"),
    ],
)
def test_bad_parameters_are_named(small_features, parameters, message):
    with pytest.raises(ValueError, match=message):
        clone(small_features).set_params(**parameters).fit(np.zeros((1, 64, 64)))


def test_missing_weights_say_how_to_get_them(monkeypatch):
    def no_network(*args, **options):
        raise ConnectionError("no network")

    monkeypatch.setattr("skanomaly._networks.backbones._packaged_file", lambda name: None)
    monkeypatch.setattr("skanomaly._networks.backbones._create", no_network)
    images = np.zeros((1, 64, 64))
    with pytest.raises(MissingWeightsError, match=r"pip install 'skanomaly\[offline\]'"):
        PretrainedPatchFeatures("tf_efficientnet_lite1").fit(images)
    with pytest.raises(MissingWeightsError, match="wide_resnet50_2.*ConnectionError"):
        PretrainedPatchFeatures("wide_resnet50_2").fit(images)
    with pytest.raises(MissingWeightsError, match="nowhere.pth"):
        PretrainedPatchFeatures(weights="nowhere.pth").fit(images)


def test_weights_from_files(small_features, tmp_path, rng):
    from safetensors.torch import save_file

    images = rng.random((1, 64, 64))
    state = {name: torch.from_numpy(a) for name, a in small_features.fit(images).network_state().items()}
    torch.save(state, tmp_path / "w.pth")
    save_file({k: v.contiguous() for k, v in state.items()}, tmp_path / "w.safetensors")
    for name in ("w.pth", "w.safetensors"):
        features = PretrainedPatchFeatures(weights=str(tmp_path / name), image_size=64).fit(images)
        np.testing.assert_array_equal(features.transform(images), small_features.transform(images))
    (tmp_path / "bad.pth").write_bytes(b"not a state dict")
    with pytest.raises(ValueError, match=r"bad\.pth"):
        PretrainedPatchFeatures(weights=str(tmp_path / "bad.pth")).fit(images)


def test_changed_weights_are_refused(small_features, rng):
    features = clone(small_features).fit(rng.random((1, 64, 64)))
    features.network_.sha256 = "0" * 64
    with pytest.raises(ValueError, match="not the weights used in fit"):
        features.transform(rng.random((1, 64, 64)))


# Layers by name


def vgg_convolutions(x, places):
    """Return the outputs of convolutions of VGG16 (n, c, h, w), with nothing done in place."""
    torch.manual_seed(int(check_random_state(0).randint(2**31)))
    maps = []
    for i, layer in enumerate(timm.create_model("vgg16").eval().features):
        x = x.clamp(min=0) if isinstance(layer, torch.nn.ReLU) else layer(x)
        if i in places:
            maps.append(x)
    return maps


def test_named_layers_are_taken_before_what_works_in_place(rng):
    images = rng.random((1, 32, 32, 3)).astype(np.float32)
    features = PretrainedPatchFeatures("vgg16", layers=("features.14", "features.7"), weights="random", image_size=32)
    layers = features.set_params(neighborhood=1, random_state=0).fit(images).transform_layers(images).arrays
    config = timm.get_pretrained_cfg("vgg16")
    x = torch.from_numpy((images - np.float32(config.mean)) / np.float32(config.std)).permute(0, 3, 1, 2)
    with torch.random.fork_rng(devices=[]), torch.inference_mode():
        expected = vgg_convolutions(x, (7, 14))[::-1]
    for layer, maps in zip(layers, expected, strict=True):
        np.testing.assert_allclose(layer, maps.permute(0, 2, 3, 1).numpy(), rtol=1e-4, atol=1e-4)
        assert layer.min() < 0


def test_names_indices_and_reductions_of_one_layer_agree(small_features, rng):
    images = rng.random((2, 64, 64))
    by_index = small_features.fit(images).transform(images)
    for layers in ((2, "blocks.4"), ("blocks.2", "/16"), ("blocks.2", "blocks.4")):
        features = clone(small_features).set_params(layers=layers).fit(images)
        np.testing.assert_array_equal(features.transform(images), by_index)
        assert features.network_.reductions == (8, 16)


def test_layers_come_in_the_order_asked_for(small_features, rng):
    images = rng.random((2, 64, 64))
    fine, coarse = small_features.fit(images).transform_layers(images).arrays
    for layers in ((3, 2, 3), ("blocks.4", 2, -2)):
        features = clone(small_features).set_params(layers=layers).fit(images)
        assert features.layer_shapes_ == [(4, 4, 112), (8, 8, 40), (4, 4, 112)]
        for layer, expected in zip(features.transform_layers(images).arrays, (coarse, fine, coarse), strict=True):
            np.testing.assert_array_equal(layer, expected)


@pytest.mark.parametrize(
    ("backbone", "layers", "image_size", "channels", "reductions"),
    [
        (
            "tf_efficientnet_b4",
            ("bn1", *(f"blocks.{i}" for i in range(7)), "bn2"),
            64,
            (48, 24, 32, 56, 112, 160, 272, 448, 1792),
            (2, 2, 4, 8, 16, 16, 32, 32, 32),
        ),
        ("tf_efficientnet_b5", ("blocks.1.3", "blocks.3.6", "blocks.4.5"), 64, (40, 128, 176), (4, 16, 16)),
        ("vgg16", ("features.21", "features.14", "features.7"), 64, (512, 256, 128), (8, 4, 2)),
    ],
)
def test_layers_of_the_papers(backbone, layers, image_size, channels, reductions):
    """The names stand in the docstring; numbers of channels are those that the papers report."""
    for name in layers:
        assert f'"{name}"' in PretrainedPatchFeatures.__doc__
    features = PretrainedPatchFeatures(backbone, layers=layers, weights="random", image_size=image_size)
    features.fit(np.zeros((1, 64, 64)))
    assert tuple(shape[2] for shape in features.layer_shapes_) == channels
    assert tuple(image_size // shape[0] for shape in features.layer_shapes_) == reductions


def test_paper_blocks_of_b5_are_the_7th_20th_and_26th():
    with torch.device("meta"):
        module = timm.create_model("tf_efficientnet_b5")
    names = [f"blocks.{i}.{j}" for i, stage in enumerate(module.blocks) for j in range(len(stage))]
    assert [names[i - 1] for i in (7, 20, 26)] == ["blocks.1.3", "blocks.3.6", "blocks.4.5"]
    assert len(names) == 39


# The network itself


def test_layer_maps_take_other_scales_and_single_layers(small_features, rng):
    network = small_features.fit(rng.random((1, 64, 64))).network_
    x = torch.from_numpy(rng.random((2, 3, 32, 96)).astype(np.float32))
    with torch.inference_mode():
        both, (coarse,), (fine,) = network.layer_maps(x), network.layer_maps(x, [1]), network.layer_maps(x, [0])
        expected = timm_maps((x - 0.5) / 0.5, (2, 3))
    assert [m.shape for m in both] == [(2, 40, 4, 12), (2, 112, 2, 6)]
    assert network.layer_shapes((32, 96)) == [(4, 12, 40), (2, 6, 112)]
    assert torch.equal(coarse, both[1])
    assert torch.equal(fine, both[0])
    for maps, other in zip(both, expected, strict=True):
        torch.testing.assert_close(maps, other, rtol=1e-4, atol=1e-5)


def test_gradients_reach_the_pixels(small_features, rng):
    network = small_features.fit(rng.random((1, 64, 64))).network_
    for layers in ((2,), ("blocks.2",)):
        network = type(network)("tf_efficientnet_lite0", layers, "random").load()
        x = torch.from_numpy(rng.random((1, 3, 32, 32)).astype(np.float32)).requires_grad_()
        network.layer_maps(x)[0].square().sum().backward()
        assert x.grad.abs().sum() > 0


def test_the_network_is_never_pickled(small_features, rng):
    images = rng.random((1, 64, 64))
    features = clone(small_features).fit(images)
    stored = pickle.dumps(features)
    assert len(stored) < 10_000
    np.testing.assert_array_equal(pickle.loads(stored).transform(images), features.transform(images))


def test_several_threads_share_hooks(small_features, rng):
    images = rng.random((8, 1, 64, 64))
    features = clone(small_features).set_params(layers=("blocks.2", 3), batch_size=1).fit(images[0])
    expected, found = [features.transform(image) for image in images], [None] * 8

    def work(i):
        found[i] = features.transform(images[i])

    threads = [threading.Thread(target=work, args=(i,)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    np.testing.assert_array_equal(found, expected)


def test_embedded_weights_serve_their_own_network_only(small_features, rng, monkeypatch):
    images = rng.random((1, 64, 64))
    other = clone(small_features).set_params(random_state=1).fit(images)
    features = clone(small_features).fit(images)
    grids, state = features.transform(images), features.network_state()
    restored = pickle.loads(pickle.dumps(features))
    restored.use_network_state(state)

    def gone(*args):
        raise MissingWeightsError("gone")

    monkeypatch.setattr("skanomaly._networks.pretrained.load_backbone", gone)
    np.testing.assert_array_equal(restored.transform(images), grids)
    for way in (copy.deepcopy, lambda f: pickle.loads(pickle.dumps(f))):  # they stay with the network
        np.testing.assert_array_equal(way(restored).transform(images), grids)
    for without in (features, clone(restored), other):
        with pytest.raises(MissingWeightsError):
            without.fit(images) if without is not features else without.transform(images)
    other.use_network_state(state)
    with pytest.raises(ValueError, match="not the weights used in fit"):
        other.transform(images)


def test_loading_leaves_the_generator_of_torch_alone(small_features, tmp_path, rng):
    features = clone(small_features).set_params(random_state=5).fit(rng.random((1, 64, 64)))
    torch.save({name: torch.from_numpy(a) for name, a in features.network_state().items()}, tmp_path / "w.pth")
    before = torch.get_rng_state()
    features.set_params(weights=str(tmp_path / "w.pth")).fit(rng.random((1, 64, 64)))
    features.use_network_state(features.network_state())
    features.transform(rng.random((1, 64, 64)))
    assert torch.equal(torch.get_rng_state(), before)


def test_batches_for_the_network(small_features, rng):
    images = rng.integers(0, 256, (3, 64, 64, 3), np.uint8)
    features = clone(small_features).set_params(crop=(32, 48)).fit(images)
    batch = features.read_batch(features.check_samples(images)[1:])
    expected = images[1:, 16:48, 8:56].transpose(0, 3, 1, 2) / np.float32(255)
    np.testing.assert_array_equal(batch.numpy(), expected)
