import json
import shutil
from types import SimpleNamespace

import numpy as np
import pytest
from numpy.testing import assert_array_equal
from PIL import Image
from scipy import ndimage
from sklearn.metrics import roc_auc_score

from skanomaly.datasets import (
    find_categories,
    load_btad,
    load_category,
    load_image_folder,
    load_mvtec,
    load_mvtec_loco,
    load_visa,
    make_surfaces,
)
from skanomaly.datasets._layouts import RegionsMask
from skanomaly.exceptions import DataWarning
from skanomaly.metrics import aupro, aupro_scorer, auspro, auspro_scorer

SURFACES = ("cloth", "metal", "speckle", "grid")
DEFECTS = ("scratch", "stain", "hole", "missing_thread", "blob")


# Made surfaces


def few(surface="cloth", random_state=0, **changes):
    return make_surfaces(surface, **{"n_train": 3, "n_good": 2, "n_anomalous": 10} | changes, random_state=random_state)


@pytest.mark.parametrize("surface", SURFACES)
def test_surfaces_have_the_stated_shapes_labels_and_kinds(surface):
    data = few(surface, size=64)
    assert (data.X_train.shape, data.X_train.dtype) == ((3, 64, 64), np.uint8)
    assert (data.X_test.shape, data.X_test.dtype) == ((12, 64, 64), np.uint8)
    assert (data.masks_test.shape, data.masks_test.dtype) == ((12, 64, 64), bool)
    assert data.kinds_test.tolist() == ["good", "good", *DEFECTS, *DEFECTS]
    assert_array_equal(data.y_test, np.where(data.kinds_test == "good", 1, -1))
    assert_array_equal(data.masks_test.any(axis=(1, 2)), data.y_test == -1)


def global_state():
    _, keys, position, *_ = np.random.get_state()  # noqa: NPY002
    return keys.tobytes(), position


@pytest.mark.parametrize("surface", SURFACES)
def test_a_seed_fixes_every_byte_and_leaves_the_global_state_alone(surface):
    state = global_state()
    first, again, other = few(surface, 0), few(surface, np.random.RandomState(0)), few(surface, 1)
    for name in first:
        assert_array_equal(first[name], again[name])
    for name in ("X_train", "X_test", "masks_test"):
        assert (first[name] != other[name]).any()
    assert global_state() == state


@pytest.mark.parametrize("surface", SURFACES)
def test_every_image_is_its_own(surface):
    data = few(surface)
    images = [*data.X_train, *data.X_test]
    assert len({image.tobytes() for image in images}) == len(images)


@pytest.mark.parametrize("surface", SURFACES)
def test_masks_are_where_the_defect_changes_the_image(surface):
    data, clean = few(surface, n_anomalous=20), few(surface, n_anomalous=20, contrast=0)
    change = np.abs(data.X_test.astype(int) - clean.X_test)
    assert_array_equal(data.X_train, clean.X_train)
    assert_array_equal(data.masks_test, clean.masks_test)
    assert not change[data.y_test == 1].any()
    for defect, mask in zip(change[data.y_test == -1], data.masks_test[data.y_test == -1], strict=True):
        distance = ndimage.distance_transform_edt(~mask)
        assert np.median(defect[mask]) >= 8
        assert defect[distance > 15].max() <= 1


@pytest.mark.parametrize("kind", ["scratch", "blob"])
def test_masks_are_the_pixels_with_two_fifths_of_the_full_change(kind):
    data, clean = few("speckle", n_anomalous=20), few("speckle", n_anomalous=20, contrast=0)
    of_kind = data.kinds_test == kind
    assert of_kind.sum() == 4
    for after, before, mask in zip(data.X_test[of_kind], clean.X_test[of_kind], data.masks_test[of_kind], strict=True):
        change = np.abs(after.astype(int) - before)
        found = change > 0.4 * change.max()
        assert (found & mask).sum() > 0.9 * (found | mask).sum()


