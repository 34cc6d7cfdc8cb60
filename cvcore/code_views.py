"""The part of an exported script that stores views, where its run had them: see `code_export`."""

from __future__ import annotations

from string import Template

from cvcore.augmentation import UNIFORMS
from cvcore.recipe import Recipe
from cvcore.views import VIEWS_ENTROPY, views_used

STORED_VIEWS = Template('''\
# Stored views: a few changed versions of each training picture are drawn once. What the frozen layers make of them is
# kept in half precision, and each pass over the pictures takes the next version. Training sees the same versions again
# and again: another training than one whose pictures change anew in every epoch.
def stored_views(frozen, augmentation, views):
    """Run changed training pictures through the frozen layers: float16 (views, n, ...), in a file that is not kept."""
    frozen.compile(jit_compile=XLA)
    shape = (len(views), len(train_images), *frozen.output_shape[1:])
    with TemporaryFile(dir=".") as file:  # gone from the folder as soon as nothing needs it
        stored = np.memmap(file, "float16", "w+", shape=shape)
    for place, view in enumerate(views):
        random = np.random.default_rng(np.random.SeedSequence(($entropy, view)))  # whatever the seed
        uniforms = random.random(($pictures, $columns), dtype="float32")$rows
        for start in range(0, len(train_images), 32):
            part = slice(start, start + 32)
            images = ops.convert_to_tensor(train_images[part].astype("float32"))
            changed = augmentation.change(images, ops.convert_to_tensor(uniforms[part]))
            stored[place, part] = np.clip(frozen.predict_on_batch(changed), -65504, 65504)  # all that float16 can hold
    return stored''')

VIEWS = """\
    views = None  # several inputs, of which each pass takes the next
"""

TAKES_A_VIEW = """
        if self.views is not None:
            self.inputs = self.views[(epoch - 1) % len(self.views)]"""

STAYS_THE_SAME = """\
# The app runs the frozen layers once over each picture that stays the same, and trains and tests on what it stored.
# Here they run every time: the same mathematics."""


def stored_views(chosen: bool) -> str:
    """Write the function that stores views.

    Args:
        chosen: the run trains on some of the training pictures, the `rows` of the script; views are drawn for all.
    """
    return STORED_VIEWS.substitute(
        entropy=VIEWS_ENTROPY,
        columns=UNIFORMS,
        pictures="max(rows) + 1" if chosen else "len(train_images)",
        rows="[rows]" if chosen else "",
    )


def views_taken(recipe: Recipe, pictures: int, first: bool) -> list[str]:
    """Write `numbers`, of the views that a phase's passes take, in the order of `views.views_used`.

    Args:
        recipe: of the phase, which has views.
        pictures: that it trains on.
        first: no phase comes before it; the epochs of one that does are known when the script runs.
    """
    used, views, epochs, steps = len(views_used(recipe, pictures)), recipe.views, recipe.epochs, recipe.steps_per_epoch
    if used == views:
        return [f"numbers = range({views})"]
    if first:
        return [f"numbers = range({used})  # of {views}: there are no more passes"]
    passes = [f"passes = range(len(history), len(history) + {epochs})"]
    if steps:
        passes = [f"a_pass = math.ceil(len(train_labels) / {recipe.batch_size})",
                  f"passes = range(len(history) * {steps} // a_pass, "
                  f"math.ceil((len(history) + {epochs}) * {steps} / a_pass))"]  # fmt: skip
    return [
        f"# There are fewer passes than the {views} versions: only theirs, each where its pass looks for it.",
        *passes,
        f"numbers = [number % {views} for number in sorted(passes, key=lambda number: number % len(passes))]",
    ]


def above_a_cut(every_epoch: str) -> str:
    """Write the callback of a script so that layers above a cut draw what they would draw in the whole network."""
    for old, new in (
        ("batches):\n", "batches, below=0):\n"),
        ("self.batches = batches", "self.batches, self.below = batches, below  # layers that the model has not"),
        ("index + 1)", "self.below + index + 1)"),
    ):
        assert old in every_epoch
        every_epoch = every_epoch.replace(old, new, 1)
    return every_epoch


def with_views(batches: str) -> str:
    """Write the batches of a script so that each pass takes the next of several inputs."""
    for old, new in (
        ("\n    def __init__", f"\n{VIEWS}\n    def __init__"),
        (".permutation(len(self.labels))", f".permutation(len(self.labels)){TAKES_A_VIEW}"),
    ):
        assert old in batches
        batches = batches.replace(old, new, 1)
    return batches
