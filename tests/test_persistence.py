import json
import subprocess
import sys
import zipfile

import joblib
import numpy as np
import pytest
from sklearn.base import BaseEstimator
from sklearn.pipeline import make_pipeline
from sklearn.svm import OneClassSVM

import skanomaly
from skanomaly import ConformalDetector, GreedyCoreset, KNNScorer, PatchCore, load, save
from skanomaly.exceptions import MissingWeightsError, ModelFileError

pytestmark = pytest.mark.filterwarnings("ignore::skanomaly.exceptions.CalibrationWarning")


class Smuggled(BaseEstimator):
    """Stands for a type that a stranger put into a file."""

    def fit(self, X, y=None):
        self.fitted_ = True
        return self


def test_scores_are_the_same_bits_in_a_new_process(small_features, cloth, tmp_path):
    detector = PatchCore(small_features, random_state=0).fit(cloth.X_train)
    save(detector, tmp_path / "model.skops")
    np.save(tmp_path / "X.npy", cloth.X_test)
    code = (
        "import sys, numpy as np, skanomaly; model = skanomaly.load('model.skops');"
        "X = np.load('X.npy'); np.savez('out.npz', model.score_samples(X), model.anomaly_map(X), model.predict(X))"
    )
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True)
    scores, maps, labels = np.load(tmp_path / "out.npz").values()
    np.testing.assert_array_equal(scores, detector.score_samples(cloth.X_test))
    np.testing.assert_array_equal(maps, detector.anomaly_map(cloth.X_test))
    np.testing.assert_array_equal(labels, detector.predict(cloth.X_test))


def test_the_file_holds_no_pickle(small_features, cloth, tmp_path):
    save(PatchCore(small_features).fit(cloth.X_train), tmp_path / "model.skops")
    with zipfile.ZipFile(tmp_path / "model.skops") as archive:
        names = archive.namelist()
        assert {name.rsplit(".")[-1] for name in names} <= {"json", "npy"}
        for name in names:
            if name.endswith("npy"):
                np.load(archive.open(name), allow_pickle=False)
        text = archive.read("schema.json").decode()
    assert "pickle" not in {
        node.get("__loader__") for node in json.loads(text)["content"].values() if isinstance(node, dict)
    }
    assert skanomaly.__version__ in text


@pytest.mark.parametrize(
    "estimator",
    [
        KNNScorer(3),
        ConformalDetector(KNNScorer(), random_state=0),
        ConformalDetector(OneClassSVM(), random_state=0),
        make_pipeline(GreedyCoreset(0.5, random_state=0), KNNScorer()),
    ],
)
def test_row_estimators_survive(estimator, tmp_path, rng):
    X = rng.normal(size=(60, 3))
    estimator.fit(X)
    save(estimator, tmp_path / "a")
    joblib.dump(estimator, tmp_path / "b")
    for again in (load(tmp_path / "a"), joblib.load(tmp_path / "b")):
        np.testing.assert_array_equal(again.score_samples(X), estimator.score_samples(X))
        np.testing.assert_array_equal(again.predict(X), estimator.predict(X))


def test_a_smuggled_type_is_refused_by_name(tmp_path, rng):
    estimator = make_pipeline(Smuggled()).fit(rng.normal(size=(5, 2)))
    save(estimator, tmp_path / "m")
    name = f"{Smuggled.__module__}.Smuggled"
    with pytest.raises(ModelFileError, match=f"not trusted: {name}"):
        load(tmp_path / "m")
    assert load(tmp_path / "m", trusted=[name])[0].fitted_


@pytest.mark.parametrize("evil", ["os.system", "numpy.testing._private.utils.runstring", "skanomaly.cli.main"])
def test_functions_are_refused_by_name(evil, tmp_path):
    import importlib

    module, name = evil.rsplit(".", 1)
    estimator = KNNScorer()
    estimator.n_neighbors = getattr(importlib.import_module(module), name)
    save(estimator, tmp_path / "m")
    with pytest.raises(ModelFileError, match=name):
        load(tmp_path / "m")


def test_damaged_foreign_and_newer_files(tmp_path, rng, monkeypatch):
    with pytest.raises(FileNotFoundError, match="gone"):
        load(tmp_path / "gone")
    (tmp_path / "text").write_text("no model")
    with pytest.raises(ModelFileError, match="no model file, or damaged"):
        load(tmp_path / "text")
    save(KNNScorer().fit(rng.normal(size=(30, 2))), tmp_path / "m")
    (tmp_path / "half").write_bytes((tmp_path / "m").read_bytes()[:2000])
    with pytest.raises(ModelFileError, match="half"):
        load(tmp_path / "half")
    monkeypatch.setattr("skanomaly.__version__", "0.0.1")
    with pytest.raises(ModelFileError, match="newer than this 0.0.1"):
        load(tmp_path / "m")


def test_a_failed_save_leaves_the_old_file(tmp_path, rng, monkeypatch):
    scorer = KNNScorer().fit(rng.normal(size=(30, 2)))
    save(scorer, tmp_path / "m")
    before = (tmp_path / "m").read_bytes()

    def fail(*args):
        raise OSError("disk full")

    monkeypatch.setattr("os.replace", fail)
    with pytest.raises(OSError, match="disk full"):
        save(scorer, tmp_path / "m")
    assert (tmp_path / "m").read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["m"]


@pytest.mark.weights
def test_included_weights_stand_in_for_missing_ones(tmp_path, cloth, monkeypatch):
    from skanomaly import PretrainedPatchFeatures
    from skanomaly._networks import backbones

    features = PretrainedPatchFeatures(image_size=64)
    detector = PatchCore(features, random_state=0).fit(cloth.X_train)
    scores = detector.score_samples(cloth.X_test)
    save(detector, tmp_path / "alone", include_weights=True)
    save(detector, tmp_path / "needs")
    assert (tmp_path / "alone").stat().st_size > (tmp_path / "needs").stat().st_size + 15e6

    def no_network(name):
        raise MissingWeightsError(name)

    monkeypatch.setattr(backbones, "_packaged_file", lambda name: None)
    monkeypatch.setattr(backbones, "_from_timm", no_network)
    backbones.load_backbone.cache_clear()
    with pytest.raises(MissingWeightsError):
        load(tmp_path / "needs").score_samples(cloth.X_test)
    np.testing.assert_array_equal(load(tmp_path / "alone").score_samples(cloth.X_test), scores)
    backbones._embedded.clear()
    backbones.load_backbone.cache_clear()
