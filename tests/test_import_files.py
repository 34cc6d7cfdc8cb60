"""What a file from elsewhere must be: every rule with a handmade file, and the files that Keras itself writes."""

import json
import math
import time

import pytest

from cvcore.errors import InvalidHistory
from cvcore.saved_history import MAX_BYTES, MAX_COLUMNS, MAX_EPOCHS, read_history

nan = pytest.approx(math.nan, nan_ok=True)
FOUR = {"loss": [0.7, 0.5], "accuracy": [0.5, 0.75], "val_loss": [0.6, 0.4], "val_accuracy": [0.6, 0.7]}


def read(content):
    if not isinstance(content, str | bytes):
        content = json.dumps(content)
    return read_history(content.encode() if isinstance(content, str) else content)


def columns(content):
    """The columns that have a number."""
    found = read(content).columns
    return {name: values for name, values in found.items() if not all(map(math.isnan, values))}


def refusal(content):
    with pytest.raises(InvalidHistory) as caught:
        read(content)
    sentence = str(caught.value)
    assert "\n" not in sentence and len(sentence) < 600
    sentence.encode()  # can be printed
    return sentence


def test_a_keras_history_as_json():
    found = read(FOUR)
    assert found.kind == "JSON" and found.epochs == 2 and found.ignored == ()
    assert columns(FOUR) == FOUR
    assert found.columns["learning_rate"] == [nan, nan]


def test_the_object_that_holds_a_history_beside_its_epochs():
    assert columns({"history": FOUR, "epoch": [0, 1], "params": {"epochs": 2}}) == FOUR
    assert columns({"history": FOUR}) == FOUR


@pytest.mark.parametrize("name", ["acc", "accuracy", "binary_accuracy", "categorical_accuracy",
                                  "sparse_categorical_accuracy"])  # fmt: skip
def test_every_name_that_keras_gives_the_accuracy(name):
    assert columns({name: [0.5], f"val_{name}": [0.25]}) == {"accuracy": [0.5], "val_accuracy": [0.25]}
    assert columns(f"epoch,{name},val_{name}\n0,0.5,0.25\n") == {"accuracy": [0.5], "val_accuracy": [0.25]}


@pytest.mark.parametrize("name", ["learning_rate", "lr"])
def test_both_names_of_the_learning_rate(name):
    assert columns({"loss": [1], name: [0.001]})["learning_rate"] == [0.001]


def test_the_old_and_the_new_name_of_one_accuracy_go_together():
    assert columns({"acc": [0.5], "val_accuracy": [0.25]}) == {"accuracy": [0.5], "val_accuracy": [0.25]}


def test_other_columns_are_left_out_and_named():
    assert read({**FOUR, "precision": ["high", "low"], "top_5": 3}).ignored == ("precision", "top_5")


