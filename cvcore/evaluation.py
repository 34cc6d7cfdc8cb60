"""Predictions of the best checkpoint, picture by picture, and the metrics of a run."""

from __future__ import annotations

import csv
import io
from typing import Any

import numpy as np

from cvcore.statistics import wilson_interval


def class_probabilities(outputs: np.ndarray) -> np.ndarray:
    """Turn a network's outputs into one probability column a class.

    Args:
        outputs: (n, 1) probabilities of the second class, or (n, classes) softmax.

    Returns:
        float (n, classes); rows sum to 1.
    """
    return np.concatenate([1 - outputs, outputs], axis=1) if outputs.shape[1] == 1 else outputs


def predicted_labels(probabilities: np.ndarray) -> np.ndarray:
    """Return the most probable class of each row; with two classes the second needs more than 0.5, as in Keras."""
    return probabilities.argmax(axis=1)


def test_metrics(
    probabilities: np.ndarray | None = None, labels: np.ndarray | None = None, loss: float | None = None
) -> dict[str, Any]:
    """Return test_loss, test_accuracy, its 95 % Wilson interval and test_count; all null without a test split.

    Args:
        probabilities: float (n, classes) of the test pictures.
        labels: int (n,).
        loss: as Keras evaluates it. Of probabilities it is another where they are 0 or 1: with TensorFlow, Keras takes
            what the last activation was given, so that being sure and wrong costs what it should, as in val_loss.
    """
    if probabilities is None or labels is None or len(labels) == 0:
        return {"test_loss": None, "test_accuracy": None, "test_accuracy_interval": None, "test_count": 0}
    correct = int((predicted_labels(probabilities) == labels).sum())
    low, high = wilson_interval(correct, len(labels))
    return {
        "test_loss": loss,
        "test_accuracy": correct / len(labels),
        "test_accuracy_interval": [low, high],
        "test_count": len(labels),
    }


def history_metrics(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Return best_epoch (lowest val_loss, the first of equals) and the validation figures that go with it.

    Args:
        rows: of history.csv, at least one.
    """
    best = min(rows, key=lambda row: row["val_loss"])
    return {
        "epochs": len(rows),
        "best_epoch": best["epoch"],
        "val_loss": best["val_loss"],
        "val_accuracy": best["val_accuracy"],
        "last_accuracy": rows[-1]["accuracy"],
        "last_val_accuracy": rows[-1]["val_accuracy"],
        "max_val_accuracy": max(row["val_accuracy"] for row in rows),
    }


def predictions_csv(parts: list[tuple[str, list[str], np.ndarray, np.ndarray]], class_names: tuple[str, ...]) -> str:
    """Return predictions.csv as text.

    Args:
        parts: (split, paths, labels (n,), probabilities (n, classes)) for each split.
        class_names: names of the classes; labels and predictions are written as names.
    """
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(["split", "path", "label", "predicted", *class_names])
    for split, paths, labels, probabilities in parts:
        predicted = predicted_labels(probabilities)
        for path, label, guess, row in zip(paths, labels, predicted, probabilities, strict=True):
            writer.writerow([split, path, class_names[label], class_names[guess], *(f"{p:.6g}" for p in row)])
    return stream.getvalue()
