import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import QuantileTransformer, RobustScaler, StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

from skanomaly import Autoencoder, Columns, GaussianScorer, KNNScorer
from skanomaly.exceptions import DataWarning

pytestmark = pytest.mark.filterwarnings("ignore::skanomaly.exceptions.CalibrationWarning")
SCALES = ["standard", "robust", "quantile", None]


@parametrize_with_checks([Columns(scale=scale) for scale in SCALES])
def test_sklearn_checks(estimator, check):
    check(estimator)


@pytest.fixture
def table(rng):
    """Columns of several scales and shapes; one is constant."""
    return np.column_stack(
        [rng.normal(5, 2, 400), rng.exponential(1e6, 400), rng.normal(size=400) * 1e-9, np.full(400, 3.0)]
    )


@pytest.mark.parametrize(
    ("scale", "oracle"),
    [
        ("standard", StandardScaler()),
        ("robust", RobustScaler(unit_variance=True)),
        (
            "quantile",
            make_pipeline(
                StandardScaler(),
                QuantileTransformer(n_quantiles=400, output_distribution="normal", subsample=None),
            ),
        ),
    ],
)
def test_columns_equal_those_of_sklearn(scale, oracle, table, rng):
    X = np.vstack([table, table[:5] * 1.5])
    varied = slice(0, 3)
    expected = oracle.fit(table).transform(X)
    assert_allclose(
        Columns(scale=scale).fit(table).transform(X)[:, varied], expected[:, varied], rtol=1e-10, atol=1e-12
    )


def test_standard_is_the_plain_computation_to_the_bit(rng):
    X = rng.normal(3, 7, size=(100, 5))
    X[:, 4] = 1e8 + 1e-9
    columns = Columns().fit(X)
    assert_array_equal(columns.mean_, X.mean(axis=0))
    assert_array_equal(columns.scale_, [*X[:, :4].std(axis=0), 1.0])
    assert_array_equal(columns.transform(X), (X - columns.mean_) / columns.scale_)
    assert_array_equal(columns.inverse_transform(X), X * columns.scale_ + columns.mean_)


@pytest.mark.parametrize("scale", SCALES)
def test_inverse_transform_undoes_transform(scale, table):
    columns = Columns(scale=scale).fit(table)
    assert_allclose(columns.inverse_transform(columns.transform(table), columns.check_samples(table)), table, rtol=1e-6)
    assert columns.learns == (scale is not None)


def test_quantiles_make_any_column_normal_and_stop(table):
    columns = Columns(scale="quantile").fit(table)
    Z = columns.transform(table)
    assert_allclose(Z[:, :3].std(axis=0), 1, atol=0.15)
    far = columns.transform(np.vstack([table[:1] + 1e12, table[:1] - 1e12]))
    assert_allclose(far, [[5.199337582] * 4, [-5.199337582] * 4])


def test_robust_scale_hardly_moves_with_foreign_rows(rng):
    X = rng.normal(size=(1000, 1))
    foreign = np.vstack([X, np.full((50, 1), 1e3)])
    clean, mixed = (Columns(scale="robust").fit(rows) for rows in (X, foreign))
    assert_allclose(mixed.transform(X), clean.transform(X), atol=0.3)
    assert Columns().fit(foreign).scale_ > 100 * Columns().fit(X).scale_


def test_robust_scale_without_a_range_is_the_standard_deviation(rng):
    X = np.where(rng.random((1000, 1)) < 0.9, 0.0, rng.normal(size=(1000, 1)))
    assert_array_equal(Columns(scale="robust").fit(X).scale_, X.std(axis=0))


# Nearly constant columns


@pytest.mark.parametrize("scale", ["standard", "robust", "quantile"])
@pytest.mark.parametrize("unit", [1e-9, 1.0, 10.0])
@pytest.mark.parametrize("level", [0.0, 5.0])
def test_dust_is_small_in_a_nearly_constant_column(scale, unit, level, rng):
    X = rng.normal(size=(5000, 3))
    X[:, 1] = level
    X[17, 1] += 1e-3
    X[:, 1] *= unit
    columns = Columns(scale=scale).fit(X)
    fresh = rng.normal(size=(100, 3))
    fresh[:, 1] = (level + rng.uniform(-1e-3, 1e-3, 100)) * unit
    assert np.abs(columns.transform(fresh)[:, 1]).max() < 0.0101
    fresh[:, 1] = (level + 1) * unit  # another value altogether still stands out
    assert (columns.transform(fresh)[:, 1] > 5).all()


@pytest.mark.parametrize(
    ("typical", "expected"),
    [(1e-9, 1.0), (3.0, 3.0), (1e6, 100.0), (0.0, 100.0)],  # of columns that vary; the last one has none such
)
def test_scale_of_a_rare_category_by_hand(typical, expected, rng):
    X = np.column_stack([rng.choice([-1, 1], 5000)] * 3) * typical
    X[:, 1] = 0
    X[17, 1] = 1
    assert_allclose(Columns().fit(X).scale_[1], expected, rtol=0.01)


def test_dust_no_longer_flags_every_row(rng):
    X = rng.normal(size=(1000, 4))
    X[:, 1] = 0
    X[17, 1] = 1e-3
    fresh = rng.normal(size=(200, 4))
    plain = KNNScorer().fit((X - X.mean(axis=0)) / X.std(axis=0))
    detector = make_pipeline(Columns(), KNNScorer()).fit(X)
    for dust in (5e-4, 1e-3):
        fresh[:, 1] = dust
        assert (plain.predict((fresh - X.mean(axis=0)) / X.std(axis=0)) == -1).mean() > 0.9
        assert (detector.predict(fresh) == -1).mean() < 0.1


