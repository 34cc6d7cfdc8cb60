"""An exported script repeats its run without the app: same losses, same layers, and nobody's text becomes code."""

import ast
import hashlib
import json
import math
import os
import subprocess
import sys
import zipfile

import numpy as np
import pytest
from outside import Outside, check_equal, write_pictures
from PIL import Image, ImageOps

import cvcore
from cvcore import devices
from cvcore.augmentation import PRESETS, AugmentationPolicy
from cvcore.code_export import standalone_script
from cvcore.code_layers import augmentation_layer
from cvcore.datasets import load_picture, open_dataset, pixels, resize
from cvcore.datasets.pictures import grey
from cvcore.published import RECIPES
from cvcore.recipe import make_recipe
from cvcore.workload import workload

# All runs are trained, and repeated, before the first test: a busy machine takes its time over them.
pytestmark = pytest.mark.timeout(1800)
INJECTION = '"); import os #'
SMALL = {"image_size": 32, "batch_size": 4, "epochs": 2, "learning_rate": 0.01}
EVERYTHING = {
    "horizontal_flip": True, "vertical_flip": True, "rotation": 40, "width_shift": 0.2, "height_shift": 0.1,
    "shear": 15, "zoom": 0.3, "zoom_per_axis": True, "brightness": 0.2, "contrast": 0.3, "fill_mode": "nearest",
}  # fmt: skip
SCRATCH = make_recipe(
    id="tiny", strategy="scratch", filters=(4, 8), dense=(8,), dropout=0.5, block_dropout=0.2, dense_dropout=0.3,
    optimizer="sgd", momentum=0.9, nesterov=True, title='"""\nimport os', **SMALL,
)  # fmt: skip
AUGMENTED = SCRATCH.with_changes(strategy="augmented", augmentation=EVERYTHING, optimizer="adam", momentum=0,
                                 nesterov=False, antialias=True, pooling="average")  # fmt: skip
