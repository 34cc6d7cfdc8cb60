"""An exported script repeats its run without the app: same losses, same layers, and nobody's text becomes code."""

import ast
import hashlib
import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps

import cvcore
from cvcore.augmentation import PRESETS, AugmentationPolicy
from cvcore.code_export import standalone_script
from cvcore.code_parts import augmentation_layer
from cvcore.datasets import load_picture, open_dataset, resize
from cvcore.published import RECIPES
from cvcore.recipe import make_recipe

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
VGG = make_recipe(id="tiny-vgg", strategy="features", base="VGG16", weights="random", preprocessing="base", dense=(4,),
                  dense_activation="linear", dense_dropout=0.5, **{**SMALL, "epochs": 1}, interpolation="nearest",
                  augmentation={"rotation": 20, "zoom": 0.1})  # fmt: skip
MOBILENET = VGG.with_changes(id="tiny-mobilenet", base="MobileNetV2", alpha=0.35, pooling="average").then(
    id="tiny-mobilenet-finetune", unfreeze_from="Conv_1", learning_rate=1e-2
)
VGG_FINETUNE = VGG.then(id="tiny-vgg-finetune", learning_rate=1e-5, augmentation={"horizontal_flip": True})


def write_pictures(folder: Path, class_names: tuple[str, ...], counts: dict[str, int]) -> Path:
    """Noise pictures, brighter from class to class, of sizes that resizing must not round."""
    random = np.random.default_rng(7)
    for split, count in counts.items():
        for label, name in enumerate(class_names):
            (folder / split / name).mkdir(parents=True)
            for number in range(count):
                shape = (33 + 5 * number, 47 - 2 * number, 3)
                pixels = random.integers(0, 130 + 60 * label, shape).astype("uint8")
                Image.fromarray(pixels).save(folder / split / name / f"{number}.png")
    return folder


