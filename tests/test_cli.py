import _thread
import csv
import json
import shutil
import signal
import sys
import threading
import time
import warnings

import numpy as np
import pytest
from PIL import Image

import skanomaly
import skanomaly.networks
from skanomaly._model_files.parts import parts_of
from skanomaly.cli import _TABLES, _parser, _setting, _variant, main
from skanomaly.evaluation._comparison_table import TITLES
from skanomaly.exceptions import CalibrationWarning

pytestmark = pytest.mark.filterwarnings("ignore::skanomaly.exceptions.CalibrationWarning")
QUICK = ["--quiet", "--set", "features__weights=random", "--set", "features__image_size=64"]


@pytest.fixture
def folder(cloth, tmp_path):
    for name, images in (
        ("train/good", cloth.X_train),
        ("test/good", cloth.X_test[:3]),
        ("test/hole", cloth.X_test[8:9]),
    ):
        (tmp_path / name).mkdir(parents=True)
        for i, image in enumerate(images):
            Image.fromarray(image[: 60 + i]).save(tmp_path / name / f"{i}.png")
    (tmp_path / "ground_truth/hole").mkdir(parents=True)
    Image.fromarray(cloth.masks_test[8, :60]).save(tmp_path / "ground_truth/hole/0.png")
    return tmp_path


def test_evaluate_prints_metrics_and_writes_the_sheet(folder, capsys):
    assert main(["evaluate", str(folder), "--out", str(folder / "out"), *QUICK]) == 0
    printed = capsys.readouterr().out
    for metric in ("image AUROC", "pixel AUROC", "AU-PRO", "flagged normals", "flagged defects"):
        assert metric in printed
    sheet = np.asarray(Image.open(folder / "out" / f"{folder.name}.png"))
    assert sheet.shape[0] > 200
    assert sheet[..., :3].std() > 10


FEW_COLUMNS = ["--set", "features__image_size=16", "--set", "calibration=cv"]


def test_several_methods_on_several_categories(folder, tmp_path_factory, capsys):
    """A folder of categories; one method twice, with settings of its own; a broken category is named, status 1."""
    root = tmp_path_factory.mktemp("categories")
    for name in ("bottle", "cable"):
        shutil.copytree(folder, root / name)
    (root / "notes").mkdir()
    arguments = ["evaluate", str(root), "--out", str(root / "out"), "--quiet", *FEW_COLUMNS]
    compared = [*arguments, "--methods", "variation", "smooth=variation", "--set", "smooth:sigma=20"]
    assert main([*compared, "--metrics", "image_auroc", "rates"]) == 0
    printed = capsys.readouterr().out
    lines = [line.split() for line in printed.splitlines()]
    assert lines[1] == ["variation", "smooth"]
    assert [line[0] for line in lines[2:5]] == ["bottle", "cable", "mean"]
    assert "TNR / TPR at the calibrated threshold" in printed
    assert len(list((root / "out").glob("*.json"))) == 4
    (root / "cable/test/hole/0.png").write_bytes(b"no image")
    assert main([*compared, "--against", "smooth", "--format", "json"]) == 1
    content = json.loads(capsys.readouterr().out)
    assert [row["detector"] for row in content["rows"]] == ["variation", "smooth"]
    assert {failure["dataset"] for failure in content["failures"]} == {"cable"}
    assert {difference["baseline"] for difference in content["differences"]} == {"smooth"}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--methods", "patchcore", "x=nonsense"], "--methods: nonsense is not one of ano-unet"),
        (["--methods", "variation", "--set", "padim:sigma=1"], "--set: padim is not one of variation"),
        (["--methods", "variation", "--set", "nonsense=1"], "Invalid parameter 'nonsense'"),
        (["--methods", "variation", "--against", "padim"], "baseline='padim' names others than the detectors"),
    ],
)
def test_mistakes_in_comparisons_are_named(folder, capsys, options, message):
    out = ["--out", str(folder / "out"), "--quiet"]
    assert main(["evaluate", str(folder), *out, *options]) == 2
    assert message in capsys.readouterr().err


def test_unknown_tables_are_refused_before_anything_is_computed(folder, capsys):
    assert set(_TABLES) == set(TITLES)
    with pytest.raises(SystemExit):
        main(["evaluate", str(folder), "--methods", "variation", "--metrics", "auroc"])
    assert "argument --metrics: invalid choice: 'auroc'" in capsys.readouterr().err