FEATURES = make_recipe(
    id="tiny-features", strategy="features", base="doodle-base", pooling="average", dropout=0.5, cached=True,
    early_stopping_patience=1, **{**SMALL, "epochs": 9, "learning_rate": 0.3},
)  # fmt: skip
FINETUNE = FEATURES.then(id="tiny-finetune", epochs=1, augmentation={"horizontal_flip": True, "contrast": 0.2})
HEAD = make_recipe(
    id="tiny-head", strategy="features", base="doodle-base", weights="random", preprocessing="base", dense=(4,),
    dense_activation="linear", dense_dropout=0.5, augmentation={"rotation": 20, "zoom": 0.1},
    **{**SMALL, "epochs": 1}, interpolation="nearest",
)  # fmt: skip
TWO_POLICIES = HEAD.then(id="tiny-two-policies", learning_rate=1e-5, augmentation={"horizontal_flip": True})
# Three steps an epoch and two a pass: views change within an epoch too.
VIEWS = HEAD.with_changes(id="tiny-views", views=2, epochs=3, steps_per_epoch=3, train_pictures=7)
# The head without views, the top of the base with them, from the middle of a block with a way around it: three passes,
# from the run's third on, of which the last takes the first view again and none takes the second.
MOBILENET = HEAD.with_changes(id="tiny-mobilenet", base="MobileNetV2", alpha=0.35, pooling="average", epochs=2).then(
    id="tiny-mobilenet-finetune", unfreeze_from="block_14_project", epochs=3, views=4,
    augmentation={"horizontal_flip": True, "brightness": 0.2},
)  # fmt: skip


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Train each recipe with the app, and repeat it with its script in one Python that cannot see the app."""
    tmp = tmp_path_factory.mktemp("code")
    two = write_pictures(tmp / "two", ("cat", INJECTION), {"train": 5, "valid": 3, "test": 3})
    three = write_pictures(tmp / "three", ("a", "a-b", "c"), {"Train": 4, "val": 2})
    weights = tmp / "base.weights.h5"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CVCORE_CACHE", str(tmp / "cache"))
        outside = Outside(tmp / "outside")

        def repeat(name, recipe, data, argument=None, **options):
            run = cvcore.train(recipe, data, seed=5, runs=tmp / "runs", **options)
            return outside.repeat(name, run, data, argument)

        import keras

        from cvcore.doodle_base import doodle_base

        keras.utils.set_random_seed(1)
        doodle_base((32, 32, 3)).save_weights(weights)
        repeat("scratch", SCRATCH, two)
        repeat("augmented", AUGMENTED, three)
        features = repeat("features", FEATURES, two, weights, weights=weights)
        repeat("finetune", FINETUNE, two, weights, weights=weights)
        gentle = FINETUNE.with_changes(learning_rate=1e-3)
        repeat("finetune-from-run", gentle, two, features.path / "model.keras", from_run=features.id)
        repeat("two-policies", TWO_POLICIES, two)
        repeat("views", VIEWS, two)
        repeat("mobilenet-finetune", MOBILENET, two)
        outside.finish()
    return outside.done


NAMES = (
    "scratch", "augmented", "features", "finetune", "two-policies", "views", "mobilenet-finetune",
    "finetune-from-run",
)  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_script_repeats_the_losses_of_its_run(runs, name):
    check_equal(*runs[name])


def test_a_script_runs_under_its_own_name_and_finds_a_folder_beside_it(runs):
    """Python looks beside a script first, where `code` is the script and no longer a module that Keras needs."""
    run, home = runs["features"]
    data, weights = (os.path.relpath(home.parents[1] / name, home) for name in ("two", "base.weights.h5"))
    call = [sys.executable, "code.py", data, weights]
    environment = {**os.environ, "PYTHONPATH": "", "TF_CPP_MIN_LOG_LEVEL": "3"}
    done = subprocess.run(call, cwd=home, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    (home / "own").mkdir()
    (home / "own" / "printed.txt").write_text(done.stdout)
    check_equal(run, home / "own")


def test_no_more_views_are_computed_than_there_are_passes(runs):
    run, home = runs["mobilenet-finetune"]
    work = workload(MOBILENET, run.dataset["counts"])
    assert sorted(each.view for each in work.extractions if each.view is not None) == [0, 2, 3]
    assert run.info["work"]["extracted_pictures"] == work.extract
    assert "sorted(passes" in (home / "code.py").read_text()
    assert "numbers = range(3)  # of 64" in standalone_script(info_of(HEAD.with_changes(views=64, epochs=3)))


def test_the_runs_stop_early_and_fine_tuning_makes_one_worse(runs):
    """What the comparison above covers only as long as these runs are so."""
    assert len(runs["features"][0].history()) < FEATURES.epochs
    metrics = runs["finetune"][0].metrics
    assert metrics["best_epoch"] < metrics["epochs"]


@pytest.mark.parametrize("name", NAMES)
def test_script_builds_the_layers_of_the_app(runs, name):
    run, home = runs[name]

    def layer_names(path):
        with zipfile.ZipFile(path) as archive:
            return [layer["name"] for layer in json.loads(archive.read("config.json"))["config"]["layers"]]

    assert layer_names(home / "code.keras") == layer_names(run.path / "model.keras")


@pytest.mark.parametrize("name", NAMES)
def test_script_passes_ruff(runs, name):
    ruff = [sys.executable, "-m", "ruff", "check", "--isolated", str(runs[name][1] / "code.py")]
    done = subprocess.run(ruff, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def info_of(recipe, class_names=("cat", "dog"), title="Pets", **counts):
    """A run.json with as many pictures a class as said."""
    counts = {split: dict.fromkeys(class_names, n) for split, n in (counts or {"train": 9, "validation": 9}).items()}
    dataset = {"id": "pets", "title": title, "class_names": list(class_names), "counts": counts}
    return {"run": "r", "recipe": recipe.model_dump(mode="json"), "dataset": dataset, "seed": 0, "from_run": None}


@pytest.mark.parametrize(
    "policy",
    [
        *({"zoom": 0.4, "fill_mode": "wrap"}, {"shear": 20, "fill_mode": "constant", "fill_value": 9.5}),
        *({"width_shift": 0.2, "vertical_flip": True}, {"height_shift": 0.2, "rotation": 10}),
        *({"brightness": 0.2}, {"contrast": 0.4, "horizontal_flip": True}),
        *(policy.model_dump() for policy in PRESETS.values() if not policy.is_identity),
    ],
    ids=lambda policy: " ".join(name for name, value in policy.items() if value),
)
def test_exported_augmentation_is_the_apps_bit_for_bit(policy):
    """Also in a graph, where TensorFlow multiplies constants that follow one another and so rounds otherwise."""
    import keras

    from cvcore.augmentation_layer import Augmentation

    policy = AugmentationPolicy(**policy)
    names = {"np": np, "keras": keras, "ops": keras.ops, "layers": keras.layers, "SEED": 1}
    exec(augmentation_layer(policy, "Exported"), names)
    images = np.random.default_rng(0).integers(0, 256, (6, 21, 30, 3)).astype("float32")
    results, in_graph = [], []
    for layer in (names["Exported"](), Augmentation(policy)):
        layer.seed_generator.state.assign([77, 0])
        results.append(keras.ops.convert_to_numpy(layer(images, training=True)))
        np.testing.assert_array_equal(keras.ops.convert_to_numpy(layer(images)), images)
        if keras.config.backend() == "tensorflow":
            graph = devices.tensorflow_graph(lambda images, layer=layer: layer(images, training=True))
            graph(keras.ops.convert_to_tensor(images[:4]))  # from the second size on it is of any, as in training
            layer.seed_generator.state.assign([77, 0])
            in_graph.append(keras.ops.convert_to_numpy(graph(keras.ops.convert_to_tensor(images))))
    np.testing.assert_array_equal(*results)
    np.testing.assert_array_equal(*in_graph or results)
    assert np.abs(results[0] - images).max() > 1


def functions_of(script, **values):
    """The functions of a script, without running the rest of it."""
    tree = ast.parse(script)
    body = [node for node in tree.body if isinstance(node, ast.FunctionDef)]
    names = {"np": np, "Image": Image, "ImageOps": ImageOps, "hashlib": hashlib, "IMAGE_SIZE": 32, **values}
    suffixes = next(node for node in tree.body if isinstance(node, ast.Assign) and "SUFFIXES" in ast.dump(node))
    exec(compile(ast.Module([suffixes, *body], []), "code.py", "exec"), names)
    return names


def test_nobodys_text_becomes_code():
    nasty = [
        '"); import os #',
        "'); import os #",
        '"""',
        "\nimport os",
        "\\",
        "\u2028import os",
        "{RUN}",
        "$resize",
        "%s",
    ]
    for text in nasty:
        info = info_of(SCRATCH.with_changes(title=text), (text, "other"), text)
        tree = ast.parse(standalone_script({**info, "run": text}))
        imported = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
        assert imported == {"argparse", "math", "sys", "keras", "numpy", "tensorflow"}
        values = {
            node.targets[0].id: ast.literal_eval(node.value)
            for node in tree.body
            if isinstance(node, ast.Assign)
            and getattr(node.targets[0], "id", None) in ("RUN", "RECIPE", "DATASET", "CLASS_NAMES")
        }
        assert values == {"RUN": text, "RECIPE": text, "DATASET": text, "CLASS_NAMES": [text, "other"]}


