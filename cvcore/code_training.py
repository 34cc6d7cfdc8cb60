"""How an exported script trains: each phase of a run with its optimizer and Keras' callbacks (see `code_export`)."""

from __future__ import annotations

import inspect
from collections.abc import Mapping

from cvcore import code_parts, code_views
from cvcore.code_network import NetworkCode
from cvcore.code_parts import literal
from cvcore.recipe import Recipe
from cvcore.schedules import SCHEDULES
from cvcore.strategies import Phase


def training(network: NetworkCode, place: int, counts: Mapping[str, list[int]]) -> str:
    """Write one phase: what is trainable, the model, compile and fit.

    Args:
        network: of the run.
        place: of the phase among the run's, from 0.
        counts: pictures of each class, of each split that the run has.
    """
    phase = network.phases[place]
    recipe, kind = phase.recipe, "features" if phase.on_features or phase.recipe.views else "images"
    lines = [f"# {place + 1}. {phase.name.capitalize()}"] if len(network.phases) > 1 else ["# Training"]
    if phase.on_features:
        lines += _features(network, list(counts) if len(network.phases) == 1 else ["train", "validation"])
    elif not recipe.views and not network.one_model:
        first, start = network.pictures_in(recipe)
        lines += [*first, f"model = keras.Model(inputs, through_head(through_base({start})))"]
    if phase.trainable not in ("everything", "head"):
        lines += network.unfreezing(phase.trainable)
    skipped = 0
    if recipe.views:
        below, above, skipped = network.cut(phase.trainable)
        policy = recipe.augmentation
        assert policy is not None
        pictures = min(sum(counts["train"]), recipe.train_pictures or sum(counts["train"]))
        lines += [
            *below,
            *code_views.views_taken(recipe, pictures, first=not place),
            f"views = stored_views(extractor, {network.augmentation(policy)}(), numbers)",
            "batches = pipeline(Batches(validation_images, validation_labels, 32))",
            "validation_features = extractor.predict(batches, verbose=0)",
            *above,
        ]
    elif recipe.base and not phase.on_features:
        lines += code_views.STAYS_THE_SAME.splitlines()
    if place:
        lines.append("head_epochs, head_weights = len(history), model.get_weights()")
    train = "views[0]" if recipe.views else f"train_{kind}"
    batches = f"{train}, train_labels, {recipe.batch_size}"
    steps = recipe.steps_per_epoch
    lines.append(f"batches = Stream({batches}, steps={steps})" if steps else f"batches = Batches({batches})")
    lines += ["batches.views = views"] if recipe.views else []
    evaluated = f"validation_{kind}, validation_labels"
    whole = network.recipe
    if whole.validation_steps:
        if not place:
            lines += [
                f"# {whole.validation_steps} batches of validation pictures, drawn once, stand for all while training.",
                "drawn = np.random.default_rng(epoch_seed(0, 0)).permutation(len(validation_labels))",
                f"seen = np.sort(drawn[: {whole.validation_steps} * {whole.batch_size}])",
            ]
        evaluated = f"validation_{kind}[seen], validation_labels[seen]"
    return "\n".join(
        [
            *lines,
            *_best_epoch(recipe),
            *_decay(recipe),
            *compiled("model", network, recipe),
            "model.fit(",
            "    pipeline(batches),",
            f"    validation_data=pipeline(Batches({evaluated}, 64)),",
            f"    epochs={recipe.epochs},",
            *_callbacks(phase, skipped),
            "    shuffle=False,",
            "    verbose=0,",
            ")",
        ]
    )


def compiled(model: str, network: NetworkCode, recipe: Recipe | None = None) -> list[str]:
    """Compile the model of this name, to be trained as a recipe says, or only to be evaluated."""
    return [
        f"{model}.compile(",
        *([f"    optimizer={_optimizer(recipe)},"] if recipe else []),
        f'    loss="{"sparse_categorical" if network.softmax else "binary"}_crossentropy",',
        '    metrics=["accuracy"],',
        "    jit_compile=XLA,",
        ")",
    ]


def schedule_sources(phases: tuple[Phase, ...]) -> list[str]:
    """Return the source of each learning-rate schedule that a run's phases name."""
    names = dict.fromkeys(phase.recipe.learning_rate_schedule for phase in phases)
    return [inspect.getsource(SCHEDULES[name]) for name in names if name]