@pytest.mark.parametrize("separator", [",", ";", "\t"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("first", [0, 1])
def test_csvlogger_files_of_any_separator_and_either_first_epoch(separator, end, first):
    rows = [["epoch", "accuracy", "loss"], [str(first), "0.5", "0.7"], [str(first + 1), "0.75", "5e-1"]]
    text = end.join(separator.join(row) for row in rows) + end
    assert columns(text) == {"accuracy": [0.5, 0.75], "loss": [0.7, 0.5]}
    assert read(text).kind == "CSV" and read(text).ignored == ()


@pytest.mark.parametrize("word", ["NA", "nan", "NaN", "inf", "-Infinity", "None", "", " "])
def test_words_for_no_number_in_a_csv(word):
    assert read(f"epoch,loss,accuracy\n0,{word},0.5\n").columns["loss"] == [nan]


@pytest.mark.parametrize("word", ["NaN", "Infinity", "-Infinity", "null", "1e999", "1" + "0" * 5000, '"nan"'])
def test_words_for_no_number_in_json(word):
    assert read(f'{{"loss": [{word}, 0.5]}}').columns["loss"] == [nan, 0.5]


def test_numbers_that_json_dump_was_told_to_write_as_text():
    assert columns({"loss": ["0.5", "1e-3", "+.5", "3"]}) == {"loss": [0.5, 0.001, 0.5, 3.0]}


def test_a_table_that_pandas_wrote_of_a_history():
    assert columns({name: dict(enumerate(values)) for name, values in FOUR.items()}) == FOUR  # to_json
    assert columns(",loss,accuracy\n0,0.7,0.5\n1,0.5,0.75\n") == {"loss": [0.7, 0.5], "accuracy": [0.5, 0.75]}
    assert read(",epoch,loss\n0,0,0.7\n").ignored == ("",)


def test_the_header_that_old_versions_of_keras_repeat_when_they_append():
    text = "epoch,loss\n0,0.7\nepoch,loss\n1,0.5\n"
    assert columns(text) == {"loss": [0.7, 0.5]}


def test_a_byte_order_mark_and_blank_lines_are_no_obstacle():
    assert columns(b"\xef\xbb\xbfepoch,loss\n\n0,0.7\n\n") == {"loss": [0.7]}


def test_rounding_above_a_whole_share_is_cut():
    assert columns({"accuracy": [1.0000001]}) == {"accuracy": [1.0]}


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("", "at least one epoch; this file is empty"),
        ("\ufeff \n", "this file is empty"),
        (b"\x80\x04\x95", "text in UTF-8"),
        ("epoch,loss\n0,0.5\n".encode("utf-16"), "text in UTF-8"),
        ({}, "must have loss or accuracy; received no columns"),
        ({"precision": [1]}, "must have loss or accuracy; received 'precision'"),
        ("epoch,f1\n0,1\n", "must have loss or accuracy; received 'epoch', 'f1'"),
        ("just some words", "must have loss or accuracy"),
        ({"accuracy": [0.5], "binary_accuracy": [0.5]}, "one measure of accuracy"),
        ({"acc": [0.5], "accuracy": [0.5]}, "received 'accuracy', 'acc': leave one"),
        ({"accuracy": [0.5], "val_binary_accuracy": [0.5]}, "one measure of accuracy"),
        ({"loss": [0.5], "lr": [1], "learning_rate": [1]}, "one learning rate"),
        ({"loss": [0.5, 0.4], "val_loss": [0.5]}, "equally long, a value an epoch; received lengths loss 2, val_"),
        ({"history": {"loss": [0.5, 0.4]}, "epoch": [0]}, "received lengths loss 2, epoch 1"),
        ("epoch,loss,accuracy\n0,0.5,0.5\n1,0.4\n", "each of the 3 names; line 3 has 2"),
        ({"loss": []}, "at least one epoch; received none"),
        ("epoch,loss\n", "at least one epoch; received none"),
        ({"loss": 0.5}, "loss must be a list, a number an epoch; received 0.5"),
        ({"loss": None}, "received null"),
        ({"loss": {"a": 1}}, "received an object"),
        ({"loss": ["low"]}, "loss must be numbers, with a decimal point; received 'low' in epoch 1"),
        ({"loss": [[0.5]]}, "received a list in epoch 1"),
        ({"loss": [0.5, True]}, "received true in epoch 2"),
        ({"loss": ["1_0"]}, "received '1_0'"),
        ("epoch;loss\n0;0,5\n", "with a decimal point; received '0,5'"),
        ({"loss": [None, math.nan]}, "received no number at all"),
        ({"accuracy": [0.5, 74.3]}, "accuracy must be between 0 and 1; received 74.3 in epoch 2: divide it by 100"),
        ({"loss": [1], "val_acc": [-0.1]}, "val_acc must be between 0 and 1; received -0.1"),
        ("epoch,loss\n0,0.5\n2,0.4\n", "received 2 after 0: an epoch is missing"),
        ("epoch,loss\n0,1\n1,1\n0,1\n1,1\n", "received 0 after 1: give each training a file of its own"),
        ("epoch,loss\n1,1\n1,1\n", "received 1 after 1"),
        ("epoch,loss\n5,1\n6,1\n", "begin with 0 or 1; received 5"),
        ("epoch,loss\n0.5,1\n", "begin with 0 or 1; received 0.5"),
        ("epoch,loss\nNA,1\n", "begin with 0 or 1; received nan"),
        ("epoch,loss\nfirst,1\n", "epoch must be numbers"),
        ({"history": {"loss": [1]}, "epoch": 0}, "epoch must be a list"),
        ("{'loss': [0.5]}", "begins like JSON and is none"),
        ('{"loss": [0.5', "begins like JSON and is none"),
        ('[{"loss": 0.5}]', "received a list"),
        ('{"loss": [1], "loss": [2]}', "'loss' twice"),
        ("epoch,loss,loss\n0,1,2\n", "'loss' twice"),
        ('epoch,loss\n0,"0.5\n1,0.4\n', "is not a line of a CSVLogger file"),
    ],
)  # fmt: skip
def test_what_breaks_a_rule_is_one_sentence(content, words):
    assert words in refusal(content)


