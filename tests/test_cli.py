import numpy as np
import pytest
from PIL import Image

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


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["evaluate", "nowhere"], "root='nowhere' is no MVTec folder: it has no train/good and no test"),
        (["demo", "--data", "nowhere"], "nowhere"),
        (["evaluate", "FOLDER", "--set", "coreset_ratio"], "accepted is NAME=VALUE"),
        (["evaluate", "FOLDER", "--set", "coreset_ratio=3"], "'coreset_ratio' parameter"),
        (["evaluate", "FOLDER", "--set", "nonsense=3"], "Invalid parameter 'nonsense'"),
    ],
)
def test_errors_are_one_line_and_status_2(folder, capsys, arguments, message):
    assert main([str(folder) if a == "FOLDER" else a for a in arguments]) == 2
    captured = capsys.readouterr()
    assert message in captured.err
    assert captured.err.startswith("skanomaly: error: ")
    assert captured.err.count("\n") == 1