def test_defaults_of_compared_methods_are_those_of_each_data_set():
    """The features that None stands for depend on the images, unless a setting names them."""
    command = ["evaluate", "folder", "--methods", "patchcore", "b=patchcore", "--set", "coreset_ratio=0.1"]
    options = _parser().parse_args([*command, "--set", "b:features__neighborhood=1"])
    plain, named = (_variant(name, "patchcore", options) for name in ("patchcore", "b"))
    assert plain.features is None
    assert (plain.coreset_ratio, named.coreset_ratio, named.features.neighborhood) == (0.1, 0.1, 1)


def test_tables_of_a_single_method(folder, capsys):
    arguments = ["--method", "variation", *FEW_COLUMNS, "--out", str(folder / "out"), "--quiet", "--format", "csv"]
    assert main(["evaluate", str(folder), *arguments]) == 0
    header, row = csv.reader(capsys.readouterr().out.splitlines())
    assert dict(zip(header, row, strict=True))["detector"] == "variation"


def test_presets_are_methods_to_compare(folder, capsys):
    small = ["features__weights=random", "features__image_size=64", "features__crop=None", "projection=None"]
    settings = [argument for setting in small for argument in ("--set", f"resnet:{setting}")]
    arguments = ["--methods", "resnet=patchcore-wrn50", "--out", str(folder / "out"), "--quiet", *settings]
    backbone = ["--set", "resnet:features__backbone=test_resnet", "--set", "resnet:features__dim=8"]
    assert main(["evaluate", str(folder), *arguments, *backbone, "--metrics", "aupro"]) == 0
    assert "resnet" in capsys.readouterr().out


@pytest.mark.parametrize("method", ["deep-one-class", "metric"])
def test_a_reference_is_a_folder_of_classes(method, folder, capsys):
    settings = {
        "reference": folder / "test",
        "max_epochs": 1,
        "training__lr": 1e-3,
        "features__backbone": "test_efficientnet",
        "features__weights": "random",
        "features__image_size": 32,
    }
    options = [argument for name, value in settings.items() for argument in ("--set", f"{name}={value}")]
    model = ["-o", str(folder / "model.skops"), "--quiet", "--method", method]
    assert main(["fit", str(folder / "train/good"), *model, *options]) == 0
    assert "fitted on 12 images" in capsys.readouterr().out
    assert main(["fit", str(folder / "train/good"), *model, *options[2:]]) == 2
    assert "reference=None; pass a folder" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["evaluate", "nowhere"], "root='nowhere' is not in the layout of MVTec AD: it has no train/good and no test"),
        (["demo", "--data", "nowhere"], "nowhere"),
        (["evaluate", "FOLDER", "--set", "coreset_ratio"], "must have the form NAME=VALUE"),
        (["evaluate", "FOLDER", "--set", "coreset_ratio=3"], "'coreset_ratio' parameter"),
        (["evaluate", "FOLDER", "--set", "nonsense=3"], "Invalid parameter 'nonsense'"),
        (["fit", "gone", "-o", "m"], "IMAGES: there is no file or folder 'gone'."),
        (["fit", "FOLDER", "-o", "m"], "contains no images, but its subfolders contain"),
        (["fit", "FOLDER/**", "-o", "gone/m.skops"], "-o 'gone/m.skops': the folder 'gone' does not exist; create it"),
        (["fit", "FOLDER/**", "-o", "."], "-o '.' is a folder; it must be the path of a file"),
        (
            ["score", "gone.skops", "FOLDER/**", "--out", "o"],
            "MODEL: 'gone.skops' does not exist; it must be a file",
        ),
        (["score", "m", "x", "--out", "o", "--watch", "--interval", "0"], "--interval 0 is not accepted"),
        (
            ["fit", "gone/*", "lot [3]", "-o", "m"],
            "IMAGES: 'gone/*' matches no file, 'lot [3]' matches no file; in a glob",
        ),
    ],
)
def test_errors_are_one_line_and_status_2(folder, capsys, arguments, message):
    assert main([a.replace("FOLDER", str(folder)) for a in arguments]) == 2
    captured = capsys.readouterr()
    assert message in captured.err
    assert captured.err.startswith("skanomaly: error: ")
    assert captured.err.count("\n") == 1