@pytest.mark.parametrize("surface", SURFACES)
def test_smaller_contrast_changes_less(surface):
    clean, faint, clear = (few(surface, contrast=c).X_test.astype(int) for c in (0, 0.3, 1))
    changes = np.abs(faint - clean).mean(axis=(1, 2)), np.abs(clear - clean).mean(axis=(1, 2))
    assert (changes[0][2:] < 0.7 * changes[1][2:]).all()
    assert (changes[0][2:] > 0).all()


@pytest.mark.parametrize("surface", SURFACES)
def test_brightness_and_contrast_alone_do_not_find_the_defects(surface):
    data = make_surfaces(surface, random_state=0)
    for statistic in (np.mean, np.std):
        train, test = statistic(data.X_train, axis=(1, 2)), statistic(data.X_test, axis=(1, 2))
        for score in (test, np.abs(test - np.mean(train))):
            auroc = roc_auc_score(data.y_test == -1, score)
            assert max(auroc, 1 - auroc) < 0.8, statistic.__name__


def test_surfaces_may_have_no_test_images():
    data = few(n_good=0, n_anomalous=0)
    assert data.X_test.shape == data.masks_test.shape == (0, 128, 128)
    assert len(data.y_test) == len(data.kinds_test) == 0


def test_an_unknown_surface_is_refused_with_the_known_ones():
    with pytest.raises(ValueError, match="surface='wool' is not known; accepted: cloth, metal, speckle, grid"):
        make_surfaces("wool")


# Folders


def save(path, pixels=None):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.zeros((6, 8), np.uint8) if pixels is None else pixels).save(path)


def mask_pixels(row):
    pixels = np.zeros((6, 8), np.uint8)
    pixels[row, 2:5] = 255
    return pixels


@pytest.fixture
def category(tmp_path):
    """A category in the layout of MVTec AD; the third defect has an empty mask."""
    for name in ("001.png", "000.png"):
        save(tmp_path / "train" / "good" / name)
    for name in ("good/000.png", "cut/001.png", "cut/000.png", "bent/000.png"):
        save(tmp_path / "test" / name)
    save(tmp_path / "ground_truth/cut/000_mask.png", mask_pixels(0))
    save(tmp_path / "ground_truth/cut/001.png", mask_pixels(1))
    save(tmp_path / "ground_truth/bent/000_mask.png")
    (tmp_path / "test" / "cut" / "notes.txt").write_text("no image")
    (tmp_path / "license.txt").write_text("no image")
    return tmp_path


def test_load_mvtec_in_sorted_order_with_labels(category):
    data = load_mvtec(category)
    assert [*data.X_train] == [str(category / "train" / "good" / name) for name in ("000.png", "001.png")]
    names = ["bent/000.png", "cut/000.png", "cut/001.png", "good/000.png"]
    assert [*data.X_test] == [str(category / "test" / name) for name in names]
    assert data.kinds_test.tolist() == ["bent", "cut", "cut", "good"]
    assert data.y_test.tolist() == [mask.label for mask in data.masks_test] == [-1, -1, -1, 1]


def test_masks_of_both_namings_are_read(category):
    bent, first, second, good = load_mvtec(category).masks_test
    assert_array_equal(first, mask_pixels(0) > 0)
    assert_array_equal(second, mask_pixels(1) > 0)
    for empty in (bent, good):
        assert np.asarray(empty).dtype == bool
        assert_array_equal(empty, np.zeros((6, 8), bool))
    assert "label=-1" in repr(bent)
    assert good.path is None


def test_masks_become_arrays_of_the_dtype_asked_for(category):
    mask = load_mvtec(category).masks_test[1]
    assert mask.shape == (6, 8)
    assert np.asarray(mask, dtype=np.float32).sum() == 3
    assert np.stack(load_mvtec(category).masks_test).sum(axis=(1, 2)).tolist() == [0, 3, 3, 0]


@pytest.mark.parametrize("ids", [[255] * 3, [1] * 3, [1, 2, 7], [1, 200, 255]])
def test_everything_in_a_mask_that_is_not_0_is_defective(category, ids):
    pixels = np.zeros((6, 8), np.uint8)
    pixels[0, :3] = ids
    save(category / "ground_truth" / "cut" / "000_mask.png", pixels)
    assert_array_equal(load_mvtec(category).masks_test[1], pixels > 0)


