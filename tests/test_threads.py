"""Networks for rows run in one thread, and leave torch's number of threads as it was."""

import threading

import numpy as np
import pytest
import torch

from skanomaly import Autoencoder
from skanomaly._torch.threads import one_thread
from skanomaly.networks import DenseNetwork


@pytest.fixture
def two_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def test_the_number_of_threads_is_restored(two_threads):
    with one_thread():
        assert torch.get_num_threads() == 1
        with one_thread(), one_thread(False):
            assert torch.get_num_threads() == 1
        assert torch.get_num_threads() == 1
    assert torch.get_num_threads() == 2
    with pytest.raises(KeyError), one_thread():
        raise KeyError
    assert torch.get_num_threads() == 2


def test_rows_are_learnt_and_scored_in_one_thread(two_threads, rng, monkeypatch):
    seen = []
    forward = torch.nn.Linear.forward
    monkeypatch.setattr(
        torch.nn.Linear, "forward", lambda self, x: seen.append(torch.get_num_threads()) or forward(self, x)
    )
    X = rng.normal(size=(40, 4))
    detector = Autoencoder(network=DenseNetwork((2,)), max_epochs=2, random_state=0, false_alarm_rate=0.5).fit(X)
    detector.score_samples(X)
    assert set(seen) == {1}
    assert torch.get_num_threads() == 2


def test_many_threads_leave_the_number_as_it_was(two_threads, rng):
    X = rng.normal(size=(40, 4))
    detector = Autoencoder(network=DenseNetwork((2,)), max_epochs=2, random_state=0, false_alarm_rate=0.5).fit(X)
    expected, found = detector.score_samples(X), []
    threads = [threading.Thread(target=lambda: found.append(detector.score_samples(X))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(np.array_equal(scores, expected) for scores in found)
    assert len(found) == 8
    assert torch.get_num_threads() == 2
