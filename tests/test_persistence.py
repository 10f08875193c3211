import functools
import itertools
import json
import operator
import shutil
import subprocess
import sys
import zipfile

import joblib
import numpy as np
import pytest
import skops.io
import torch
from sklearn.base import BaseEstimator, clone
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from sklearn.svm import OneClassSVM
from sklearn.utils import Bunch

import skanomaly
from skanomaly import (
    Aligned,
    ConformalDetector,
    FitOnNormal,
    GaussianScorer,
    GreedyCoreset,
    KNNScorer,
    PaDiM,
    PatchCore,
    PatchFeatures,
    Pixels,
    PretrainedPatchFeatures,
    SubspaceScorer,
    VariationModel,
    load,
    persistence,
    save,
)
from skanomaly._model_files.archive import seal
from skanomaly._networks import backbones
from skanomaly.exceptions import MissingWeightsError, ModelFileError
from skanomaly.scoring._grids import GridScorer

pytestmark = pytest.mark.filterwarnings("ignore::skanomaly.exceptions.CalibrationWarning")


@pytest.fixture(autouse=True)
def _no_networks_of_other_tests():
    yield
    backbones._shared_backbone.cache_clear()


class Smuggled(BaseEstimator):
    """Stands for a type that a stranger put into a file."""

    def fit(self, X, y=None):
        self.fitted_ = True
        return self


def smuggle(path, estimator):
    """Write a model file of an estimator that `save` would refuse."""
    content = {"skanomaly": skanomaly.__version__, "layout": persistence._LAYOUT, "estimator": estimator}
    skops.io.dump(content, path)
    seal(path)


def forge(path, node):
    """Write a model file whose estimator is made by a node of one's own."""
    content = {"skanomaly": constant(skanomaly.__version__), "layout": constant(persistence._LAYOUT), "estimator": node}
    top = container("DictNode", "dict", content=content)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("schema.json", json.dumps({**with_keys(top), "protocol": 2}))
        archive.writestr("0.npy", b"")
    seal(path)


NUMBERS = itertools.count(1)


def item(loader, module, name, **content):
    return {"__loader__": loader, "__module__": module, "__class__": name, "__id__": next(NUMBERS), **content}


def container(loader, name, content):
    return item(loader, "builtins", name, content=content)


def constant(value):
    return item("JsonNode", "builtins", "str", content=json.dumps(value), is_json=True)


def with_keys(node):
    types = [item("TypeNode", "builtins", "str") for _ in node["content"]]
    return {**node, "key_types": container("ListNode", "list", types)}


def scorer_attributes(**values):
    """Return the parameters of a KNNScorer."""
    return attributes(**{name: constant(value) for name, value in KNNScorer().get_params().items()} | values)


def attributes(**values):
    return with_keys(container("DictNode", "dict", values))


def arguments(*values):
    return container("TupleNode", "tuple", list(values))


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
    name = f"{Smuggled.__module__}.Smuggled"
    with pytest.raises(ModelFileError, match=f"Pipeline cannot be stored, .* not trusted: {name}"):
        save(estimator, tmp_path / "m")
    assert list(tmp_path.iterdir()) == []
    save(estimator, tmp_path / "m", trusted=[name])
    with pytest.raises(ModelFileError, match=f"not trusted: {name}"):
        load(tmp_path / "m")
    assert load(tmp_path / "m", trusted=[name])[0].fitted_


@pytest.mark.parametrize("evil", ["os.system", "numpy.testing._private.utils.runstring", "skanomaly.cli.main"])
def test_functions_are_refused_by_name(evil, tmp_path):
    import importlib

    module, name = evil.rsplit(".", 1)
    estimator = KNNScorer()
    estimator.n_neighbors = getattr(importlib.import_module(module), name)
    with pytest.raises(ModelFileError, match=name):
        save(estimator, tmp_path / "m")
    smuggle(tmp_path / "m", estimator)
    with pytest.raises(ModelFileError, match=name):
        load(tmp_path / "m")


OTHERS = {"save", "load", "anomaly_map", "select_anomalies", "Reference"}  # a reference is never saved
ESTIMATORS = [name for name in skanomaly.__all__ if name not in OTHERS]


def test_the_public_names_are_estimators_and_functions():
    assert all(issubclass(getattr(skanomaly, name), BaseEstimator) for name in ESTIMATORS)