def test_images_that_cannot_be_read_are_status_1(folder, capsys):
    model, images = str(folder / "model.skops"), folder / "test" / "good"
    assert main(["fit", str(folder / "train" / "good"), "-o", model, "--quiet"]) == 0
    (images / "cut.png").write_bytes(next(images.glob("*.png")).read_bytes()[:300])
    command = ["score", model, str(images), "--out", str(folder / "scores"), "--quiet"]
    assert main(command) == 1
    assert "1 of " in capsys.readouterr().err
    assert main([*command[:-2], str(folder / "others"), "--quiet", "--on-error", "raise"]) == 2
    (images / "cut.png").unlink()
    assert main(command) == 0


def read_table(path):
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def test_fit_and_score_a_folder(folder, capsys):
    model, out = str(folder / "model.skops"), folder / "scores"
    images = str(folder / "test" / "*" / "*.png")
    assert main(["fit", str(folder / "train/good"), "-o", model, *QUICK]) == 0
    assert main(["score", model, images, "--out", str(out), "--quiet", "--overlays"]) == 0
    rows = read_table(out / "scores.csv")
    detector = skanomaly.load(model)
    paths = [row["path"] for row in rows]
    assert len(rows) == len(list((out / "overlays").iterdir())) == 4
    np.testing.assert_array_equal([float(row["score"]) for row in rows], detector.score_samples(paths))
    np.testing.assert_array_equal([int(row["label"]) for row in rows], detector.predict(paths))
    np.testing.assert_array_equal([float(row["p_value"]) for row in rows], detector.p_values(paths))
    regions = [int(row["largest_area"]) for row in rows]
    np.testing.assert_array_equal(np.array(regions) > 0, [mask.any() for mask in detector.anomaly_mask(paths)])


def test_quiet_is_quiet_and_silence_is_saved(folder, capsys):
    warnings.simplefilter("default", CalibrationWarning)  # until pytest restores the filters
    model, images = folder / "model.skops", str(folder / "train/good")
    assert main(["fit", images, "-o", str(model), *QUICK]) == 0  # 12 images are too few for a rate of 5 %
    captured = capsys.readouterr()
    assert captured.out.startswith(f"{model}: fitted on 12 images, flags scores below ")
    assert captured.out.endswith(" (false-alarm rate 0.05)\n")
    assert captured.err == ""
    assert main(["fit", images, "-o", str(model), *QUICK[1:]]) == 0
    said = capsys.readouterr().err
    assert "skanomaly: warning: false_alarm_rate=0.05 needs at least 19 calibration samples, got 12." in said
    parts = [part for part in parts_of(skanomaly.load(model)) if hasattr(part, "verbose")]
    assert {part.verbose for part in parts} == {0}
    command = ["score", str(model), images, "--out", str(folder / "scores"), "--report", str(folder / "r.html")]
    assert main([*command, "--quiet"]) == 0
    captured = capsys.readouterr()
    assert captured.err == ""
    assert captured.out == f"{folder}/scores/scores.csv: 12 images, 0 flagged\n{folder}/r.html: report\n"


