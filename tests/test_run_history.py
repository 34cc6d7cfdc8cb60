"""history.csv as numbers, whatever somebody wrote into it."""

import numpy as np
import pytest

from cvcore.run_directory import HISTORY_COLUMNS
from cvcore.run_history import read_columns


@pytest.fixture
def read(tmp_path):
    def written(text):
        (tmp_path / "history.csv").write_text(text)
        return {name: column.tolist() for name, column in read_columns(tmp_path / "history.csv").items()}

    return written


def test_cells_that_hold_no_number_are_missing_ones_and_the_others_of_their_row_are_kept(read):
    found = read("epoch,loss,accuracy\n1,,0.5\n2,1_0,2\n3,inf,0.1\n4,1e999,x\n5, 0.5 ,-0.1\n6,0.25,1.0\n")
    assert found["epoch"] == [1, 2, 3, 4, 5, 6]
    assert np.array_equal(found["loss"], [np.nan] * 4 + [0.5, 0.25], equal_nan=True)
    assert np.array_equal(found["accuracy"], [0.5, np.nan, 0.1, np.nan, np.nan, 1.0], equal_nan=True)


def test_rows_of_another_length_a_row_not_finished_and_epochs_that_cannot_be_are_passed_over(read):
    assert read("epoch,loss\n1,0.5\n2\n0,0.5\n-1,1\n,1\n3,0.25\n4,0.1") == {"epoch": [1, 3], "loss": [0.5, 0.25]}


def test_no_file_is_a_history_without_epochs_and_no_epochs_are_no_history(read, tmp_path):
    assert read_columns(tmp_path / "none.csv").keys() == set(HISTORY_COLUMNS)
    assert {name: len(column) for name, column in read("epoch,loss\n").items()} == {"epoch": 0, "loss": 0}
    with pytest.raises(KeyError):
        read("loss\n0.5\n")
