"""A sample of `make torture`."""

import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from skanomaly import Autoencoder, GaussianScorer, KNNScorer, SubspaceScorer, save
from skanomaly.networks import DenseNetwork

sys.path.insert(0, str(Path(__file__).parent / "torture"))
import model_files
import mutations

# what mutated files hold is not under our control, and the sample of the workers fits on few samples
pytestmark = [
    pytest.mark.filterwarnings(f"ignore::{name}")
    for name in ("UserWarning", "RuntimeWarning", "DeprecationWarning", "FutureWarning")
]
WATCH = model_files.Watch()
GOOD = {"identical scores", "refused in load", "refused in score", "another model"}


@pytest.mark.parametrize(
    "model",
    [
        KNNScorer(3, reweight=4),
        GaussianScorer(),
        SubspaceScorer(random_state=0),
        Autoencoder(network=DenseNetwork((2,)), residual="mahalanobis", max_epochs=1, random_state=0),
    ],
    ids=lambda model: type(model).__name__,
)
def test_damaged_and_forged_model_files_do_no_harm(model, tmp_path, rng):
    X = rng.normal(size=(40, 3))
    save(model.fit(X), tmp_path / "model.skops")
    expected, outcomes = model.score_samples(X), Counter()
    for i in range(30):
        answer = model_files.trial(tmp_path, i, "model", X, expected, WATCH)
        assert answer["outcome"] in GOOD, (i, answer)
        outcomes[answer["outcome"]] += 1
    assert outcomes["refused in load"] > 15


def test_the_trials_see_what_they_look_for(tmp_path, rng):
    """An intact file, one with other scores, and one that writes are told apart."""
    X = rng.normal(size=(40, 3))
    scorer = KNNScorer().fit(X)
    save(scorer, tmp_path / "model.skops")
    expected = scorer.score_samples(X)
    look = model_files.load_and_score
    assert look(tmp_path / "model.skops", X, expected, True)[0] == "identical scores"
    assert look(tmp_path / "model.skops", X, expected + 1, False)[0] == "silent wrong result"
    assert look(tmp_path / "model.skops", X[0], expected, True)[0] == "raw error"
    WATCH.seen, WATCH.active = [], True
    open(tmp_path / "file", "w").close()
    WATCH.active = False
    assert WATCH.seen[0][0] == "written"


def test_every_mutation_changes_the_file(tmp_path, rng):
    save(KNNScorer().fit(rng.normal(size=(40, 3))), tmp_path / "model.skops")
    before, seen = (tmp_path / "model.skops").read_bytes(), set()
    for i in range(60):
        name, _ = mutations.mutate(tmp_path / "model.skops", tmp_path / "mutated", np.random.default_rng(i))
        assert (tmp_path / "mutated").read_bytes() != before
        seen.add(name)
    assert len(seen) > 20