def test_from_run_and_unfreeze_from_are_literals():
    info = info_of(TWO_POLICIES.with_changes(unfreeze_from=INJECTION))
    tree = ast.parse(standalone_script({**info, "from_run": INJECTION}))
    strings = [node.value for node in ast.walk(tree) if isinstance(node, ast.Constant)]
    assert strings.count(INJECTION) == 2


def test_script_holds_only_what_its_recipe_needs():
    scratch = standalone_script(info_of(RECIPES["chollet2-scratch"]))
    for word in (
        "base",
        "Augmentation",
        "Dropout",
        "seed_generator",
        "test_images",
        "hashlib",
        "weights_file",
        "features",
    ):
        assert word not in scratch
    assert "divide(" not in standalone_script(info_of(RECIPES["doodle-scratch"], train=1000, validation=500, test=500))
    assert "divide(find(data), 0.15, 0.15)" in standalone_script(
        info_of(RECIPES["doodle-scratch"], train=70, validation=15, test=15)
    )
    assert "divide(train_files, 0.2)" in standalone_script(info_of(RECIPES["doodle-scratch"], train=80, validation=20))


@pytest.mark.parametrize("recipe", RECIPES.values(), ids=list(RECIPES))
def test_published_recipes_write_valid_python(recipe):
    ast.parse(standalone_script(info_of(recipe, train=1000, validation=500, test=500)))


