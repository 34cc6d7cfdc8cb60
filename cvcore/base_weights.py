"""Find the weights of a pretrained base: given, bundled, in CVCORE_WEIGHTS, or downloaded by Keras."""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import shutil
import socket
import sys
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cvcore.bases import BASES, weights_megabytes
from cvcore.datasets.cache import writing
from cvcore.errors import WeightsNotFound
from cvcore.files import replace_file
from cvcore.recipe import Recipe
from cvcore.settings import cache_folder, weights_folder

if TYPE_CHECKING:
    import keras

PATIENCE = 30  # seconds that a server may keep a download waiting
BUNDLED = Path(__file__).resolve().parent / "weights" / "doodle_base.weights.h5"


@dataclass(frozen=True)
class BaseWeights:
    """Weights of a base that have been found.

    Attributes:
        path: the file, or None for random weights.
        name: file name, as written into run.json.
        sha256: of its bytes; for random weights a word that says so with the seed.
        origin: `bundled`, `file`, `folder`, `keras` or `random`.
    """

    path: Path | None
    name: str
    sha256: str
    origin: str

    def summary(self) -> dict[str, Any]:
        """Return what run.json keeps: no path of this machine."""
        return {"name": self.name, "sha256": self.sha256, "origin": self.origin}


def find_weights(
    recipe: Recipe, seed: int, file: Path | None = None, known: dict[str, Any] | None = None
) -> BaseWeights:
    """Find the weights of a recipe's base; of a run that has begun, the same again.

    Looks, in this order, at the file given, the file this run used before (kept in the cache by its hash), the
    bundled file, the folder CVCORE_WEIGHTS, and Keras' own download with its own hash check.

    Args:
        recipe: a recipe with a base.
        seed: names the draw where the recipe asks for random weights.
        file: a local weights file (`--weights`), or None.
        known: `BaseWeights.summary()` of an earlier attempt, or None.

    Raises:
        WeightsNotFound: one sentence says which file, how large, and where to put it; or that it is not `known`.
    """
    found = _found(recipe, seed, file, known)
    if known and found.sha256 != known["sha256"]:
        raise WeightsNotFound(
            f"the weights file {found.name} found here is not the {known['name']} that this run began with (its "
            f"SHA-256 begins {found.sha256[:12]}, that one's {known['sha256'][:12]}); put that one back in its place, "
            "or start a new run"
        )
    return found


def _found(recipe: Recipe, seed: int, file: Path | None, known: dict[str, Any] | None) -> BaseWeights:
    base = BASES[str(recipe.base)]
    if recipe.weights == "random":
        return BaseWeights(None, "random", f"random-{seed}", "random")
    if file is not None:
        if not file.is_file():
            raise WeightsNotFound(f"the weights file must exist; received {file}")
        return _keep(file)
    if known and known.get("origin") == "file":
        kept = kept_weights(known["name"], known["sha256"])
        if kept.is_file():
            return BaseWeights(kept, known["name"], known["sha256"], "file")
        raise WeightsNotFound(
            f"this run used the weights file {known['name']}, which is no longer in the cache; "
            "start a new run and give the file with --weights"
        )
    if base.weights_file is None:
        return BaseWeights(BUNDLED, BUNDLED.name, _sha256(BUNDLED), "bundled")
    name = base.weights_file.format(alpha=recipe.alpha)
    folder = weights_folder()
    if folder and (folder / name).is_file():
        return BaseWeights(folder / name, name, _sha256(folder / name), "folder")
    return _download(recipe, name)


def weights_here(recipe: Recipe, known: dict[str, Any] | None = None) -> Path | None:
    """Return the weights file of a recipe's base where this machine has it; nothing is downloaded or copied.

    Args:
        recipe: any recipe.
        known: `BaseWeights.summary()` of an earlier attempt or of a file given with `--weights`, or None.

    Returns:
        None for no base, random weights, those that come with the project, and files that are not here.
    """
    if recipe.base is None or recipe.weights == "random":
        return None
    if known and known.get("origin") == "file":
        kept = kept_weights(known["name"], known["sha256"])
        return kept if kept.is_file() else None
    name = (BASES[recipe.base].weights_file or "").format(alpha=recipe.alpha)
    folder = weights_folder()
    if name and folder and (folder / name).is_file():
        return folder / name
    return _in_keras_cache(name) if name else None


