"""What model files may hold and cost."""

import io
import json
import os
import pickle
import time
import tracemalloc
import zipfile

import numpy as np
import pandas as pd
import pytest
import skops.io
import torch
from scipy.sparse import csr_array
from sklearn.base import clone
from sklearn.compose import ColumnTransformer, make_column_selector
from sklearn.impute import KNNImputer, MissingIndicator, SimpleImputer
from sklearn.model_selection import GridSearchCV, StratifiedKFold
from sklearn.neighbors import LocalOutlierFactor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import (
    FunctionTransformer,
    OneHotEncoder,
    OrdinalEncoder,
    PowerTransformer,
    QuantileTransformer,
    StandardScaler,
)
from sklearn.random_projection import SparseRandomProjection

from skanomaly import (
    Autoencoder,
    Columns,
    FitOnNormal,
    GaussianScorer,
    GreedyCoreset,
    KNNScorer,
    PaDiM,
    PatchCore,
    SubspaceScorer,
    load,
    metrics,
    save,
)
from skanomaly._model_files.archive import seal
from skanomaly._model_files.documented import documented, misfit
from skanomaly._model_files.parts import rewritten
from skanomaly._networks import backbones
from skanomaly.exceptions import MissingWeightsError, ModelFileError
from skanomaly.networks import DenseNetwork
from skanomaly.thresholds import Calibration

pytestmark = pytest.mark.filterwarnings("ignore::skanomaly.exceptions.CalibrationWarning")
SCORERS = [name for name in metrics.__all__ if name.endswith("_scorer")]


@pytest.fixture
def table(rng):
    shop = rng.choice(list("abc"), 60)
    return pd.DataFrame({"amount": rng.lognormal(3, 1, 60), "shop": shop, "age": np.r_[np.nan, rng.normal(size=59)]})


NUMBERS = ["amount", "age"]
TRANSFORMERS = {
    "SimpleImputer": SimpleImputer(),
    "KNNImputer": KNNImputer(),
    "MissingIndicator": make_pipeline(MissingIndicator(features="all"), FunctionTransformer()),
    "ufunc": make_pipeline(SimpleImputer(), FunctionTransformer(np.exp, np.log)),
    "QuantileTransformer": make_pipeline(SimpleImputer(), QuantileTransformer(n_quantiles=9)),
    "PowerTransformer": make_pipeline(SimpleImputer(), PowerTransformer()),
    "SparseRandomProjection": make_pipeline(SimpleImputer(), SparseRandomProjection(2, random_state=0)),
}


@pytest.mark.parametrize("name", TRANSFORMERS)
def test_transformers_of_numbers_are_stored(name, table, tmp_path):
    pipeline = make_pipeline(TRANSFORMERS[name], KNNScorer()).fit(table[NUMBERS])
    check_round_trip(pipeline, table[NUMBERS], tmp_path)


def check_round_trip(model, X, tmp_path):
    save(model, tmp_path / "m")
    again = load(tmp_path / "m")
    np.testing.assert_array_equal(again.score_samples(X), model.score_samples(X))
    return again


@pytest.mark.parametrize("encoder", [OneHotEncoder(sparse_output=False), OrdinalEncoder()])
@pytest.mark.parametrize("chosen", [NUMBERS, make_column_selector(dtype_include=float)])
def test_column_transformers_are_stored(encoder, chosen, table, tmp_path):
    numbers = make_pipeline(SimpleImputer(), StandardScaler())
    columns = ColumnTransformer([("numbers", numbers, chosen), ("shop", encoder, ["shop"])])
    check_round_trip(make_pipeline(columns, KNNScorer()).fit(table), table, tmp_path)


@pytest.mark.parametrize("name", SCORERS)
def test_scorers_of_ours_are_the_same_object_everywhere(name, tmp_path, rng):
    scorer = getattr(metrics, name)
    assert pickle.loads(pickle.dumps(scorer)) is clone(scorer, safe=False) is scorer
    assert repr(scorer) == name
    X, y = rng.normal(size=(30, 2)), np.where(np.arange(30) % 5, 1, -1)
    search = GridSearchCV(FitOnNormal(KNNScorer()), {"estimator__n_neighbors": [1, 2]}, scoring=scorer)
    search.set_params(cv=StratifiedKFold(2, shuffle=True, random_state=0))
    if not name.startswith(("pixel", "aupro", "auspro", "region")):
        search.fit(X, y)
    save(search, tmp_path / "m")
    again = load(tmp_path / "m")
    assert again.scoring is scorer
    if hasattr(search, "best_score_"):
        assert again.score(X, y) == search.score(X, y)


