import numpy as np
import pytest
import torch
from sklearn.base import clone
from torch.nn import functional as F

from skanomaly import PretrainedPatchFeatures
from skanomaly.exceptions import MissingWeightsError


@pytest.mark.weights
def test_packaged_weights_know_a_daisy(flower):
    """ImageNet class 985 on sklearn's flower: the weights are real, in order, and normalised as they should be."""
    from skanomaly._networks.backbones import load_backbone

    backbone = load_backbone("tf_efficientnet_lite0", None, (2, 3), torch.device("cpu"), 0)
    features = PretrainedPatchFeatures().fit([flower])
    pixels = features._read(features.check_samples([flower]), 0)[None]
    mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in (backbone.mean, backbone.std))
    with torch.inference_mode():
        assert backbone.module((pixels - mean) / std).argmax().item() == 985
    assert features.transform([flower]).shape == (1, 28, 28, 40 + 112)


def test_equals_the_plain_computation(small_features, rng):
    images = rng.random((2, 64, 64, 3)).astype(np.float32)
    grids = small_features.fit_transform(images)
    backbone = small_features._load()
    pixels = (torch.from_numpy(images).permute(0, 3, 1, 2) - 0.5) / 0.5
    with torch.inference_mode():
        fine, coarse = (F.avg_pool2d(m, 3, 1, 1) for m in backbone(pixels))
        expected = torch.cat([fine, F.interpolate(coarse, fine.shape[2:], mode="bilinear")], dim=1)
    np.testing.assert_allclose(grids, expected.permute(0, 2, 3, 1).numpy(), rtol=1e-4, atol=1e-5)


def test_official_pooling_equals_the_plain_computation(small_features, rng):
    """`dim`: neighbourhoods flattened channel by channel, pooled per layer, stacked, pooled again."""
    images = rng.random((1, 64, 64, 3)).astype(np.float32)
    features = clone(small_features).set_params(dim=20, layers=(2,))
    grids = features.fit_transform(images)
    with torch.inference_mode():
        (maps,) = features._load()((torch.from_numpy(images).permute(0, 3, 1, 2) - 0.5) / 0.5)
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
    rgba = np.dstack([gray, gray, gray, rng.integers(0, 256, gray.shape, np.uint8)])
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
    with pytest.raises(ValueError, match="above data_range=4095"):
        features.transform(np.full((1, 64, 64), 5000, np.uint16))


def test_crop_keeps_the_centre(small_features, rng):
    images = rng.random((1, 64, 64))
    cropped = clone(small_features).set_params(crop=32)
    direct = clone(small_features).set_params(image_size=32)
    np.testing.assert_array_equal(
        cropped.fit_transform(images), direct.fit_transform(np.ascontiguousarray(images[:, 16:48, 16:48]))
    )
    score_map = cropped.map_to_image(np.ones((4, 4)), (64, 64))
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
        ({"layers": (2, 9)}, "9 is no layer .* it has 0 .*/2"),
        ({"layers": ("/3",)}, "'/3' is no layer"),
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
    state = small_features.fit(images)._load().module.state_dict()
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
    features.weights_sha256_ = "0" * 64
    with pytest.raises(ValueError, match="not those of fit"):
        features.transform(rng.random((1, 64, 64)))
