import csv

import numpy as np
import pytest
from PIL import Image

import skanomaly
from skanomaly.cli import main

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
    assert "threshold" in capsys.readouterr().out
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
        (
            ["fit", "gone/*", "lot [3]", "-o", "m"],
            "IMAGES: 'gone/*' matches no file, 'lot [3]' matches no file; in a glob",
        ),
    ],
)
def test_errors_are_one_line_and_status_2(folder, capsys, arguments, message):
    assert main([str(folder) if a == "FOLDER" else a for a in arguments]) == 2
    captured = capsys.readouterr()
    assert message in captured.err
    assert captured.err.startswith("skanomaly: error: ")
    assert captured.err.count("\n") == 1


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
    regions = [int(row["largest_region"]) for row in rows]
    np.testing.assert_array_equal(np.array(regions) > 0, [mask.any() for mask in detector.anomaly_mask(paths)])


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