HOSTILE = {
    "too many bytes": b" " * (MAX_BYTES + 1),
    "nested": b"[" * 1_000_000,
    "nested objects": b'{"a":' * 300_000,
    "nested value of a column": b'{"loss": [' + b"[" * 800 + b"]" * 800 + b"]}",
    "many names, the last twice": b"{" + b"".join(b'"%d":0,' % n for n in range(150_000)) + b'"1":0}',
    "many columns": json.dumps({f"m{n}": [] for n in range(MAX_COLUMNS + 1)}).encode(),
    "a header of commas": b"," * 1_900_000,
    "many epochs": json.dumps({"loss": [1] * (MAX_EPOCHS + 1)}).encode(),
    "many lines": b"loss\n" + b"1\n" * (MAX_EPOCHS + 1),
    "a long cell": b"epoch,loss\n0," + b"9" * 1_000_000,
    "a long number": b'{"accuracy": ["' + b"9" * 1_900_000 + b'x"]}',
    "half a character": b'{"\\ud800": [1]}',
    "half a character as a value": b'{"loss": ["\\ud800"]}',
    "control characters": b"\x00\x1b[31m,loss\n0,\x1b[0m\n",
    "digits that are no ASCII": '{"loss": ["\u0661"]}'.encode(),
    "a long name": b'{"' + b"x" * 1_000_000 + b'": [1]}',
    "a zip": b"PK\x03\x04" + bytes(range(128, 256)),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_file_is_one_sentence_and_soon(name):
    began = time.process_time()  # others may keep us waiting
    sentence = refusal(HOSTILE[name])
    assert sentence.isprintable()
    assert time.process_time() - began < 20  # a quadratic reader takes minutes


def test_a_million_digits_are_read_soon():
    began = time.process_time()  # others may keep us waiting
    assert read('{"loss": [' + "9" * 1_900_000 + ", 1]}").columns["loss"] == [nan, 1.0]
    assert time.process_time() - began < 20


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A two-layer network trained on eight rows for three epochs: its History, and its CSVLogger files."""
    import keras
    import numpy as np

    folder = tmp_path_factory.mktemp("trained")
    random = np.random.default_rng(0)
    rows, labels = random.normal(size=(8, 4)).astype("float32"), np.array([0, 1] * 4)
    histories = {}
    for name, validation in (("with", (rows, labels)), ("without", None)):
        keras.utils.set_random_seed(0)
        model = keras.Sequential([keras.layers.Dense(4, activation="relu"), keras.layers.Dense(1, "sigmoid")])
        model.compile(loss="binary_crossentropy", metrics=["accuracy"])
        log = keras.callbacks.CSVLogger(folder / f"{name}.log", separator=";")
        callbacks = [keras.callbacks.ReduceLROnPlateau("loss", patience=1), log]
        histories[name] = model.fit(rows, labels, epochs=3, verbose=0, validation_data=validation, callbacks=callbacks)
    return folder, histories


def test_the_history_of_a_real_training_dumped_as_json(trained):
    _, histories = trained
    history = histories["with"].history
    assert set(history) == {"loss", "accuracy", "val_loss", "val_accuracy", "learning_rate"}
    assert columns(json.dumps(history)) == {name: pytest.approx(values) for name, values in history.items()}
    document = {"history": history, "epoch": histories["with"].epoch}
    assert columns(json.dumps(document)) == columns(json.dumps(history))


def test_the_csvlogger_file_of_a_real_training_says_what_its_history_says(trained):
    folder, histories = trained
    data = (folder / "with.log").read_bytes()
    assert data.startswith(b"epoch;") and b"\n0;" in data
    assert columns(data) == {name: pytest.approx(values) for name, values in histories["with"].history.items()}


def test_the_csvlogger_file_of_a_training_without_validation_has_none(trained):
    folder, histories = trained
    data = (folder / "without.log").read_bytes()
    assert b"val_loss" in data and b";NA" in data  # Keras names the columns all the same
    assert columns(data) == {name: pytest.approx(values) for name, values in histories["without"].history.items()}