def test_class_ids_may_be_colours_indices_or_opacity(category):
    expected = mask_pixels(0) > 0
    path = category / "ground_truth" / "cut" / "000_mask.png"
    palette = Image.fromarray(expected.astype(np.uint8))
    palette = palette.convert("P")
    palette.putpalette([255, 255, 255, 0, 0, 0])  # white background
    colored = np.zeros((6, 8, 3), np.uint8)
    colored[expected] = [0, 3, 0]
    shown = np.dstack([np.full((6, 8, 3), 255, np.uint8), expected * np.uint8(255)])
    for image in (palette, Image.fromarray(colored), Image.fromarray(shown), Image.fromarray(expected)):
        image.save(path)
        assert_array_equal(load_mvtec(category).masks_test[1], expected, err_msg=image.mode)


def test_lossy_masks_are_cut_at_half(category):
    expected = np.zeros((48, 64), bool)
    expected[9:26, 11:42] = True
    image = Image.fromarray(np.where(expected, 255, 0).astype(np.uint8))
    save(category / "test" / "cut" / "000.png", np.zeros((48, 64), np.uint8))
    (category / "ground_truth" / "cut" / "000_mask.png").unlink()
    image.save(category / "ground_truth" / "cut" / "000_mask.jpg", quality=60)
    assert np.count_nonzero(np.asarray(Image.open(category / "ground_truth" / "cut" / "000_mask.jpg")) % 255) > 0
    assert_array_equal(load_mvtec(category).masks_test[1], expected)


@pytest.mark.parametrize("end", ["_mask.bmp", ".bmp", "_GT.png", ".tif", "_label.png", "_mask.PNG", "-defect map.gif"])
def test_masks_may_have_any_suffix_and_format(category, end):
    (category / "ground_truth" / "cut" / "000_mask.png").unlink()
    save(category / "ground_truth" / "cut" / f"000{end}", mask_pixels(0))
    save(category / "ground_truth" / "cut" / "0001.png", mask_pixels(3))  # of another image
    assert_array_equal(load_mvtec(category).masks_test[1], mask_pixels(0) > 0)


def test_two_masks_of_an_image_are_refused(category):
    save(category / "ground_truth" / "cut" / "000.png", mask_pixels(0))
    with pytest.raises(ValueError, match=r"cut/000.png has several masks: .*000.png, .*000_mask.png"):
        load_mvtec(category)


def test_masks_are_read_only_when_asked_for(category):
    mask = load_mvtec(category).masks_test[1]
    (category / "ground_truth" / "cut" / "000_mask.png").unlink()
    assert mask.label == -1
    with pytest.raises(FileNotFoundError, match=r"000_mask\.png"):
        np.asarray(mask)


def test_a_mask_of_another_size_is_refused(category):
    save(category / "ground_truth" / "cut" / "001.png", np.zeros((8, 6), np.uint8))
    mask = load_mvtec(category).masks_test[2]
    with pytest.raises(ValueError, match=r"001.png has shape \(8, 6\), but its image .*001.png has shape \(6, 8\)"):
        np.asarray(mask)


def test_a_missing_mask_is_not_an_empty_mask(category):
    (category / "ground_truth" / "cut" / "001.png").unlink()
    with pytest.warns(DataWarning, match=r"1 of 3 anomalous images have no mask in .*ground_truth, .*cut/001\.png"):
        masks = load_mvtec(category).masks_test
    assert [mask.known for mask in masks] == [True, True, False, True]


def test_missing_folders_are_named(category, tmp_path_factory):
    with pytest.raises(FileNotFoundError, match="it has no train/good and no test"):
        load_mvtec(tmp_path_factory.mktemp("empty"))
    (category / "train").rename(category / "training")
    with pytest.raises(FileNotFoundError, match="it has no train/good"):
        load_mvtec(category)


def test_ground_truth_may_be_missing(category):
    (category / "ground_truth").rename(category / "masks")
    with pytest.warns(DataWarning, match="3 of 3 anomalous images have no mask"):
        data = load_mvtec(category)
    assert [mask.known for mask in data.masks_test] == [False, False, False, True]


