from __future__ import annotations

import numpy as np
import pytest

from semseg.evaluation.confusion import ConfusionMatrix
from semseg.reporting.html.confusions import Confusion, normalised, top_confusions


@pytest.fixture
def matrix() -> ConfusionMatrix:
    matrix = ConfusionMatrix(3)
    matrix.counts += np.array([[6, 3, 1], [40, 60, 0], [0, 0, 0]])
    return matrix


def test_rows_are_shares_of_the_annotated_class(matrix: ConfusionMatrix) -> None:
    np.testing.assert_allclose(normalised(matrix), np.array([[0.6, 0.3, 0.1], [0.4, 0.6, 0.0], [0.0, 0.0, 0.0]]))


def test_the_most_frequent_confusions_come_first_and_what_is_right_is_none(matrix: ConfusionMatrix) -> None:
    assert top_confusions(matrix, 2) == [Confusion(1, 0, 40, 0.4), Confusion(0, 1, 3, 0.3)]
    assert len(top_confusions(matrix, 20)) == 3
    assert matrix.counts[1, 1] == 60  # unchanged
