import sys

import numpy as np
import pytest
from matplotlib.figure import Figure
from numpy.testing import assert_array_equal

from skanomaly import Autoencoder, GaussianScorer
from skanomaly.networks import DenseNetwork, Training
from skanomaly.plotting import LossCurveDisplay

HISTORY = {"train_loss": [4.0, 2.0, 1.0, 0.5], "valid_loss": [4.0, 2.5, 2.25, 2.5]}


@pytest.fixture
def ax():
    return Figure().add_subplot()


def test_curves_and_the_kept_epoch(ax, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)  # importing it fails
    display = LossCurveDisplay.from_history(HISTORY, ax=ax, log=True)
    for name, losses in HISTORY.items():
        assert_array_equal(display.lines_[name].get_xdata(), [1, 2, 3, 4])
        assert_array_equal(display.lines_[name].get_ydata(), losses)
    assert display.kept_line_.get_xdata()[0] == 3
    assert ax.get_yscale() == "log"
    assert (display.ax_, display.figure_) == (ax, ax.figure)
    alone = LossCurveDisplay.from_history({"train_loss": [1.0, 2.0]}, ax=Figure().add_subplot())
    assert alone.kept_line_ is None


def test_the_line_marks_the_network_that_was_kept(ax, rng):
    """The validation loss of the fitted network is the one at the line, not the last."""
    X = rng.normal(size=(60, 4))
    options = {"network": DenseNetwork((2,)), "training": Training(lr=0.2, patience=None), "random_state": 0}
    detector = Autoencoder(**options, max_epochs=8, false_alarm_rate=None).fit(X)
    display = LossCurveDisplay.from_estimator(detector, ax=ax)
    kept = int(display.kept_line_.get_xdata()[0])
    shorter = Autoencoder(**options, max_epochs=kept, false_alarm_rate=None).fit(X)
    assert kept < 8
    assert_array_equal(shorter.score_samples(X), detector.score_samples(X))


@pytest.mark.parametrize("history", [{}, {"train_loss": []}, {"train_loss": [1.0], "valid_loss": [1.0, 2.0]}])
def test_histories_that_do_not_fit_are_refused(history, ax):
    with pytest.raises(ValueError, match="history has losses of shapes .*must have one value per epoch"):
        LossCurveDisplay.from_history(history, ax=ax)
    assert not ax.lines


def test_estimators_without_a_history_are_refused(ax):
    fitted = GaussianScorer(false_alarm_rate=None).fit(np.eye(5))
    with pytest.raises(TypeError, match="GaussianScorer without history_; it must be a fitted detector that trains"):
        LossCurveDisplay.from_estimator(fitted, ax=ax)