def test_writing_a_script_loads_no_keras():
    code = (
        "import sys; from cvcore.code_export import standalone_script; from cvcore.published import RECIPES\n"
        "counts = {'train': {'a': 9, 'b': 9}, 'validation': {'a': 9, 'b': 9}}\n"
        "dataset = {'class_names': ['a', 'b'], 'counts': counts}\n"
        "recipe = RECIPES['doodle-finetune'].model_dump(mode='json')\n"
        "text = standalone_script({'recipe': recipe, 'dataset': dataset, 'seed': 0})\n"
        "assert 'def doodle_base' in text and not {'keras', 'tensorflow'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("color_mode", ["rgb", "grayscale"])
@pytest.mark.parametrize("interpolation, antialias", [("bilinear", False), ("bilinear", True), ("nearest", False)])
def test_script_reads_pictures_bit_for_bit_as_the_app(tmp_path, interpolation, antialias, color_mode):
    random = np.random.default_rng(3)
    deep = Image.fromarray(random.integers(0, 65536, (40, 61)).astype("uint16"))
    colour = Image.fromarray(random.integers(0, 256, (90, 70, 3)).astype("uint8"))
    clear = Image.fromarray(random.integers(0, 256, (50, 23, 4)).astype("uint8"))
    turned = Image.Exif()
    turned[0x0112] = 6
    deep.save(tmp_path / "deep.png")
    colour.save(tmp_path / "turned.jpg", exif=turned)
    clear.save(tmp_path / "clear.png")
    colour.quantize(16).save(tmp_path / "palette.gif")
    recipe = SCRATCH.with_changes(
        interpolation=interpolation, antialias=antialias, image_size=37, color_mode=color_mode
    )
    names = functions_of(standalone_script(info_of(recipe)), IMAGE_SIZE=37)
    for path in tmp_path.iterdir():
        picture = load_picture(path)
        if color_mode == "rgb":
            expected = resize(picture, 37, interpolation, antialias)
        else:
            expected = resize(grey(picture), 37, interpolation, antialias)[..., :1]
        np.testing.assert_array_equal(names["read"](path), expected, path.name)


def test_script_of_digits_says_where_their_file_is_and_reads_it_as_the_app(tmp_path, monkeypatch):
    monkeypatch.setenv("CVCORE_CACHE", str(tmp_path / "cache"))
    random, arrays = np.random.default_rng(1), {}
    for part, count in (("train", 100), ("test", 20)):
        arrays[f"x_{part}"] = random.integers(0, 256, (count, 28, 28)).astype("uint8")
        arrays[f"y_{part}"] = np.arange(count) * 7 % 10
    np.savez(tmp_path / "mnist.npz", **arrays)
    dataset = open_dataset(tmp_path / "mnist.npz")
    recipe = RECIPES["exercise-mnist"]
    code = standalone_script({**info_of(recipe), "dataset": dataset.summary()})
    assert "\nhttps://storage.googleapis.com/tensorflow/tf-keras-datasets/mnist.npz\n" in ast.get_docstring(
        ast.parse(code)
    )
    names = functions_of(code, CLASS_NAMES=list(dataset.class_names), IMAGE_SIZE=28, math=math)
    for split, digits in zip(("train", "validation", "test"), names["digits"](tmp_path / "mnist.npz"), strict=True):
        assert [label for _, label in digits] == dataset.labels(split).tolist()
        expected = pixels(dataset, split, 28, "nearest", False, color_mode="grayscale")
        np.testing.assert_array_equal([names["read"](digit) for digit, _ in digits], expected)
    assert "npz" not in standalone_script(info_of(recipe, tuple("0123456789"), train=9, validation=9, test=9))


@pytest.mark.parametrize("splits, call", [({"pets": 9}, "divide(find(data), 0.15, 0.15)"),
                                          ({"train": 9, "test": 2}, "divide(train_files, 0.2)")])  # fmt: skip
def test_script_divides_pictures_as_the_app(tmp_path, monkeypatch, splits, call):
    monkeypatch.setenv("CVCORE_CACHE", str(tmp_path / "cache"))
    folder = write_pictures(tmp_path / "data", ("cat", "dog"), splits)
    first = next(iter(splits))
    (folder / first / "cat" / "broken.png").write_bytes((folder / first / "cat" / "0.png").read_bytes()[:200])
    root = folder if "train" in splits else folder / first
    dataset = open_dataset(root)
    assert dataset.summary()["skipped"] == 1
    info = {**info_of(SCRATCH), "dataset": dataset.summary()}
    assert call in standalone_script(info)
    names = functions_of(standalone_script(info), CLASS_NAMES=["cat", "dog"])
    if "train" in splits:
        parts = names["divide"](names["find"](root / "train"), 0.2)
    else:
        parts = names["divide"](names["find"](root), 0.15, 0.15)
    for split, files in zip(("train", "validation", "test"), parts, strict=False):
        expected = [(root / picture.path, picture.label) for picture in dataset.split(split)]
        assert files == expected and files