def test_other_names_for_normal_images_are_suggested(category):
    for part in ("train", "test"):
        (category / part / "good").rename(category / part / "ok")
    with pytest.raises(FileNotFoundError, match=r"no train/good, only .*train/ok; set `normal`"):
        load_mvtec(category)
    assert load_mvtec(category, normal="ok").y_test.tolist() == [-1, -1, -1, 1]


def test_only_normal_or_only_anomalous_test_images(category):
    for name in ("bent", "cut"):
        shutil.rmtree(category / "test" / name)
    assert load_mvtec(category).y_test.tolist() == [1]
    (category / "test" / "good").rename(category / "test" / "torn")
    with pytest.warns(DataWarning) as caught:
        assert load_mvtec(category).y_test.tolist() == [-1]
    assert "no subfolder 'good' of normal images, only torn" in str(caught[0].message)


def test_litter_is_left_aside_and_nested_folders_are_read(category):
    good = category / "train" / "good"
    for name in ("._000.png", "Thumbs.db", ".DS_Store", "README.txt"):
        (good / name).write_bytes(b"no image")
    (good / "gone.png").symlink_to("/nowhere.png")
    (good / "folder.png").mkdir()
    save(good / ".ipynb_checkpoints" / "000-checkpoint.png")
    save(category / "test" / ".ipynb_checkpoints" / "000-checkpoint.png")
    for part in ("train/good", "test/cut"):
        nested = category / part / "2024-05-01" / "cam 1"
        nested.mkdir(parents=True)
        for path in (category / part).glob("0*.png"):
            path.rename(nested / path.name)
    data = load_mvtec(category)
    assert (len(data.X_train), data.kinds_test.tolist()) == (2, ["bent", "cut", "cut", "good"])
    assert_array_equal(data.masks_test[1], mask_pixels(0) > 0)


def test_images_beside_folders_of_images(category):
    save(category / "train" / "good" / "rejected" / "0.png")
    with pytest.warns(DataWarning, match=r"2 images of its own besides .* \(rejected\); only the images of its own"):
        assert load_image_folder(category / "train" / "good").y.tolist() == [1, 1]
    save(category / "test" / "overview.png")
    with pytest.warns(DataWarning, match=r"1 images of its own besides .* only the images in the subfolders"):
        assert load_image_folder(category / "test").y.tolist() == [-1, -1, -1, 1]


def test_masks_may_lie_among_the_kinds(category):
    shutil.copytree(category / "ground_truth", category / "test" / "masks")
    data = load_image_folder(category / "test", masks=category / "test" / "masks")
    assert_array_equal(data.masks[1], mask_pixels(0) > 0)
    assert data.kinds.tolist() == ["bent", "cut", "cut", "good"]


def test_load_image_folder_with_and_without_masks(category):
    data = load_image_folder(category / "test")
    assert data.y.tolist() == [-1, -1, -1, 1]
    assert data.kinds.tolist() == ["bent", "cut", "cut", "good"]
    assert not np.stack(data.masks).any()
    with_masks = load_image_folder(category / "test", masks=category / "ground_truth")
    assert_array_equal(with_masks.masks[1], mask_pixels(0) > 0)
    assert with_masks.X.tolist() == data.X.tolist()


def test_load_image_folder_with_another_name_for_normal(category):
    assert load_image_folder(category / "test", normal="cut").y.tolist() == [-1, 1, 1, -1]


def test_load_image_folder_of_images_alone(category):
    save(category / "train" / "good" / "0005.JPG")
    data = load_image_folder(str(category / "train" / "good"))
    assert [path.rsplit("/")[-1] for path in data.X] == ["000.png", "0005.JPG", "001.png"]
    assert data.y.tolist() == [1, 1, 1]
    assert data.kinds.tolist() == ["good"] * 3


def test_load_image_folder_without_images_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="contains no images"):
        load_image_folder(tmp_path)
    with pytest.raises(FileNotFoundError, match="is not a folder"):
        load_image_folder(tmp_path / "absent")