@pytest.mark.parametrize(
    "column",
    [
        np.r_[np.zeros(990), np.ones(10)],  # 10 rows and 1 % are apart: a rare category
        np.r_[np.zeros(98), np.ones(2)],  # 2 %
        np.random.default_rng(0).lognormal(0, 3, 5000),  # heavy tails
        np.r_[np.random.default_rng(0).normal(size=4999), 1e4],  # an outlier
    ],
)
def test_other_columns_keep_their_standard_deviation(column):
    assert_array_equal(Columns().fit(column[:, None]).scale_, [column.std()])


def test_equal_means_equal_up_to_rounding(rng):
    column = 0.3 + rng.uniform(-1e-16, 1e-16, 5000)
    column[5] += 1e-3
    assert_allclose(Columns().fit(column[:, None]).scale_, 0.1, rtol=1e-3)


# The door


@pytest.mark.parametrize("dtype", [np.uint8, bool, np.int64, np.float32])
def test_tables_of_any_numbers(dtype, rng):
    X = rng.integers(0, 2, size=(30, 3)).astype(dtype)
    Z = Columns().fit_transform(X)
    assert Z.dtype == np.float64
    assert_array_equal(Z, Columns().fit_transform(X.astype(float)))


def test_names_go_through(rng):
    frame = pd.DataFrame(rng.normal(size=(30, 2)), columns=["width", "height"])
    columns = Columns().fit(frame)
    assert list(columns.get_feature_names_out()) == ["width", "height"]
    with pytest.raises(ValueError, match="feature names should match"):
        columns.transform(frame[["height", "width"]])
    with pytest.warns(UserWarning, match="Columns was fitted with feature names"):
        columns.transform(frame.to_numpy())


def test_checked_rows_have_no_names_to_ask_for(rng):
    frame = pd.DataFrame(rng.normal(size=(30, 2)), columns=["width", "height"])
    columns = Columns()
    samples = columns.check_samples(frame, reset=True)
    columns.fit_samples(samples)
    for index in (slice(5), np.array([3, 4])):
        assert_array_equal(columns.transform(samples[index]), columns.transform(frame)[index])  # no warning
    assert type(columns.transform(samples)) is type(columns.mean_) is np.ndarray
    assert type(Columns(scale=None).fit(frame).transform(samples)) is np.ndarray


@pytest.mark.parametrize(
    ("X", "message"),
    [
        (np.zeros((1, 2)), "minimum of 2 is required by Columns"),
        (np.zeros((5, 8, 8)), "dim 3"),
        (np.full((5, 2), np.inf), "infinity"),
        ([["a"], ["b"]], "could not convert"),
    ],
)
def test_bad_tables_are_refused_and_nothing_changes(X, message, rng):
    columns = Columns().fit(rng.normal(size=(30, 3)))
    before = vars(columns).copy()
    with pytest.raises(ValueError, match=message):
        columns.fit(X)
    assert vars(columns) == before


def test_bad_scale_is_named():
    with pytest.raises(ValueError, match="'scale' parameter of Columns"):
        Columns(scale="minmax").fit(np.zeros((3, 2)))


def test_a_second_fit_forgets_the_first(rng):
    X = rng.normal(size=(30, 2))
    columns = Columns(scale="quantile").fit(X)
    assert not hasattr(columns.set_params(scale="standard").fit(X), "quantiles_")
    assert not hasattr(columns.set_params(scale=None).fit(X), "mean_")


def test_arrays_come_out_whatever_sklearn_is_told_to_put_out(rng):
    import sklearn

    frame = pd.DataFrame(rng.normal(size=(30, 2)), columns=["width", "height"])
    with sklearn.config_context(transform_output="pandas"):
        assert type(Columns().fit_transform(frame)) is np.ndarray


# Columns that ruin a fit


@pytest.mark.parametrize("make", [Columns, KNNScorer, GaussianScorer])
def test_absurd_values_are_named(make, rng):
    X = pd.DataFrame(rng.lognormal(size=(400, 3)), columns=["age", "amount", "height"])
    make().fit(X)
    X.loc[7, "amount"] = 1e12
    with pytest.warns(DataWarning, match=r"magnitudes up to 1e\+12 in column 'amount'"):
        make().fit(X)


@pytest.mark.parametrize("make", [Columns, KNNScorer])
def test_columns_that_count_the_rows_are_named(make, rng):
    X = rng.normal(size=(100, 3))
    X[:, 1] = np.cumsum(rng.integers(0, 5, 100))
    with pytest.warns(DataWarning, match=r"from the first row to the last in column 1, as times and row numbers do"):
        make().fit(X)
    make().fit(X[rng.permutation(100)])
    X[:, 1] = np.arange(100) >= 50  # rises, but only once
    make().fit(X)


@pytest.mark.parametrize("dtype", [bool, np.uint8, np.int8])
@pytest.mark.parametrize("make", [KNNScorer, GaussianScorer, lambda: Autoencoder(max_epochs=2, random_state=0)])
def test_tables_of_8_bits(make, dtype, rng):
    X = rng.integers(0, 100, (60, 5)).astype(dtype)
    np.testing.assert_array_equal(make().fit(X).score_samples(X), make().fit(X.astype(float)).score_samples(X))
