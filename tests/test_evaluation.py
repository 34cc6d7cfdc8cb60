"""Predictions and metrics from handmade probabilities."""

import numpy as np
import pytest

from cvcore import evaluation
from cvcore.statistics import wilson_interval


def test_one_sigmoid_column_becomes_one_column_a_class():
    found = evaluation.class_probabilities(np.array([[0.25], [1.0]]))
    np.testing.assert_array_equal(found, [[0.75, 0.25], [0.0, 1.0]])
    softmax = np.array([[0.2, 0.3, 0.5]])
    assert evaluation.class_probabilities(softmax) is softmax


def test_a_tie_goes_to_the_first_class_as_in_keras():
    assert evaluation.predicted_labels(np.array([[0.5, 0.5], [0.49, 0.51], [0.51, 0.49]])).tolist() == [0, 1, 0]


def test_metrics_of_four_pictures_of_which_three_are_right():
    probabilities = np.array([[0.9, 0.1], [0.2, 0.8], [0.6, 0.4], [0.3, 0.7]])
    found = evaluation.test_metrics(probabilities, np.array([0, 1, 1, 1]), 0.3)
    assert found["test_accuracy"] == 0.75 and found["test_count"] == 4
    assert found["test_loss"] == 0.3
    assert found["test_accuracy_interval"] == list(wilson_interval(3, 4))
    # Wilson for 3 of 4 by hand: centre (0.75 + 3.8415/8) / (1 + 3.8415/4), half width 0.3247.
    assert found["test_accuracy_interval"] == pytest.approx([0.3006, 0.9544], abs=1e-4)


@pytest.mark.parametrize("labels", [None, np.array([], int)])
def test_no_test_pictures_are_nulls_and_not_zeros(labels):
    found = evaluation.test_metrics(None if labels is None else np.zeros((0, 2)), labels)
    assert found == {"test_loss": None, "test_accuracy": None, "test_accuracy_interval": None, "test_count": 0}


def test_best_epoch_is_the_first_of_equally_low_val_losses():
    rows = [
        {"epoch": 1, "accuracy": 0.6, "val_loss": 0.7, "val_accuracy": 0.55},
        {"epoch": 2, "accuracy": 0.7, "val_loss": 0.5, "val_accuracy": 0.75},
        {"epoch": 3, "accuracy": 0.9, "val_loss": 0.5, "val_accuracy": 0.8},
        {"epoch": 4, "accuracy": 0.95, "val_loss": 0.9, "val_accuracy": 0.7},
    ]
    assert evaluation.history_metrics(rows) == {
        "epochs": 4, "best_epoch": 2, "val_loss": 0.5, "val_accuracy": 0.75, "last_accuracy": 0.95,
        "last_val_accuracy": 0.7, "max_val_accuracy": 0.8,
    }  # fmt: skip


def test_predictions_are_written_by_name_with_six_digits_however_small():
    parts = [("test", ["a,b.png", "c.png"], np.array([0, 1]), np.array([[0.25, 0.75], [1 - 3.21e-7, 3.21e-7]]))]
    lines = evaluation.predictions_csv(parts, ("cat", 'big "dog"')).splitlines()
    assert lines == [
        'split,path,label,predicted,cat,"big ""dog"""',
        'test,"a,b.png",cat,"big ""dog""",0.25,0.75',
        'test,c.png,"big ""dog""",cat,1,3.21e-07',
    ]
