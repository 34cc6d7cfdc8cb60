"""A short form of `python -m benchmarks.against_textbook`: in turn with plain Keras, totals as they are told."""

import json
import os

import numpy as np
import pytest
from PIL import Image

from benchmarks import against_textbook, stopwatch
from cvcore.models import build
from cvcore.published import get_recipe

SIZE = 80  # the smallest picture, about, that the textbook's five convolutions take


@pytest.fixture
def folder(tmp_path):
    random = np.random.default_rng(0)
    for split in ("train", "validation"):
        for name in ("cat", "dog"):
            (tmp_path / "pictures" / split / name).mkdir(parents=True)
            for number in range(2):
                pixels = random.integers(0, 256, (SIZE, SIZE, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(tmp_path / "pictures" / split / name / f"{number}.png")
    return tmp_path / "pictures"


def test_each_strategy_is_timed_in_turn_and_its_total_is_the_sum_that_is_told(folder, tmp_path, capsys):
    cache = os.environ.get("CVCORE_CACHE")
    words = ["--data", folder, "--strategies", "augmented,finetune", "--image-size", SIZE, "--batch-size", 2,
             "--steps", 1, "--pairs", 1, "--views", 3, "--json", tmp_path / "found.json"]  # fmt: skip
    assert against_textbook.main([str(word) for word in words]) == 0  # at this size nothing is too slow
    assert os.environ.get("CVCORE_CACHE") == cache
    augmented, finetune = json.loads((tmp_path / "found.json").read_text())["strategies"]
    for found in (augmented, finetune):
        seconds = found["seconds"]
        assert all(value > 0 for value in (*seconds.values(), *found["share_of_peak"].values()))
        for way, terms in found["formulas"].items():
            total = sum(count * seconds[part] for count, part in terms)
            assert found["totals"][way] == pytest.approx(total)
        assert found["ratios"]["total"] == pytest.approx(found["totals"]["textbook"] / found["totals"]["ours"])
    assert set(augmented["totals"]) == {"textbook", "ours"}
    # Three views of 4 training pictures are extracted once; each of 30 epochs trains 2 batches above the cut.
    assert [12, "ours: extraction of a view"] in finetune["formulas"]["views"]
    assert [60, "ours: training step above the cut"] in finetune["formulas"]["views"]
    told = capsys.readouterr().out
    assert "| finetune | 30 |" in told
    assert "- finetune, views=3: 8 x " in told


def test_what_is_below_its_floor_is_named():
    ratios = {"training step": 1.2, "total": 1.0}
    assert against_textbook.too_slow([{"strategy": "augmented", "ratios": ratios}]) == []
    slow = against_textbook.too_slow([{"strategy": "augmented", "ratios": {"training step": 1.04}}])
    assert slow == ["augmented: training step 1.04, at least 1.1 wanted"]


def test_parts_are_measured_there_and_back_in_turn_and_the_first_round_does_not_count():
    order = []
    seconds = stopwatch.interleaved({name: lambda name=name: order.append(name) or len(order) for name in "ab"}, 2)
    assert order == ["a", "b", "a", "b", "b", "a"]
    assert seconds == {"a": [3, 6], "b": [4, 5]}


def test_operations_of_the_textbooks_convnet_by_hand():
    model = build(get_recipe("chollet2-scratch"), 2).model()
    forward = 2 * 9 * (3 * 32 * 178**2 + 32 * 64 * 87**2 + 64 * 128 * 41**2 + 128 * 256 * 18**2 + 256 * 256 * 7**2)
    forward += 2 * 7 * 7 * 256
    first = 2 * 9 * 3 * 32 * 178**2  # whose input needs no gradient
    assert stopwatch.gflop(model, training=False) == pytest.approx(forward / 1e9)
    assert stopwatch.gflop(model, training=True) == pytest.approx((3 * forward - first) / 1e9)