DRIVER = """
import contextlib, json, runpy, sys
import keras
for line in sys.stdin:
    sys.argv = json.loads(line)
    with open(sys.argv[0] + ".txt", "w") as out, contextlib.redirect_stdout(out):
        runpy.run_path(sys.argv[0], run_name="__main__")
    assert "cvcore" not in sys.modules
"""


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Train each recipe with the app, and repeat it with its script in one Python that cannot see the app."""
    tmp = tmp_path_factory.mktemp("code")
    two = write_pictures(tmp / "two", ("cat", INJECTION), {"train": 5, "valid": 3, "test": 3})
    three = write_pictures(tmp / "three", ("a", "a-b", "c"), {"Train": 4, "val": 2})
    weights, outside = tmp / "base.weights.h5", tmp / "outside"
    outside.mkdir()
    done = {}
    environment = {**os.environ, "PYTHONPATH": "", "TF_CPP_MIN_LOG_LEVEL": "3"}
    with pytest.MonkeyPatch.context() as patch, (outside / "errors.txt").open("w") as errors:
        patch.setenv("CVCORE_CACHE", str(tmp / "cache"))
        driver = subprocess.Popen([sys.executable, "-c", DRIVER], stdin=subprocess.PIPE, stderr=errors, text=True,
                                  cwd=outside, env=environment)  # fmt: skip

        def repeat(name, recipe, data, argument=None, **options):
            run = cvcore.train(recipe, data, seed=5, runs=tmp / "runs", **options)
            script = outside / f"{name}.py"
            script.write_text(standalone_script(run.info))
            call = [str(script), str(data), *([str(argument)] if argument else []), "--save", f"{outside / name}.keras"]
            print(json.dumps(call), file=driver.stdin, flush=True)
            done[name] = run, script
            return run

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
        repeat("vgg-finetune", VGG_FINETUNE, two)
        repeat("mobilenet-finetune", MOBILENET, two)
        driver.communicate(timeout=300)
    assert driver.returncode == 0, (outside / "errors.txt").read_text()[-3000:]
    return done


def figures(script: Path) -> tuple[list[dict[str, float]], dict[str, float]]:
    """Read what a script printed: a dict an epoch, and the final figures."""
    epochs, final = [], {}
    for line in Path(f"{script}.txt").read_text().splitlines():
        words = line.split()
        if line.startswith("epoch "):
            epochs.append(dict(zip(words[::2], map(float, words[1::2]), strict=True)))
        elif line.startswith(("best_epoch ", "test_loss ")):
            final.update(zip(words[::2], map(float, words[1::2]), strict=True))
    return epochs, final


NAMES = ("scratch", "augmented", "features", "finetune", "vgg-finetune", "mobilenet-finetune", "finetune-from-run")


@pytest.mark.parametrize("name", NAMES)
def test_script_repeats_the_losses_of_its_run(runs, name):
    run, script = runs[name]
    epochs, final = figures(script)
    history = run.history()
    assert len(epochs) == len(history)
    for ours, theirs in zip(epochs, history.to_dict("records"), strict=True):
        for figure in ("loss", "val_loss", "accuracy", "val_accuracy"):
            assert ours[figure] == pytest.approx(theirs[figure], abs=1e-4, rel=1e-5), (figure, ours, theirs)
    assert final["best_epoch"] == run.metrics["best_epoch"]
    for figure in ("test_loss", "test_accuracy"):
        assert final.get(figure) == pytest.approx(run.metrics[figure], abs=1e-4)


def test_the_runs_stop_early_and_fine_tuning_makes_one_worse(runs):
    """What the comparison above covers only as long as these runs are so."""
    assert len(runs["features"][0].history()) < FEATURES.epochs
    metrics = runs["finetune"][0].metrics
    assert metrics["best_epoch"] < metrics["epochs"]


@pytest.mark.parametrize("name", NAMES)
def test_script_builds_the_layers_of_the_app(runs, name):
    run, script = runs[name]

    def layer_names(path):
        with zipfile.ZipFile(path) as archive:
            return [layer["name"] for layer in json.loads(archive.read("config.json"))["config"]["layers"]]

    named = [layer for layer in layer_names(run.path / "model.keras") if layer != "vgg16"]
    assert [layer for layer in layer_names(script.with_suffix(".keras")) if layer != "vgg16"] == named


@pytest.mark.parametrize("name", NAMES)
def test_script_passes_ruff(runs, name):
    ruff = [sys.executable, "-m", "ruff", "check", "--isolated", str(runs[name][1])]
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
    import keras

    from cvcore.augmentation_layer import Augmentation

    policy = AugmentationPolicy(**policy)
    names = {"np": np, "keras": keras, "ops": keras.ops, "layers": keras.layers, "SEED": 1}
    exec(augmentation_layer(policy, "Exported"), names)
    images = np.random.default_rng(0).integers(0, 256, (6, 21, 30, 3)).astype("float32")
    results = []
    for layer in (names["Exported"](), Augmentation(policy)):
        layer.seed_generator.state.assign([77, 0])
        results.append(keras.ops.convert_to_numpy(layer(images, training=True)))
        np.testing.assert_array_equal(keras.ops.convert_to_numpy(layer(images)), images)
    np.testing.assert_array_equal(*results)
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
        assert imported == {"argparse", "math", "keras", "numpy"}
        values = {
            node.targets[0].id: ast.literal_eval(node.value)
            for node in tree.body
            if isinstance(node, ast.Assign)
            and getattr(node.targets[0], "id", None) in ("RUN", "RECIPE", "DATASET", "CLASS_NAMES")
        }
        assert values == {"RUN": text, "RECIPE": text, "DATASET": text, "CLASS_NAMES": [text, "other"]}


def test_from_run_and_unfreeze_from_are_literals():
    info = info_of(VGG_FINETUNE.with_changes(unfreeze_from=INJECTION))
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


@pytest.mark.parametrize("interpolation, antialias", [("bilinear", False), ("bilinear", True), ("nearest", False)])
def test_script_reads_pictures_bit_for_bit_as_the_app(tmp_path, interpolation, antialias):
    random = np.random.default_rng(3)
    grey = Image.fromarray(random.integers(0, 65536, (40, 61)).astype("uint16"))
    colour = Image.fromarray(random.integers(0, 256, (90, 70, 3)).astype("uint8"))
    clear = Image.fromarray(random.integers(0, 256, (50, 23, 4)).astype("uint8"))
    turned = Image.Exif()
    turned[0x0112] = 6
    grey.save(tmp_path / "grey.png")
    colour.save(tmp_path / "turned.jpg", exif=turned)
    clear.save(tmp_path / "clear.png")
    colour.quantize(16).save(tmp_path / "palette.gif")
    recipe = SCRATCH.with_changes(interpolation=interpolation, antialias=antialias, image_size=37)
    names = functions_of(standalone_script(info_of(recipe)), IMAGE_SIZE=37)
    for path in tmp_path.iterdir():
        expected = resize(load_picture(path), 37, interpolation, antialias)
        np.testing.assert_array_equal(names["read"](path), expected, path.name)


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