def _features(network: NetworkCode, splits: list[str]) -> list[str]:
    """Run the frozen base once over each split, and make the model that is trained on what it saw."""
    lines = code_parts.FEATURES.replace("INPUT", network.input).splitlines()
    for name in splits:
        extractor = "extractor"
        if name == "test" and network.other_test:
            extractor = "test_extractor"
            lines += [*network.for_test_pictures(), f"{extractor} = keras.Model(test_inputs, x)"]
        batches = f"pipeline(Batches({name}_images, {name}_labels, 32))"
        lines.append(f"{name}_features = {extractor}.predict({batches}, verbose=0)")
    return [
        *lines,
        'feature = keras.Input(extractor.output_shape[1:], name="feature")',
        "model = keras.Model(feature, through_head(feature))",
    ]


def _best_epoch(recipe: Recipe) -> list[str]:
    """Keep the weights of the lowest val_loss, and stop there too if that is what the recipe watches."""
    patience, watched = recipe.early_stopping_patience, recipe.early_stopping_monitor
    stops = patience is not None and watched == "val_loss"
    last = f", {patience} epochs after it at the latest." if stops else "."
    return [
        f"# Ends with the weights of the lowest val_loss{last}",
        f'keep_best = keras.callbacks.EarlyStopping("val_loss", patience={patience if stops else recipe.epochs}, '
        "restore_best_weights=True)",
    ]


def _callbacks(phase: Phase, skipped: int) -> list[str]:
    """Name the callbacks, in the order in which the app has them; the model may lack layers of the whole network."""
    recipe, names = phase.recipe, list[str]()
    every_epoch = f"EveryEpoch(batches, below={skipped})" if skipped else "EveryEpoch(batches)"
    if recipe.learning_rate_schedule:
        rate = f"{recipe.learning_rate_schedule}(epoch, {recipe.epochs}, {recipe.learning_rate})"
        names.append(f"LearningRateScheduler(lambda epoch: {rate})")
    if recipe.reduce_lr_patience:
        options = f"factor={recipe.reduce_lr_factor}, patience={recipe.reduce_lr_patience}"
        names.append(f"ReduceLROnPlateau({literal(recipe.reduce_lr_monitor)}, {options})")
    if recipe.early_stopping_patience and recipe.early_stopping_monitor != "val_loss":
        monitor = literal(recipe.early_stopping_monitor)
        names.append(f"EarlyStopping({monitor}, patience={recipe.early_stopping_patience})")
    if recipe.csv_logger:
        names.append(f'CSVLogger("csv_log-{phase.name}.csv")')
    if recipe.tensorboard:
        names.append(f'TensorBoard("tensorboard/{phase.name}", histogram_freq=1)')
    if recipe.model_checkpoint:
        monitor = literal(recipe.model_checkpoint)
        names.append(f'ModelCheckpoint("checkpoint-{phase.name}.keras", monitor={monitor}, save_best_only=True)')
    if not names:
        return [f"    callbacks=[keep_best, {every_epoch}],"]
    lines = [f"        keras.callbacks.{name}," for name in names]
    return ["    callbacks=[", *lines, "        keep_best,", f"        {every_epoch},", "    ],"]


def _decay(recipe: Recipe) -> list[str]:
    """Make the falling learning rate, where the recipe has one."""
    if not recipe.learning_rate_decay:
        return []
    options = f"decay_steps=1, decay_rate={recipe.learning_rate_decay}"
    return [
        "# A little less after each step.",
        f"learning_rate = keras.optimizers.schedules.InverseTimeDecay({recipe.learning_rate}, {options})",
    ]


def _optimizer(recipe: Recipe) -> str:
    name = {"rmsprop": "RMSprop", "adam": "Adam", "sgd": "SGD"}[recipe.optimizer]
    rate = "learning_rate" if recipe.learning_rate_decay else f"{recipe.learning_rate}"
    options = ""
    if recipe.optimizer == "sgd":
        options = f", momentum={recipe.momentum}" if recipe.momentum else ""
        options += ", nesterov=True" if recipe.nesterov else ""
    return f"keras.optimizers.{name}({rate}{options})"