@pytest.fixture
def heeds_ctrl_c():
    """Set the handler of an interactive session; background processes inherit one that ignores the signal."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("heeds_ctrl_c")
def test_watching_ends_with_ctrl_c(folder, capsys):
    model, images, out = folder / "model.skops", folder / "new", folder / "scores"
    assert main(["fit", str(folder / "train/good"), "-o", str(model), *QUICK]) == 0
    images.mkdir()

    def act():
        (images / "a.png").write_bytes((folder / "test/good/0.png").read_bytes())
        for _ in range(600):
            time.sleep(0.05)
            if (out / "scores.csv").is_file() and len(read_table(out / "scores.csv")) == 1:
                break
        _thread.interrupt_main()

    thread = threading.Thread(target=act)
    thread.start()
    assert main(["score", str(model), str(images), "--out", str(out), "--watch", "--interval", "0.05"]) == 0
    thread.join()
    captured = capsys.readouterr()
    assert captured.out.endswith(f"{out}/scores.csv: stopped\n")
    assert f"watching {images}; press Ctrl-C to stop" in captured.err
    assert main(["score", str(model), str(images), "--out", str(out), "--quiet"]) == 0  # it is not locked


def test_a_missing_extra_is_named(folder, capsys, monkeypatch):
    model = str(folder / "model.skops")
    assert main(["fit", str(folder / "train/good"), "-o", model, *QUICK]) == 0
    for name in [name for name in sys.modules if name.startswith("skanomaly.plotting")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.delattr(skanomaly, "plotting", raising=False)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert main(["score", model, str(folder / "test/good"), "--out", str(folder / "o"), "--overlays"]) == 2
    assert main(["demo"]) == 2
    error = "skanomaly: error: skanomaly.plotting needs matplotlib, which is not installed; install it: pip install "
    assert capsys.readouterr().err == 2 * f"{error}'skanomaly[plot]'\n"


def test_a_stopped_run_goes_on(folder, capsys):
    model, out = str(folder / "model.skops"), folder / "scores"
    command = ["score", model, str(folder / "test" / "*" / "*.png"), "--out", str(out), "--quiet"]
    assert main(["fit", str(folder / "train/good"), "-o", model, *QUICK]) == 0
    assert main(command) == 0
    table = out / "scores.csv"
    whole = table.read_bytes()
    table.write_bytes(whole[: len(whole) * 2 // 3])  # died in the middle of a line
    assert main(command) == 0
    assert table.read_bytes() == whole
    assert main(command) == 0
    assert table.read_bytes() == whole


def test_scores_of_two_models_are_not_mixed(folder, capsys):
    for seed in ("0", "1"):
        model = str(folder / f"{seed}.skops")
        assert main(["fit", str(folder / "train/good"), "-o", model, "--seed", seed, *QUICK]) == 0
    arguments = [str(folder / "test/good"), "--out", str(folder / "scores"), "--quiet"]
    assert main(["score", str(folder / "0.skops"), *arguments]) == 0
    assert main(["score", str(folder / "1.skops"), *arguments]) == 2
    assert "a model other than" in capsys.readouterr().err


def test_inpainting_a_folder(folder, capsys):
    model, out = str(folder / "model.skops"), folder / "filled"
    quick = ["--quiet", "--set", "model__features__image_size=16", "--set", "model__max_epochs=1", "--set", "n_steps=2"]
    assert main(["fit", str(folder / "train/good"), "-o", model, "--method", "projection", *quick]) == 0
    (folder / "masks").mkdir()
    for i in range(3):
        mask = np.zeros((60 + i, 64), np.uint8)
        mask[10:20, 5 : 15 + i] = 255
        Image.fromarray(mask).save(folder / "masks" / f"{i}_mask.png")
    images = sorted((folder / "test/good").iterdir())
    arguments = [
        "inpaint",
        model,
        str(folder / "test/good"),
        "--masks",
        str(folder / "masks"),
        "-o",
        str(out),
        "--quiet",
    ]
    assert main(arguments) == 0
    detector = skanomaly.load(model)
    for i, (path, written) in enumerate(zip(images, sorted(out.iterdir()), strict=True)):
        mask = np.asarray(Image.open(folder / "masks" / f"{i}_mask.png")) > 0
        filled, original = np.asarray(Image.open(written)), np.asarray(Image.open(path))
        expected = detector.inpaint([original], [mask])[0]
        np.testing.assert_array_equal(filled, np.rint(255 * expected))
        np.testing.assert_array_equal(filled[~mask], original[~mask])
        assert (filled[mask] != original[mask]).any()
    (folder / "masks" / "1_mask.png").unlink()
    assert main(arguments) == 2
    assert "masks: 1 of 3 images have no mask, e.g. " in capsys.readouterr().err
    assert main(["inpaint", model, str(images[0]), "--masks", "gone/*", "-o", str(out)]) == 2
    assert "--masks: 'gone/*' matches no file" in capsys.readouterr().err


def test_only_some_models_inpaint(folder, capsys):
    model = str(folder / "model.skops")
    assert main(["fit", str(folder / "train/good"), "-o", model, *QUICK]) == 0
    assert (
        main(["inpaint", model, str(folder / "test/hole"), "--masks", str(folder / "ground_truth/hole"), "-o", "x"])
        == 2
    )
    assert "The model is of type PatchCore, which has no inpaint; fit a GradientProjection." in capsys.readouterr().err


PRETRAINED = ["backbone=test_efficientnet", "layers=('bn2',)", "weights=random", "image_size=32"]
SETTINGS = {
    "feature-decoder": ["features__image_size=32", "max_epochs=1"],
    "ano-unet": ["features__image_size=32", "n_steps=1", "network__channels=2", "network__depth=2"],
}


@pytest.mark.parametrize("method", SETTINGS)
def test_detectors_around_a_feature_net(folder, method, capsys):
    settings = [*SETTINGS[method], *(f"feature_net__features__{setting}" for setting in PRETRAINED)]
    arguments = [argument for setting in settings for argument in ("--set", setting)]
    command = ["evaluate", str(folder), "--method", method, "--out", str(folder / "out"), "--quiet", *arguments]
    assert main(command) == 0
    assert "overlay sheet   " in capsys.readouterr().out
    assert (folder / "out" / f"{folder.name}.png").exists()


def test_settings_may_name_classes():
    names = {"model=VAE": skanomaly.VAE, "network=UNet": skanomaly.networks.UNet, "way=save": str}
    assert {text: type(_setting(text)[1]) for text in names} == names


@pytest.mark.parametrize("rate", ["5", "1", "0", "-1", "nan", "5%"])
@pytest.mark.parametrize("command", [["fit", "x", "-o", "m"], ["score", "m", "x", "--out", "o"], ["evaluate", "x"]])
def test_rates_outside_0_and_1_are_refused(command, rate, capsys):
    with pytest.raises(SystemExit, match="2"):
        main([*command, f"--false-alarm-rate={rate}"])
    assert f"{rate} is not accepted; it must be between 0 and 1, such as 0.05 for 5 %" in capsys.readouterr().err


def test_what_scoring_says(folder, capsys):
    """It counts what is flagged, names what cannot be read, and says why a folder of results is not taken."""
    model, images, out = str(folder / "model.skops"), folder / "test", str(folder / "out")
    assert main(["fit", str(folder / "train/good"), "-o", model, *QUICK]) == 0
    (images / "empty.png").touch()
    (images / "note.png").write_text("no image")
    capsys.readouterr()
    command = ["score", model, str(images / "**"), "--out", out, "--quiet"]
    assert main(command) == 1
    captured, rows = capsys.readouterr(), read_table(folder / "out" / "scores.csv")
    n_flagged = sum(row["label"] == "-1" for row in rows)
    assert captured.out == f"{out}/scores.csv: 6 images, {n_flagged} flagged, 2 unreadable\n"
    assert "2 of 6 images could not be read: 'empty.png', 'note.png'; " in captured.err
    reasons = {row["path"].rpartition("/")[2]: row["error"] for row in rows if row["error"]}
    assert reasons == {
        "empty.png": f"The file cannot be read as an image: {images}/empty.png (an empty file)",
        "note.png": f"The file cannot be read as an image: {images}/note.png (not an image format that Pillow knows)",
    }
    assert main([*command, "--false-alarm-rate", "0.2"]) == 2
    assert "holds results with false_alarm_rate=0.05, not 0.2; choose another folder" in capsys.readouterr().err
    assert main(["score", str(folder / "modle"), str(images), "--out", out]) == 2
    assert f"MODEL: '{folder}/modle' does not exist; it must be a file that" in capsys.readouterr().err
    assert main(["score", model, str(images / "good/*.jpg"), "--out", out]) == 2
    assert "*.jpg' matches no file; its folder contains 3 images, such as '0.png'" in capsys.readouterr().err


def test_no_path_is_passed_over(folder, capsys):
    """A missing image is a row with an error; whatever else stands for nothing stops the command."""
    model, good, out = str(folder / "model.skops"), str(folder / "train/good"), str(folder / "out")
    assert main(["fit", good, str(folder / "nodir"), "-o", model, *QUICK]) == 2
    assert "IMAGES: there is no file or folder" in capsys.readouterr().err
    assert main(["fit", good, "-o", model, *QUICK]) == 0
    assert main(["score", model, good, str(folder / "*.gif"), "--out", out]) == 2
    assert not (folder / "out").exists()
    assert main(["score", model, good, str(folder / "gone.png"), "--out", out, "--quiet"]) == 1
    errors = [row["path"] for row in read_table(folder / "out" / "scores.csv") if "no such file" in row["error"]]
    assert errors == [str(folder / "gone.png")]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--methods", "a=patchcore", "a=padim"], "--methods: names must differ, but are a, a"),
        (["--methods", "padim", "spade", "--against", "padim", "spade=padim"], "must be one METHOD, or METHOD=BASE"),
    ],
)
def test_nothing_of_a_comparison_is_passed_over(folder, capsys, arguments, message):
    assert main(["evaluate", str(folder), *arguments]) == 2
    assert message in capsys.readouterr().err


def test_a_detector_without_threshold_is_evaluated(folder, capsys):
    command = ["evaluate", str(folder), "--out", str(folder / "out"), *QUICK, "--set", "false_alarm_rate=None"]
    assert main(command) == 0
    printed = capsys.readouterr().out
    assert "image AUROC" in printed
    assert "none: no maps, or no threshold" in printed