def test_paths_are_stored_as_text_and_the_model_keeps_its_own(tmp_path, small_features):
    features = clone(small_features).set_params(memory=tmp_path / "cache")
    inner = FunctionTransformer(kw_args={"file": [tmp_path / "a"]})
    save(make_pipeline(features, inner), tmp_path / "m")
    again = load(tmp_path / "m")
    assert again[0].memory is None
    assert again[1].kw_args == {"file": [str(tmp_path / "a")]}
    assert features.memory == tmp_path / "cache"
    assert inner.kw_args == {"file": [tmp_path / "a"]}


@pytest.mark.parametrize(
    ("estimator", "named"),
    [
        (FunctionTransformer(len), "builtins.len"),
        (FunctionTransformer(kw_args={"a": lambda x: x}), "<lambda>"),
        (LocalOutlierFactor(3, novelty=True, algorithm="kd_tree").fit(np.eye(5)), "KDTree"),
        (FunctionTransformer(kw_args={"a": {True: 1}}), "key True"),
        (FunctionTransformer(kw_args={"a": {1: 1, "1": 2}}), "'1'"),
        (FunctionTransformer(kw_args={"a": {(1, 2): 1}}), "key .1, 2."),
        (FunctionTransformer(kw_args={"a": frozenset([1])}), "frozenset"),
        (FunctionTransformer(kw_args={"a": range(3)}), "range"),
        (KNNScorer(n_neighbors=0), "n_neighbors"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_load_would_refuse_is_refused_by_save(estimator, named, tmp_path):
    (tmp_path / "m").write_text("precious")
    with pytest.raises(ModelFileError, match=named):
        save(estimator, tmp_path / "m")
    assert [path.name for path in tmp_path.iterdir()] == ["m"]
    assert (tmp_path / "m").read_text() == "precious"


def test_leftovers_of_killed_saves_are_removed(tmp_path):
    old, new, other = (tmp_path / f".{name}.skanomaly" for name in ("m.abcd1234", "m.efgh5678", "other.abcd1234"))
    for path, age in ((old, 3700), (new, 3500), (other, 3700)):
        path.write_bytes(b"x")
        os.utime(path, (time.time() - age,) * 2)
    save(KNNScorer(), tmp_path / "m")
    assert not old.exists()
    assert new.exists()
    assert other.exists()


# ------------------------------------------------------------------------------------------------- weights


@pytest.fixture
def no_weights(monkeypatch):
    """No weights are installed or cached, and nothing can be downloaded."""

    def fetch(*args, **options):
        raise AssertionError("fetched")

    monkeypatch.setattr(backbones, "_packaged_file", lambda name: None)
    monkeypatch.setattr(backbones, "_cached_files", lambda config: [])
    monkeypatch.setattr(backbones, "_from_timm", fetch)
    backbones._shared_backbone.cache_clear()
    yield
    backbones._shared_backbone.cache_clear()


@pytest.fixture
def fitted(small_features, cloth):
    """Features that seem to have been fitted with weights from timm."""
    features = clone(small_features).fit(cloth.X_train)
    state = {name: array.copy() for name, array in features.network_state().items()}
    features.set_params(weights=None).use_network_state(state)
    return features


def test_included_weights_are_kept_when_the_model_is_saved_again(fitted, no_weights, cloth, tmp_path):
    expected = fitted.transform(cloth.X_test)
    save(fitted, tmp_path / "a", include_weights=True)
    again = load(tmp_path / "a")
    save(again, tmp_path / "b")
    assert (tmp_path / "b").stat().st_size > 10**7
    for copied in (again, load(tmp_path / "b"), pickle.loads(pickle.dumps(again))):
        np.testing.assert_array_equal(copied.transform(cloth.X_test), expected)


def test_a_network_that_a_file_names_is_not_downloaded(fitted, no_weights, cloth, tmp_path):
    save(fitted, tmp_path / "with", include_weights=True)
    model = load(tmp_path / "with")
    model.network_.use_state(None)
    save(make_pipeline(clone(fitted), model), tmp_path / "without")
    for part in load(tmp_path / "without"):
        assert part.download is False
    with pytest.raises(MissingWeightsError, match=r"downloads nothing unless you allow it.*download=True"):
        load(tmp_path / "without")[1].transform(cloth.X_test)
    with pytest.raises(MissingWeightsError, match="downloads nothing"):
        clone(load(tmp_path / "without")[0]).fit(cloth.X_test)
    with pytest.raises(AssertionError, match="fetched"):
        load(tmp_path / "without", download=True)[1].transform(cloth.X_test)


@pytest.mark.parametrize("name", ["hf-hub:nobody/nothing", "local-dir:/tmp"])
def test_names_that_timm_would_fetch_are_refused(name):
    with pytest.raises(ValueError, match="is not a timm model"):
        backbones.backbone_of_state(name, {}, (2,), torch.device("cpu"))


def test_weights_in_one_file_do_not_serve_another(fitted, no_weights, small_features, cloth, tmp_path):
    """Two models claim the same hash; only one of them has the weights inside."""
    save(fitted, tmp_path / "with", include_weights=True)
    model = load(tmp_path / "with")
    model.transform(cloth.X_test)
    other = pickle.loads(pickle.dumps(model))
    other.network_.use_state(None)
    with pytest.raises(MissingWeightsError):
        other.set_params(download=False).transform(cloth.X_test)


@pytest.mark.parametrize("value", [np.nan, np.inf, 1j])
def test_weights_that_are_no_numbers_are_refused(value, fitted, cloth, tmp_path):
    state = dict(fitted.network_.state())
    name = next(name for name, array in state.items() if array.dtype == np.float32)
    state[name] = state[name] * value
    torch.save({key: torch.from_numpy(array) for key, array in state.items()}, tmp_path / "w.pth")
    with pytest.raises(ValueError, match="has complex or infinite values or NaN"):
        clone(fitted).set_params(weights=str(tmp_path / "w.pth")).fit(cloth.X_test)
    fitted.network_.use_state(state)
    fitted.network_.sha256 = fitted.weights_sha256_ = backbones.arrays_sha256(state)
    with pytest.raises(ModelFileError, match="not finite|not numbers"):
        save(fitted, tmp_path / "m")


def test_included_weights_must_be_those_of_fit(fitted, tmp_path):
    state = dict(fitted.network_.state())
    name = next(iter(state))
    fitted.network_.use_state({**state, name: state[name] + 1})
    with pytest.raises(ModelFileError, match="not those that the model was fitted with"):
        save(fitted, tmp_path / "m")


# ------------------------------------------------------------------------------------------------- attributes


def scorer(**changes):
    rng = np.random.default_rng(0)
    model = KNNScorer(3, reweight=4).fit(rng.normal(size=(30, 3)))
    vars(model).update(changes)
    return model


FORGED = {
    "private": (lambda: scorer(_index=np.zeros(3)), "attribute '_index', which it does not document"),
    "unknown": (lambda: scorer(evil_=1), "attribute 'evil_', which it does not document"),
    "method": (lambda: scorer(score_samples=np.negative), "'score_samples', which would hide"),
    "property": (lambda: scorer(offset_=0.0), "'offset_', which would hide"),
    "method of scikit-learn": (lambda: hiding(StandardScaler()), "'transform', which would hide"),
    "axes": (lambda: scorer(bank_=np.zeros(30)), r"bank_ = .*must be ndarray of shape \(m, d\)"),
    "lengths": (lambda: scorer(bank_images_=np.zeros(29, int)), r"bank_images_ = .* \(m,\), int64"),
    "dtype": (lambda: scorer(bank_images_=np.zeros(30)), r"bank_images_ = an array of float64"),
    "width": (lambda: scorer(bank_=np.zeros((30, 2))), "another width"),
    "NaN": (lambda: scorer(bank_=np.full((30, 3), np.nan)), "values that are NaN"),
    "infinity": (lambda: scorer(bank_=np.full((30, 3), np.inf)), "not finite"),
    "complex": (lambda: scorer(bank_=np.zeros((30, 3), complex)), "not numbers"),
    "text": (lambda: scorer(reweight_="4"), "reweight_ = '4'; it must be int"),
    "too few rows": (lambda: scorer(n_neighbors=31), "too few rows"),
    "parameter": (lambda: scorer(n_neighbors=-1), "n_neighbors"),
    "missing": (lambda: without(scorer(), "bank_"), "no attribute 'bank_'"),
    "missing parameter": (lambda: without(scorer(), "algorithm"), "no parameter 'algorithm'"),
    "features": (lambda: scorer(features_=KNNScorer()), "is no features"),
    "calibration": (lambda: scorer(calibration_=calibration(weights=np.zeros(3))), "weights do not sum|lacks peaks"),
    "no calibration": (lambda: scorer(calibration_="no"), "must be Calibration"),
    "random state": (lambda: scorer(random_state=random_state()), "state pos=99999"),
    "matrix": (lambda: FunctionTransformer(kw_args={"a": matrix()}), "indices"),
    "moments": (lambda: changed(GaussianScorer(), scatter_=np.zeros((1, 5))), "different shapes|scatter_"),
    "variance": (lambda: changed(SubspaceScorer(), scatter_=-np.ones(6)), "negative variances"),
    "coreset": (lambda: changed(GreedyCoreset(0.2), indices_=np.full(6, 10**6)), "out of bounds"),
    "columns": (lambda: changed(Columns(), scale_=np.zeros(3)), "not positive"),
}


def hiding(model):
    model.transform = np.negative
    return model


def without(model, name):
    del vars(model)[name]
    return model


def changed(model, **changes):
    model.fit(np.random.default_rng(0).normal(size=(30, 3)))
    vars(model).update(changes)
    return model


def calibration(**changes):
    made = Calibration([1.0, 2.0, 3.0])
    vars(made).update(changes)
    return made


def random_state():
    state = np.random.RandomState(0)
    values = state.get_state(legacy=False)
    values["state"]["pos"] = 99999
    state.set_state(values)
    return state


def matrix():
    made = csr_array(np.eye(3))
    made.indices[:] = 10**6
    return made


@pytest.mark.parametrize("case", FORGED)
def test_forged_attributes_are_refused_by_name(case, tmp_path):
    make, message = FORGED[case]
    with pytest.raises(ModelFileError, match=message):
        save(make(), tmp_path / "m")
    assert list(tmp_path.iterdir()) == []


def test_scores_that_are_nan_raise(rng):
    """`predict` would call such samples normal."""
    X = rng.normal(size=(40, 3))
    model = Autoencoder(network=DenseNetwork((2,)), residual="mahalanobis", max_epochs=1, random_state=0).fit(X)
    vars(model)["_precision"] = np.full((3, 3), np.inf) * np.array([[1, -1, 1]])
    for ask in (model.score_samples, model.predict, lambda X: list(model.iter_verdicts(X))):
        with pytest.raises(ValueError, match="scores are NaN, because values .* are too large"):
            ask(X)


def test_what_is_derived_is_never_taken_from_a_file(model_file):
    """`_search` is a function of the bank; pickles and model files leave it out."""

    def add(schema):
        schema = json.loads(schema)
        attributes = schema["content"]["estimator"]["content"]
        attributes["content"]["_search"] = attributes["content"]["bank_"]
        attributes["key_types"]["content"].append(attributes["key_types"]["content"][0])
        return json.dumps(schema).encode()

    rewrite(model_file, of_schema(add))
    with pytest.raises(ModelFileError, match="attribute '_search', which it does not document"):
        load(model_file)


def test_forged_networks_are_refused(tmp_path, rng):
    model = Autoencoder(network=DenseNetwork((2,)), max_epochs=1, random_state=0).fit(rng.normal(size=(40, 3)))
    good = dict(model.network_state_)
    name = next(name for name, array in good.items() if array.ndim == 2)
    for state in ({**good, name: good[name][:1]}, {**good, "more": good[name]}, {}):
        model.network_state_ = state
        with pytest.raises(ModelFileError, match="weights .* of the network are missing, too many"):
            save(model, tmp_path / "m")


@pytest.mark.parametrize("change", [{"n_features_out_": 7}, {"grid_shape_": (3, 3)}, {"frame_shape_": (10**6, 10**6)}])
def test_forged_geometry_is_refused(change, small_features, cloth, tmp_path):
    for model in (PatchCore(small_features, random_state=0), PaDiM(small_features, n_channels=4, random_state=0)):
        vars(model.fit(cloth.X_train).features_).update(change)
        with pytest.raises(ModelFileError, match="_ is (not|too)|more than the features|than the grid"):
            save(model, tmp_path / "m")


# ------------------------------------------------------------------------------------------------- documented types


class Example:
    """Example.

    Attributes
    ----------
    bank_ : ndarray of shape (m, d), float64
        Rows.
    names_ : list of str, or None
        Names. Defined only sometimes.
    n_ : int
        Number.
    """

    _private_state = {"_seed": "int"}


def test_types_are_read_from_docstrings():
    types, required = documented(Example)
    array = "ndarray of shape (m, d), float64"
    assert types == {"_seed": "int", "bank_": array, "names_": "list of str, or None", "n_": "int"}
    assert required == {"bank_", "n_"}


@pytest.mark.parametrize(
    ("kind", "good", "bad"),
    [
        ("int", [3, np.int64(3)], [True, 3.0, "3", None]),
        ("float", [3, 3.5], [True, float("nan"), "3"]),
        ("str or None", ["a", None], [1]),
        ("list of str", [["a"], []], [["a", 1], "a", ("a",)]),
        ("tuple of int", [(1, 2), [1]], [(1.5,)]),
        ("dict of str to ndarray", [{"a": np.zeros(1)}], [{1: np.zeros(1)}, {"a": 1}]),
        ("ndarray of shape (n, d)", [np.zeros((2, 5))], [np.zeros(2), [[1]]]),
        ("ndarray of shape (n,), float64, or None", [None, np.zeros(9)], [np.zeros(9, int)]),
        ("ndarray of shape (n, d) or (n,), bool", [np.ones(3, bool), np.eye(3, dtype=bool)], [np.eye(3)]),
        ("ndarray of shape (4, k^2)", [np.zeros((4, 9))], [np.zeros((3, 9)), np.zeros((4, 10))]),
        ("ndarray of shape (h * w, k (k + 1) / 2)", [np.zeros((8, 6))], [np.zeros((8, 7))]),
        ("list of ndarray of shape (n, d_l)", [[np.eye(2), np.zeros((2, 4))]], [[np.eye(2), np.eye(3)]]),
        ("Calibration or ChiSquaredLaw", [calibration()], [KNNScorer()]),
        ("something vague", [1, None], []),
    ],
)  # fmt: skip
def test_values_are_compared_with_types(kind, good, bad):
    assert not any(misfit(value, kind, {"k": 3}) for value in good)
    assert all(misfit(value, kind, {"k": 3}) for value in bad)


def test_equal_letters_are_equal_lengths():
    sizes = {}
    assert not misfit(np.zeros((2, 3)), "ndarray of shape (n, d)", sizes)
    assert sizes == {"n": 2, "d": 3}
    assert not misfit(np.zeros(3), "ndarray of shape (d,)", sizes)
    assert misfit(np.zeros(2), "ndarray of shape (d,)", sizes)


def test_rewriting_copies_only_what_changes():
    untouched, touched = {"a": [1]}, {"b": (1, "x")}
    model = make_pipeline(FunctionTransformer(kw_args=untouched), FunctionTransformer(kw_args=touched))
    new = rewritten(model, lambda part: "y" if part == "x" else part)
    assert new[1].kw_args == {"b": (1, "y")}
    assert touched == {"b": (1, "x")}
    assert new[0] is model[0]


# ------------------------------------------------------------------------------------------------- costs


def refused_quickly(path, message):
    """Check that a file is refused by its name in little time and memory."""
    tracemalloc.start()
    start = time.perf_counter()
    with pytest.raises(ModelFileError, match=message):
        load(path)
    seconds, (_, peak) = time.perf_counter() - start, tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert seconds < 10  # on any machine; the files would cost minutes
    assert peak < 3e8


def rewrite(path, change, **options):
    with zipfile.ZipFile(path) as archive:
        members = [(name, archive.read(name)) for name in archive.namelist()]
    with zipfile.ZipFile(path, "w", **options) as archive:
        for name, data in change(members):
            archive.writestr(name, data)
    seal(path)


@pytest.fixture
def model_file(tmp_path):
    save(scorer(), tmp_path / "m")
    return tmp_path / "m"


def of_schema(change):
    def apply(members):
        return [(name, change(data) if name == "schema.json" else data) for name, data in members]

    return apply


def header(shape, descr="'<f8'"):
    text = f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, }}".ljust(117) + "\n"
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text.encode()


def object_array():
    content = io.BytesIO()
    np.save(content, np.array([print], dtype=object), allow_pickle=True)
    return content.getvalue()


COSTLY = {
    "nested JSON": (of_schema(lambda s: s[:-1] + b', "x": ' + b"[" * 10**6), "more than"),
    "deep JSON": (of_schema(lambda s: s[:-1] + b', "x": ' + b"[" * 9000 + b"]" * 9000 + b"}"), "recursion|nested"),
    "long JSON": (of_schema(lambda s: s + b" " * 2**24), "larger than"),
    "many objects": (of_schema(lambda s: s[:-1] + b', "x": [' + b"{}," * 2**18 + b"0]}"), "more than"),
    "shared members": (of_schema(lambda s: share_members(s)), "several objects claim its member"),
    "shared numbers": (of_schema(lambda s: share_numbers(s)), "two different objects under the number"),
    "large array": (lambda m: [(n, header((10**12,)) if n.endswith("npy") else d) for n, d in m], "bytes for"),
    "negative array": (lambda m: [(n, header((-1,)) if n.endswith("npy") else d) for n, d in m], "shape|bytes"),
    "empty items": (lambda m: [(n, header((10**12,), "'V0'") if n.endswith("npy") else d) for n, d in m], "hide code"),
    "objects": (lambda m: [(n, object_array() if n.endswith("npy") else d) for n, d in m], "may hide code"),
    "a missing member": (lambda m: m[1:], "no member"),
    "traversal": (lambda m: [("../../evil.npy", m[0][1]), *m], "not written by save"),
}  # fmt: skip


def share_members(schema):
    schema = json.loads(schema)
    nodes = []
    collect(schema, nodes)
    for node in nodes:
        node["file"] = nodes[0]["file"]
    return json.dumps(schema).encode()


def share_numbers(schema):
    schema = json.loads(schema)
    nodes = []
    collect(schema, nodes)
    schema["content"]["layout"]["__id__"] = nodes[0]["__id__"]
    return json.dumps(schema).encode()


def collect(value, nodes):
    if isinstance(value, dict) and "file" in value:
        nodes.append(value)
    for item in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        collect(item, nodes)


@pytest.mark.parametrize("case", COSTLY)
def test_files_that_cost_more_than_they_are_long_are_refused(case, model_file):
    change, message = COSTLY[case]
    rewrite(model_file, change)
    refused_quickly(model_file, message)


def test_compressed_and_doubled_members_are_refused(model_file):
    before = model_file.read_bytes()
    rewrite(model_file, lambda m: m, compression=zipfile.ZIP_DEFLATED)
    refused_quickly(model_file, "is compressed")
    model_file.write_bytes(before)
    with pytest.warns(UserWarning, match="Duplicate name"):
        rewrite(model_file, lambda m: [*m, m[0]])
    refused_quickly(model_file, "two members")


def test_large_files_are_not_read_whole(tmp_path):
    with open(tmp_path / "m", "wb") as file:
        file.truncate(20 * 2**30)
    refused_quickly(tmp_path / "m", "not a model file")
    with open(tmp_path / "m", "r+b") as file:  # a directory of 3 GiB
        file.seek(-22, 2)
        file.write(b"PK\x05\x06" + bytes(8) + (3 * 2**30).to_bytes(4, "little") + bytes(6))
    refused_quickly(tmp_path / "m", "directory is too large")


def test_sparse_matrices_do_not_explode(tmp_path):
    save(FunctionTransformer(kw_args={"a": csr_array(np.eye(3))}), tmp_path / "m")
    bomb = io.BytesIO()
    with zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("data.npy", header((10**7,)) + bytes(8 * 10**7))
    rewrite(tmp_path / "m", lambda m: [(n, bomb.getvalue() if n.endswith("npz") else d) for n, d in m])
    refused_quickly(tmp_path / "m", "compressed too strongly")


def test_files_that_were_changed_are_refused(model_file):
    data = model_file.read_bytes()
    with zipfile.ZipFile(model_file) as archive:
        members = [(name, archive.read(name)) for name in archive.namelist()]
        comment = archive.comment
    with zipfile.ZipFile(model_file, "w") as archive:
        for name, content in members:
            archive.writestr(name, content.replace(b'"content": "3"', b'"content": "2"'))
        archive.comment = comment
    with pytest.raises(ModelFileError, match="was changed since it was written"):
        load(model_file)
    model_file.write_bytes(data)
    assert load(model_file).n_neighbors == 3


def test_versions_that_are_no_versions_are_refused(tmp_path):
    for version in ("9" * 5000, [1], None, "0.1.0\n"):
        skops.io.dump({"skanomaly": version, "estimator": KNNScorer()}, tmp_path / "m")
        seal(tmp_path / "m")
        with pytest.raises(ModelFileError, match="was not written by skanomaly.save"):
            load(tmp_path / "m")