@pytest.mark.parametrize("name", ESTIMATORS)
def test_every_public_estimator_is_trusted(name, tmp_path):
    cls = getattr(skanomaly, name)
    around = {
        **dict.fromkeys(("Augmented", "Aligned"), Pixels()),
        **dict.fromkeys(("FitOnNormal", "ConformalDetector", "GradientProjection"), KNNScorer()),
    }
    estimator = cls(around[name]) if name in around else cls()
    save(make_pipeline(estimator), tmp_path / "m")
    assert type(load(tmp_path / "m")[0]) is cls


SAVE = ("skanomaly.persistence", "save")
SCORER = (KNNScorer.__module__, "KNNScorer")
EMPTY_DICT = attributes()
CALLS = {
    "a function": item("FunctionNode", *SAVE),
    "a function as a type": item("TypeNode", *SAVE),
    "a function as an object": item("ObjectNode", *SAVE, content=attributes()),
    "a function called by its reduction": item(
        "ConstructorFromReduceNode", *SAVE, content=arguments(constant("x"), constant("victim"))
    ),
    "a function called as a loss": item(
        "LossNode", *SAVE, __reduce__={"args": arguments(constant("x"), constant("victim"))}, content=attributes()
    ),
    "a function called on a list": item("ListNode", *SAVE, content=[constant("victim")]),
    "a function called on a set": item("SetNode", *SAVE, content=[constant("victim")]),
    "a function called on a tuple": item("TupleNode", *SAVE, content=[constant("victim")]),
    "a function called for a dict": item(
        "DictNode", *SAVE, content={}, key_types=container("ListNode", "list", [])
    ),
    "a function called on the keys": {
        **container("DictNode", "dict", {"victim": constant(1)}),
        "key_types": container("ListNode", "list", [item("TypeNode", "skanomaly.persistence", "load")]),
    },
    "a function called on an array": item("NdArrayNode", *SAVE, type="numpy", file="0.npy"),
    "a function called for a random state": item("RandomStateNode", *SAVE, content=attributes()),
    "a function of an older format": item(
        "FunctionNode", "builtins", "int", content={"module_path": SAVE[0], "function": SAVE[1]}
    ),
    "a function by the name of the package": item("FunctionNode", "skanomaly", "save"),
    "a function bound to arguments": item(
        "PartialNode", "functools", "partial",
        content={"func": item("FunctionNode", *SAVE), "args": arguments(), "kwds": EMPTY_DICT, "namespace": EMPTY_DICT},
    ),
    "a function as the default of a dict": item(
        "DefaultDictNode", "collections", "defaultdict",
        content={"main": EMPTY_DICT, "default_factory": item("FunctionNode", *SAVE)},
    ),
    "a function under a key that looks like a module": attributes(__module__=item("FunctionNode", *SAVE)),
    "a method": item(
        "MethodNode", *SCORER, content={"func": "set_bank", "obj": item("ObjectNode", *SCORER, content=attributes())}
    ),
    "an estimator as a type": item("TypeNode", *SCORER),
    "an estimator called": item("ConstructorFromReduceNode", *SCORER, content=arguments(constant(3))),
    "an estimator under another name": item("ObjectNode", "skanomaly.persistence", "KNNScorer", content=attributes()),
    "a class that is not public": item("ObjectNode", "skanomaly.features._cache", "FeatureCache", content=attributes()),
    "a class of others in a module of ours": item(
        "ObjectNode", "skanomaly.persistence", "BaseEstimator", content=attributes()
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", CALLS)
@pytest.mark.parametrize("nested", [False, True])
def test_a_model_file_makes_our_estimators_from_attributes_only(case, nested, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "victim").write_text("precious")
    node = CALLS[case]
    if nested:
        func = {"func": node, "validate": constant(False)}
        node = item("ObjectNode", FunctionTransformer.__module__, "FunctionTransformer", content=attributes(**func))
    forge(tmp_path / "m", node)
    everything = [f"skanomaly{end}" for end in (".save", ".persistence.save", ".persistence.load")]
    everything += ["functools.partial", ".".join(SCORER), ".".join(SCORER) + ".set_bank"]
    everything += ["skanomaly.features._cache.FeatureCache", "skanomaly.persistence.BaseEstimator"]
    for trusted in ((), everything):
        with pytest.raises(ModelFileError, match="m' refers to skanomaly.* trusted=.* does not change this"):
            load(tmp_path / "m", trusted=trusted)
    assert (tmp_path / "victim").read_text() == "precious"


def test_estimators_are_made_from_attributes(tmp_path):
    forge(tmp_path / "m", item("ObjectNode", *SCORER, content=scorer_attributes(n_neighbors=constant(7))))
    assert load(tmp_path / "m").n_neighbors == 7
    forge(tmp_path / "m", item("ObjectNode", *SCORER, content=attributes(n_neighbors=constant(7))))
    with pytest.raises(ModelFileError, match="KNNScorer has no parameter 'algorithm'"):
        load(tmp_path / "m")


class Inherits(KNNScorer):
    """A user's subclass: its methods are ours."""


renamed = skanomaly.load


@pytest.mark.parametrize(
    ("smuggled", "name"),
    [
        (skanomaly.save, "skanomaly.persistence.save"),
        (functools.partial(skanomaly.save, path="x"), "skanomaly.persistence.save"),
        (KNNScorer().set_bank, "skanomaly.scoring._knn.KNNScorer"),
        (PretrainedPatchFeatures().use_network_state, "PretrainedPatchFeatures"),
        (operator.methodcaller("set_bank", KNNScorer), "skanomaly.scoring._knn.KNNScorer"),
        (KNNScorer, "skanomaly.scoring._knn.KNNScorer"),
    ],
    ids=["a function", "a partial", "a method", "a method of features", "a method caller", "a class"],
)
def test_functions_of_ours_are_refused_even_if_trusted(smuggled, name, tmp_path):
    smuggle(tmp_path / "m", FunctionTransformer(smuggled))
    everything = skops.io.get_untrusted_types(file=tmp_path / "m")
    with pytest.raises(ModelFileError, match=f"refers to .*{name}"):
        load(tmp_path / "m", trusted=everything)


def test_functions_of_ours_are_refused_under_other_names(tmp_path):
    scorer = item("ObjectNode", __name__, "Inherits", content=scorer_attributes())
    method = item("MethodNode", __name__, "Inherits", content={"func": "set_bank", "obj": scorer})
    for node, name in ((item("FunctionNode", __name__, "renamed"), "renamed"), (method, "Inherits.set_bank")):
        forge(tmp_path / "m", node)
        with pytest.raises(ModelFileError, match=f"not trusted: .*{__name__}.{name}"):
            load(tmp_path / "m")
        with pytest.raises(ModelFileError, match=f"refers to {__name__}.{name}"):
            load(tmp_path / "m", trusted=[f"{__name__}.{name}", f"{__name__}.Inherits"])
    forge(tmp_path / "m", scorer)
    assert type(load(tmp_path / "m", trusted=[f"{__name__}.Inherits"])) is Inherits


def test_state_classes_are_trusted_where_they_are_registered(tmp_path, monkeypatch):
    cache = "skanomaly.features._cache"
    forge(tmp_path / "m", item("ObjectNode", cache, "FeatureCache", content=attributes(max_bytes=constant(7))))
    with pytest.raises(ModelFileError, match="refers to skanomaly.features._cache.FeatureCache"):
        load(tmp_path / "m")
    monkeypatch.setattr(persistence, "_STATE_CLASSES", (f"{cache}:FeatureCache", "skanomaly.nowhere:Nothing"))
    with pytest.raises(ModelFileError, match="holds an object of type FeatureCache, no estimator"):
        load(tmp_path / "m")  # it was made, and is not what a model file is for
    forge(tmp_path / "m", item("ConstructorFromReduceNode", cache, "FeatureCache", content=arguments(constant("x"))))
    with pytest.raises(ModelFileError, match="refers to skanomaly.features._cache.FeatureCache"):
        load(tmp_path / "m")
    forge(tmp_path / "m", item("ObjectNode", "skanomaly.nowhere", "Nothing", content=attributes()))
    with pytest.raises(ModelFileError, match="refers to skanomaly.nowhere.Nothing"):
        load(tmp_path / "m")


def test_attributes_of_a_file_are_not_called(tmp_path, cloth, small_features):
    """`load` calls the methods of classes, never an attribute that has the name of a method."""
    features = small_features.fit(cloth.X_train)
    forged = FunctionTransformer(np.add)
    forged.weights_sha256_, forged.use_network_state = features.weights_sha256_, np.add
    save(make_pipeline(forged, features), tmp_path / "m", include_weights=True)
    load(tmp_path / "m")


def test_other_skops_files_are_refused(tmp_path):
    for content in ([1], {"estimator": 1}):
        skops.io.dump(content, tmp_path / "m")
        for prepare in (str, seal):
            prepare(tmp_path / "m")
            with pytest.raises(ModelFileError, match="not written by skanomaly.save"):
                load(tmp_path / "m")


def test_models_of_another_layout_are_refused(tmp_path):
    """Before 0.1.0 was released, detectors had other attributes."""
    skops.io.dump({"skanomaly": skanomaly.__version__, "estimator": KNNScorer()}, tmp_path / "m")
    seal(tmp_path / "m")
    with pytest.raises(ModelFileError, match="development version of skanomaly.*fit and save the model again"):
        load(tmp_path / "m", trusted=["skanomaly.scoring._knn.KNNScorer"])


def holders(part):
    """Yield all estimators in which a file could hide another, as (holder, path to what it holds)."""
    pipeline = make_pipeline(part, KNNScorer())
    yield "a pipeline", pipeline, lambda held: held[0]
    yield "a wrapper", ConformalDetector(pipeline), lambda held: held.estimator[0]
    yield "a search", GridSearchCV(KNNScorer(), {"n_neighbors": [part]}), lambda held: held.param_grid["n_neighbors"][0]
    yield "a dict", FunctionTransformer(kw_args={"a": [{"b": (part,)}]}), lambda held: held.kw_args["a"][0]["b"][0]
    array = np.array([[part, 1], [2, 3]], dtype=object)
    yield "an array", FunctionTransformer(kw_args={"a": array}), lambda held: held.kw_args["a"][0, 0]
    fitted = FitOnNormal(KNNScorer())
    fitted.estimator_, fitted.n_normal_ = part, 1
    yield "fitted attributes", fitted, lambda held: held.estimator_
    yield (
        "attributes of no estimator",
        FunctionTransformer(kw_args={"a": Bunch(b=part)}),
        lambda held: held.kw_args["a"].b,
    )


def test_caches_of_a_file_are_not_used(tmp_path, small_features):
    folder = str(tmp_path / "cache")
    features = clone(small_features).set_params(memory=folder, memory_limit=0)
    for name, holder, held in holders(make_pipeline(features, memory=folder)):
        save(holder, tmp_path / "m", trusted=["sklearn.utils._bunch.Bunch"])
        with zipfile.ZipFile(tmp_path / "m") as archive:
            assert folder not in archive.read("schema.json").decode()
        pipeline = held(load(tmp_path / "m", trusted=["sklearn.utils._bunch.Bunch"]))
        assert pipeline.memory is None, name
        assert pipeline[0].memory is None, name
        assert pipeline[0].memory_limit == PretrainedPatchFeatures().memory_limit, name
    assert features.memory == folder  # saving changes nothing


def test_a_loaded_model_writes_to_no_cache(tmp_path, cloth, small_features):
    folder = tmp_path / "cache"
    features = clone(small_features).set_params(memory=str(folder), memory_limit=0)
    detector = PatchCore(features, random_state=0).fit(cloth.X_train)
    scores = detector.score_samples(cloth.X_test)
    save(detector, tmp_path / "m")
    shutil.rmtree(folder)
    again = load(tmp_path / "m")
    np.testing.assert_array_equal(again.score_samples(cloth.X_test), scores)
    assert not folder.exists()
    again.features_.set_params(memory=str(folder))
    again.score_samples(cloth.X_test)
    assert len(list(folder.glob("??/*.grid"))) == 2 * len(cloth.X_test)  # grids, and digests of images


@pytest.fixture(scope="module")
def own_weights(tmp_path_factory, small_features, cloth):
    """A file of weights, and features that were fitted with it."""
    path = tmp_path_factory.mktemp("weights") / "own.pth"
    state = clone(small_features).fit(cloth.X_train).network_state()
    torch.save({name: torch.from_numpy(value) for name, value in state.items()}, path)
    return path, PretrainedPatchFeatures(weights=str(path), image_size=64).fit(cloth.X_train)


def test_weight_files_are_not_opened_by_a_model_file(tmp_path, cloth, own_weights, monkeypatch):
    path, features = own_weights
    detector = PatchCore(features, random_state=0).fit(cloth.X_train)
    scores = detector.score_samples(cloth.X_test)
    save(detector, tmp_path / "m")
    with monkeypatch.context() as patch:
        patch.setattr(torch, "load", None)
        patch.setattr("skanomaly._networks.backbones._from_timm", None)
        again = load(tmp_path / "m")
        assert again.features.weights == again.features_.weights == "withheld: own.pth"
        for use in (again.score_samples, clone(again).fit):  # never other weights instead
            with pytest.raises(
                MissingWeightsError, match=r"from a file, 'own.pth'.*features_.set_params\(weights='path"
            ):
                use(cloth.X_test)
    save(again, tmp_path / "m")
    assert load(tmp_path / "m").features.weights == "withheld: own.pth"
    again.features_.set_params(weights=str(path))
    np.testing.assert_array_equal(again.score_samples(cloth.X_test), scores)


def test_weight_files_are_checked_when_they_are_set(tmp_path, cloth, own_weights, small_features):
    save(own_weights[1], tmp_path / "m")
    again = load(tmp_path / "m")
    other = clone(small_features).set_params(random_state=1).fit(cloth.X_train).network_state()
    torch.save({name: torch.from_numpy(value) for name, value in other.items()}, tmp_path / "other.pth")
    with pytest.raises(ValueError, match="are not the weights used in fit: SHA-256"):
        again.set_params(weights=str(tmp_path / "other.pth")).transform(cloth.X_test)


def test_included_weights_stand_in_for_a_file(tmp_path, cloth, own_weights, monkeypatch):
    _, features = own_weights
    save(features, tmp_path / "m", include_weights=True)
    again = load(tmp_path / "m")
    monkeypatch.setattr(torch, "load", None)
    np.testing.assert_array_equal(again.transform(cloth.X_test), features.transform(cloth.X_test))
    save(again, tmp_path / "m2", include_weights=True)
    np.testing.assert_array_equal(load(tmp_path / "m2").transform(cloth.X_test), features.transform(cloth.X_test))


@pytest.mark.parametrize("weights", [None, "random"])
def test_weights_that_are_no_path_are_kept(weights, tmp_path):
    save(PatchCore(PretrainedPatchFeatures(weights=weights)), tmp_path / "m")
    assert load(tmp_path / "m").features.weights == weights


def test_damaged_foreign_and_newer_files(tmp_path, rng, monkeypatch):
    with pytest.raises(FileNotFoundError, match="gone"):
        load(tmp_path / "gone")
    (tmp_path / "text").write_text("no model")
    with pytest.raises(ModelFileError, match="not a model file, or is damaged"):
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
    backbones._shared_backbone.cache_clear()
    with pytest.raises(MissingWeightsError):
        load(tmp_path / "needs").score_samples(cloth.X_test)
    np.testing.assert_array_equal(load(tmp_path / "alone").score_samples(cloth.X_test), scores)


@pytest.mark.parametrize(
    ("detector", "changed"),
    [
        (GaussianScorer(), {"ridge": 10.0}),
        (SubspaceScorer(1), {"n_components": 3}),
        (PaDiM(PatchFeatures(8, image_size=32), n_channels=5, random_state=0), {"ridge": 10.0}),
        (VariationModel(Aligned(Pixels(32))), {"features__motion": "rigid", "features__match_light": True}),
    ],
    ids=lambda value: type(value).__name__ if not isinstance(value, dict) else "",
)
@pytest.mark.filterwarnings("ignore::skanomaly.exceptions.CalibrationWarning")
def test_parameters_act_at_the_next_fit_in_memory_and_in_a_file(detector, changed, cloth, rng, tmp_path):
    rows = rng.normal(size=(60, 5)) * [5, 3, 2, 1, 0.5]
    X, queries = (rows, rows[:4] + 1) if isinstance(detector, GridScorer) else (cloth.X_train, cloth.X_test[:4])
    detector = clone(detector).fit(X)
    if isinstance(detector, VariationModel):
        changed = {name.replace("features__", ""): value for name, value in changed.items()}
        detector.features_.set_params(**changed)
    expected = detector.score_samples(queries)
    detector.set_params(**{name: value for name, value in changed.items() if name in detector.get_params()})
    np.testing.assert_array_equal(detector.score_samples(queries), expected)
    save(detector, tmp_path / "m.skops")
    np.testing.assert_array_equal(load(tmp_path / "m.skops").score_samples(queries), expected)
