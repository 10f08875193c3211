"""Refactoring must not change answers: those of every detector are kept in one file."""

import frozen_answers
import numpy as np
import pytest

KEPT = np.load(frozen_answers.FILE)


@pytest.mark.filterwarnings("ignore::skanomaly.exceptions.CalibrationWarning")
@pytest.mark.parametrize("group", frozen_answers.GROUPS)
def test_answers_are_those_of_before(group):
    """The tolerance is that of other processors; ``python tests/frozen_answers.py`` compares bits."""
    for name, value in frozen_answers.answers_of(group):
        np.testing.assert_allclose(value, KEPT[name], rtol=1e-4, atol=1e-6, err_msg=name)