def load_base(recipe: Recipe, weights: BaseWeights | None) -> keras.Model:
    """Build a recipe's base without top and load its weights.

    Args:
        recipe: names the base, alpha and image_size.
        weights: from `find_weights`; None leaves them random, as `describe` does.

    Returns:
        A Keras model from (image_size, image_size, 3) to feature maps.

    Raises:
        WeightsNotFound: the file does not fit this base.
    """
    import keras

    shape = (recipe.image_size, recipe.image_size, 3)
    if recipe.base == "doodle-base":
        from cvcore.doodle_base import doodle_base

        model = doodle_base(input_shape=shape)
    else:
        options: dict[str, Any] = {"alpha": recipe.alpha} if recipe.base == "MobileNetV2" else {}
        name = {"EfficientNetV2B0": "efficientnetv2-b0"}.get(str(recipe.base), str(recipe.base).lower())
        model = getattr(keras.applications, str(recipe.base))(
            include_top=False, weights=None, input_shape=shape, name=name, **options
        )
        for layer in model.layers:
            if isinstance(layer, keras.layers.Dropout):
                layer.rate = 0.0  # EfficientNet's own: a base runs in inference mode, also while the head is trained
    if weights and weights.path:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # one for each layer that a wrong file lacks, before the error
                model.load_weights(weights.path)
        except (ValueError, OSError, KeyError) as error:
            raise WeightsNotFound(
                f"the weights file {weights.name} does not fit {recipe.base} (alpha {recipe.alpha}, without top); "
                f"give the file made for it ({_first_line(error)})"
            ) from error
    return model


def _keep(file: Path) -> BaseWeights:
    """Copy a given file into the cache under its hash, so that a resumed run finds it again."""
    sha256 = _sha256(file)
    kept = kept_weights(file.name, sha256)
    if not kept.is_file():
        with writing(f"A copy of {file.name}"), file.open("rb") as source:
            kept.parent.mkdir(parents=True, exist_ok=True)
            replace_file(kept, lambda stream: shutil.copyfileobj(source, stream))
    return BaseWeights(kept, file.name, sha256, "file")


def kept_weights(name: str, sha256: str) -> Path:
    """Return where the cache keeps, or would keep, a weights file that was given."""
    # Keras tells its two weight formats apart by this ending.
    ending = ".weights.h5" if name.endswith(".weights.h5") else ".h5"
    return cache_folder() / "weights" / f"{sha256}{ending}"


def _download(recipe: Recipe, name: str) -> BaseWeights:
    """Let Keras find the published weights in its own cache or download them, and check its hash where it has one."""
    import keras

    base = BASES[str(recipe.base)]
    options: dict[str, Any] = {"alpha": recipe.alpha} if recipe.base == "MobileNetV2" else {}
    shape = (base.image_size, base.image_size, 3)
    # Keras reports its download on stdout, which belongs to what a command prints.
    report = sys.stderr if sys.stderr.isatty() else io.StringIO()
    try:
        with contextlib.redirect_stdout(report), _no_endless_wait():
            getattr(keras.applications, base.name)(include_top=False, weights="imagenet", input_shape=shape, **options)
    except Exception as error:
        which = f"{base.name}, alpha {recipe.alpha}," if options else base.name
        if kept := _in_keras_cache(name):
            raise WeightsNotFound(
                f"the weights file of {which} in Keras' own cache cannot be read; delete {name} from its folder "
                f"{kept.parent.parent.name}/{kept.parent.name} and start again to download it anew"
            ) from error
        raise WeightsNotFound(
            f"the ImageNet weights of {which} could not be downloaded; put the file {name} (about "
            f"{weights_megabytes(base.name, recipe.alpha):.1f} MB) into the folder that CVCORE_WEIGHTS names, or give "
            "it with --weights"
        ) from error
    path = _in_keras_cache(name)
    assert path is not None
    return BaseWeights(path, name, _sha256(path), "keras")


def _in_keras_cache(name: str) -> Path | None:
    """Return where `keras.utils.get_file` keeps a weights file, the second place where it cannot write to the first."""
    first = os.path.expanduser(os.environ.get("KERAS_HOME", "~/.keras"))  # noqa: PTH111  (a user may have no home)
    homes = (Path(first), Path("/tmp/.keras"))
    return next((home / "models" / name for home in homes if (home / "models" / name).is_file()), None)


@contextlib.contextmanager
def _no_endless_wait() -> Iterator[None]:
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(PATIENCE)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)


def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0][:200] if str(error).strip() else type(error).__name__