def test_masks_beside_the_images(tmp_path):
    for name in ("good/0.png", "cut/0.png", "cut/1.png", "cut/[2].png"):
        save(tmp_path / name)
    save(tmp_path / "cut/0_label.png", mask_pixels(0) // 255)
    save(tmp_path / "cut/[2]_label.bmp", mask_pixels(2))
    save(tmp_path / "good/0_label.png")
    with pytest.warns(DataWarning, match=r"1 of 3 anomalous images have no mask in \{kind\}/\{stem\}_label.*cut/1.png"):
        data = load_image_folder(tmp_path, masks="{kind}/{stem}_label.*")
    assert [path[len(str(tmp_path)) + 1 :] for path in data.X] == [
        "cut/0.png",
        "cut/1.png",
        "cut/[2].png",
        "good/0.png",
    ]
    assert_array_equal(data.masks[0], mask_pixels(0) > 0)
    assert_array_equal(data.masks[2], mask_pixels(2) > 0)
    assert [mask.known for mask in data.masks] == [True, False, True, True]
    save(tmp_path / "cut/0_label.bmp")
    with pytest.raises(ValueError, match=r"cut/0.png has several masks: .*0_label.bmp, .*0_label.png"):
        load_image_folder(tmp_path, masks="{kind}/{stem}_label.*")


def test_masks_in_a_folder_that_a_pattern_names(category):
    data = load_image_folder(category / "test", masks="../ground_truth/{kind}/{stem}*.png")
    assert_array_equal(data.masks[1], mask_pixels(0) > 0)
    assert_array_equal(data.masks[2], mask_pixels(1) > 0)


# Layouts of published data sets


def test_load_btad(tmp_path):
    for name in ("train/ok/0000.bmp", "test/ok/0000.bmp", "test/ko/0000.bmp"):
        save(tmp_path / name)
    save(tmp_path / "ground_truth/ko/0000.png", mask_pixels(2))
    data = load_btad(tmp_path)
    assert (data.X_train.tolist(), data.y_test.tolist()) == ([str(tmp_path / "train/ok/0000.bmp")], [-1, 1])
    assert_array_equal(data.masks_test[0], mask_pixels(2) > 0)


@pytest.fixture
def visa(tmp_path):
    """An object in the layout of VisA: masks hold class ids, and another object is in the same table."""
    folder = tmp_path / "candle" / "Data"
    for name in ("Normal/0001.JPG", "Normal/0002.JPG", "Anomaly/000.JPG", "Anomaly/001.JPG"):
        save(folder / "Images" / name)
    save(folder / "Masks/Anomaly/000.png", mask_pixels(4) // 255 * 3)
    rows = [
        "object,split,label,image,mask",
        "candle,train,normal,candle/Data/Images/Normal/0002.JPG,",
        "candle,test,normal,candle/Data/Images/Normal/0001.JPG,",
        "candle,test,anomaly,candle/Data/Images/Anomaly/000.JPG,candle/Data/Masks/Anomaly/000.png",
        "candle,train,anomaly,candle/Data/Images/Anomaly/001.JPG,candle/Data/Masks/Anomaly/001.png",
        "pcb1,train,normal,pcb1/Data/Images/Normal/0001.JPG,",
    ]
    (tmp_path / "split_csv").mkdir()
    (tmp_path / "split_csv" / "1cls.csv").write_text("\n".join(rows))
    return tmp_path / "candle"


def test_load_visa(visa):
    data = load_visa(visa)
    assert data.X_train.tolist() == [str(visa / "Data/Images/Normal/0002.JPG")]
    assert [path[-11:] for path in data.X_test] == ["al/0001.JPG", "aly/000.JPG"]
    assert data.y_test.tolist() == [mask.label for mask in data.masks_test] == [1, -1]
    assert data.kinds_test.tolist() == ["normal", "anomaly"]
    assert_array_equal(data.masks_test[1], mask_pixels(4) > 0)
    assert not np.asarray(data.masks_test[0]).any()


def test_load_visa_names_what_is_missing(visa):
    (visa / "Data/Masks/Anomaly/000.png").unlink()
    with pytest.warns(DataWarning, match="1 of 1 anomalous images have no mask"):
        assert not load_visa(visa).masks_test[1].known
    with pytest.raises(FileNotFoundError, match=r"2cls_fewshot\.csv is missing"):
        load_visa(visa, split="2cls_fewshot")
    (visa / "Data/Images/Normal/0002.JPG").unlink()
    with pytest.raises(FileNotFoundError, match=r"1 images of .*1cls\.csv are missing, for example .*0002\.JPG"):
        load_visa(visa)
    visa.rename(visa.parent / "candles")
    with pytest.raises(ValueError, match="lists no normal training images of 'candles'"):
        load_visa(visa.parent / "candles")
    (visa.parent / "split_csv/1cls.csv").write_text("image,label\n0.png,normal\n")
    with pytest.raises(ValueError, match=r"has image, label; it must have the columns object"):
        load_visa(visa.parent / "candles")


@pytest.fixture
def loco(tmp_path):
    """A category in the layout of MVTec LOCO AD: two regions of one image, which overlap in a pixel."""
    for name in ("train/good/000", "validation/good/000", "test/good/000"):
        save(tmp_path / f"{name}.png")
    for name in ("logical_anomalies/000", "structural_anomalies/000"):
        save(tmp_path / "test" / f"{name}.png")
    second = np.zeros((6, 8), np.uint8)
    second[0:2, 4] = 254
    save(tmp_path / "ground_truth/logical_anomalies/000/000.png", mask_pixels(0))
    save(tmp_path / "ground_truth/logical_anomalies/000/001.png", second)
    save(tmp_path / "ground_truth/structural_anomalies/000/000.png", mask_pixels(3) // 255 * 253)
    defects = [("missing", 255, 2, False), ("part", 254, 0.5, True), ("dent", 253, 1.0, True)]
    keys = "defect_name", "pixel_value", "saturation_threshold", "relative_saturation"
    config = [dict(zip(keys, defect, strict=True)) for defect in defects]
    (tmp_path / "defects_config.json").write_text(json.dumps(config))
    return tmp_path


def test_load_mvtec_loco_lists_regions_with_saturation_areas(loco):
    data = load_mvtec_loco(loco)
    assert data.X_validation.tolist() == [str(loco / "validation/good/000.png")]
    assert data.kinds_test.tolist() == ["good", "logical_anomalies", "structural_anomalies"]
    good, logical, structural = data.masks_test
    assert [area for _, area in logical.regions] == [2, 1.0]
    assert [area for _, area in structural.regions] == [3.0]
    assert (good.regions, good.known, np.asarray(good).any()) == ([], True, False)
    assert np.asarray(logical).sum() == 4
    found = np.zeros((6, 8))
    found[0, 3:5] = found[3, 2:5] = 1  # saturates both regions of the first, and covers the only one of the second
    maps = [np.zeros((6, 8)), found * (np.arange(6) < 1)[:, None], found]
    assert auspro(data.masks_test, maps) == pytest.approx(1 - (2 / 137) / 2 / 0.05)  # 2 of 137 normal pixels, at once


def test_load_mvtec_loco_without_masks_and_saturation_areas(loco):
    shutil.rmtree(loco / "ground_truth/structural_anomalies")
    with pytest.warns(DataWarning, match=r"1 of 2 anomalous images have no mask .*structural_anomalies/000"):
        assert [mask.known for mask in load_mvtec_loco(loco).masks_test] == [True, True, False]
    (loco / "defects_config.json").write_text("[]")
    with (
        pytest.warns(DataWarning, match="no mask"),
        pytest.raises(ValueError, match=r"000/000\.png has the value 255, which defects_config\.json does not list"),
    ):
        load_mvtec_loco(loco).masks_test[1].regions  # noqa: B018
    (loco / "defects_config.json").unlink()
    with pytest.warns(DataWarning) as caught:
        assert [area for _, area in load_mvtec_loco(loco).masks_test[1].regions] == [3, 2]
    assert any("defect regions saturate at their own area" in str(warning.message) for warning in caught)


def test_categories_are_found_and_loaded_in_every_layout(category, loco, visa, tmp_path):
    """The fixtures share a folder, which is a category itself; beside it, folders of categories of equal names."""
    for number in ("01", "02"):
        for name in ("train/ok/0.png", "test/ok/0.png"):
            save(tmp_path / "btad" / number / name)
    shutil.copytree(tmp_path / "btad", tmp_path / "copy")
    (tmp_path / "btad" / "notes").mkdir()
    found = find_categories([tmp_path / "btad", visa, tmp_path / "copy", tmp_path / "btad" / "notes"])
    assert list(found) == ["btad/01", "btad/02", "candle", "copy/01", "copy/02", "notes"]
    assert load_category(found["btad/01"]).y_test.tolist() == [1]
    assert load_category(found["candle"]).kinds_test.tolist() == ["normal", "anomaly"]
    with pytest.raises(FileNotFoundError, match="not in the layout of MVTec AD"):
        load_category(found["notes"])
    assert list(find_categories([str(tmp_path)]).values()) == [str(tmp_path)]
    with pytest.warns(DataWarning, match="no mask"):  # those of MVTec AD are files, not folders
        assert len(load_category(tmp_path).X_validation) == 1


def test_only_auspro_uses_saturation_areas(tmp_path):
    """A square of 16 pixels saturates at 2, and the map finds 2: all of it for one metric, an eighth for the other."""
    region = np.zeros((8, 8), np.uint8)
    region[2:6, 2:6] = 255
    save(tmp_path / "r.png", region)
    save(tmp_path / "i.png", region)
    mask = RegionsMask(-1, tmp_path / "i.png", [tmp_path / "r.png"], {255: 2})
    found = np.zeros((8, 8))
    found[2, 2:4] = 1
    assert auspro([mask], [found]) == pytest.approx(1)
    assert aupro([mask], [found]) == pytest.approx(aupro(region[None], found[None]))
    assert aupro([mask], [found]) < 0.3
    maps = SimpleNamespace(iter_anomaly_maps=lambda X, **_: iter([found]))
    assert aupro_scorer(maps, ["i.png"], [mask]) == pytest.approx(aupro([mask], [found]))
    assert auspro_scorer(maps, ["i.png"], [mask]) == pytest.approx(1)


def test_masks_of_longer_names_belong_to_those(tmp_path):
    for name in ("img", "img_left"):
        save(tmp_path / "set/bad" / f"{name}.png")
    save(tmp_path / "set/good/0.png")
    save(tmp_path / "masks/bad/img_left_mask.png", mask_pixels(1))
    with pytest.warns(DataWarning, match="1 of 2 anomalous images have no mask"):
        data = load_image_folder(tmp_path / "set", masks=tmp_path / "masks")
    assert [mask.path and mask.path.name for mask in data.masks] == [None, "img_left_mask.png", None]
    (tmp_path / "masks/bad/img_left_mask.png").unlink()
    for name in ("img", "img_left"):
        save(tmp_path / "masks/bad" / f"{name}_GT.png", mask_pixels(1))
    data = load_image_folder(tmp_path / "set", masks=tmp_path / "masks")
    assert [mask.path and mask.path.name for mask in data.masks] == ["img_GT.png", "img_left_GT.png", None]


def test_masks_of_nested_images(tmp_path):
    """They lie as the images do; one mask for two images of the same name is refused."""
    for camera in "ab":
        save(tmp_path / "set/bad" / camera / "0.png")
    save(tmp_path / "set/good/0.png")
    save(tmp_path / "masks/bad/0_mask.png", mask_pixels(1))
    with pytest.raises(ValueError, match=r"0_mask.png is called like several images: .*a.0.png, .*b.0.png"):
        load_image_folder(tmp_path / "set", masks=tmp_path / "masks")
    for camera in "ab":
        save(tmp_path / "masks/bad" / camera / "0.png", mask_pixels(1))
    data = load_image_folder(tmp_path / "set", masks=tmp_path / "masks")
    assert [mask.path and mask.path.parent.name for mask in data.masks] == ["a", "b", None]


def test_categories_of_equal_names_keep_as_many_folders_as_it_takes(tmp_path):
    folders = [tmp_path / f"{version}/mvtec/bottle" for version in ("v1", "v2")]
    for folder in folders:
        (folder / "train").mkdir(parents=True)
    assert find_categories([*folders, folders[0]]) == {"v1/mvtec/bottle": folders[0], "v2/mvtec/bottle": folders[1]}
