"""What the phases of a run are trained and evaluated on: decoded pictures, or activations of a frozen base."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from cvcore import activations, layer_counts
from cvcore.batches import Rows, mean_image
from cvcore.datasets import Dataset, pixels
from cvcore.datasets.subset import training_rows
from cvcore.extraction import extracted, what_is_stored
from cvcore.models import Cut, Network
from cvcore.recipe import Recipe
from cvcore.strategies import Phase
from cvcore.views import view_uniforms, views_used
from cvcore.workload import stores

if TYPE_CHECKING:
    from cvcore.training import Session

TELL_EVERY = 5.0  # seconds of counted work that a kill may lose


class TrainingData:
    """The pictures of a run, decoded once, and their activations at a cut, computed once; both on first use."""

    def __init__(self, session: Session, dataset: Dataset) -> None:
        self.session, self.dataset = session, dataset
        self.class_names = dataset.class_names
        chosen = session.recipe.train_pictures  # of the training split; a finetune recipe's start has the same
        self.rows = None if chosen is None else training_rows(dataset.labels("train"), chosen)

    def paths(self, split: str) -> list[str]:
        return [picture.path for picture in self.dataset.split(split)]

    def labels(self, split: str) -> np.ndarray:
        labels = self.dataset.labels(split)
        return labels if split != "train" or self.rows is None else labels[self.rows]

    def pictures(self, split: str) -> np.ndarray | Rows:
        """Return the decoded pictures of a split, uint8 (n, image_size, image_size, channels)."""
        recipe, meter = self.session.recipe, _Meter(self.session, f"reading {split} pictures")

        with meter.noted("pictures", "decoded_pictures"):
            images = pixels(
                self.dataset, split, recipe.image_size, recipe.interpolation, recipe.antialias, progress=meter.show,
                color_mode=recipe.color_mode, on_decoded=meter.count, on_wait=meter.wait,
            )  # fmt: skip
        return images if split != "train" or self.rows is None else Rows(images, self.rows)

    def mean(self) -> np.ndarray | None:
        """Return the mean picture of the training and validation splits where the recipe subtracts it, else None."""
        recipe = self.session.recipe
        if "mean_image" not in (recipe.preprocessing, recipe.test_preprocessing):
            return None
        return mean_image(self.pictures("train"), self.pictures("validation"))

    def cut(self, network: Network, phase: Phase) -> Cut | None:
        """Return where the network is cut for what a phase trains, or None where it is given pictures.

        They are what it is given where nothing is frozen, and where `workload.stores` says that storing does not pay or
        the store cannot hold it: the same mathematics, at each look at a picture.

        Args:
            network: with the phase's part trainable.
            phase: of the run.
        """
        rows = sum(len(self.labels(split)) for split in self.dataset.counts)
        divided = layer_counts.network(phase.recipe, phase.trainable)
        return network.cut(phase.trainable) if stores(phase.recipe, divided, rows, activations.limit()) else None

    def inputs(self, split: str, network: Network, cut: Cut | None) -> np.ndarray | Rows:
        """Return what the part above the cut takes for a split, or what the whole model takes where there is no cut."""
        return self.activations(split, network, cut) if cut else self.pictures(split)

    def activations(self, split: str, network: Network, cut: Cut) -> np.ndarray | Rows:
        """Return the activations of a split's pictures as they are, float32 (n, ...)."""
        return self._extracted(split, network, cut, _Meter(self.session, f"features of {split} pictures"))

    def views(self, network: Network, cut: Cut, recipe: Recipe, before: int) -> list[np.ndarray | Rows]:
        """Return the activations of the training pictures, changed at random, of each view that a phase's passes take.

        Args:
            network: with the phase's part trainable.
            cut: of that network.
            recipe: of the phase.
            before: epochs of the run before the phase.

        Returns:
            float16 (n, ...) for each, in the order of `views_used`.
        """
        pictures = len(self.labels("train"))
        used = views_used(recipe, pictures, before)
        meter = _Meter(self.session, f"features of {len(used)} views of train pictures", len(used) * pictures)
        found = []
        for place, view in enumerate(used):
            meter.before = place * pictures
            found.append(self._extracted("train", network, cut, meter, recipe, view))
        return found

    def _extracted(
        self, split: str, network: Network, cut: Cut, meter: _Meter, recipe: Recipe | None = None,
        view: int | None = None,
    ) -> np.ndarray | Rows:  # fmt: skip
        what, chosen = self._what(network, cut, split, recipe, view), self.rows if split == "train" else None
        everything = len(self.dataset.split(split))
        if chosen is not None:
            whole = activations.stored(activations.key_of(what), everything)
            if whole is not None:  # by a run on all of them
                return Rows(whole, chosen)
            what["train_pictures"] = len(chosen)
        with meter.noted("features", "extracted_pictures"):
            stored = activations.stored(activations.key_of(what), len(self.labels(split)))
        if stored is not None:  # the pictures themselves may no longer be
            return stored
        uniforms = None if view is None else view_uniforms(view, everything)[slice(None) if chosen is None else chosen]
        images = self.pictures(split)
        with meter.noted("features", "extracted_pictures"):
            policy = recipe.augmentation if recipe else None
            return extracted(
                what, cut, images, meter.show, meter.count, policy=policy, uniforms=uniforms, title=self.dataset.title,
                on_wait=meter.wait,
            )  # fmt: skip

    def _what(
        self, network: Network, cut: Cut, split: str, recipe: Recipe | None = None, view: int | None = None
    ) -> dict[str, Any]:
        """Say what decides activations; `recipe` of the phase where its augmentation does."""
        chosen = network.recipe if recipe is None else recipe
        return what_is_stored(chosen, cut, self.dataset.fingerprint, split, view=view)


class _Meter:
    """Tell a session how far something is that goes over pictures, and how long it will still take."""

    def __init__(self, session: Session, words: str, pictures: int | None = None) -> None:
        self.session, self.words, self.pictures = session, words, pictures
        self.computed = self.before = 0  # pictures that were not there yet; those of earlier parts
        self._first: tuple[int, float] | None = None  # pictures computed, and when, at the first report of any
        self._names: tuple[str, str] | None = None  # of the seconds and the work that are noted now
        self._noted = self._told = 0.0  # when the seconds were noted last, and when run.json was told

    @contextmanager
    def noted(self, seconds: str, work: str) -> Iterator[None]:
        """Add what is done meanwhile to the run's seconds and work of these names, also when it is stopped.

        They are those of all attempts; of one that was killed all but its last TELL_EVERY seconds, which it had not
        told run.json yet.
        """
        before, self._names = self.computed, (seconds, work)
        self._noted = self._told = time.perf_counter()
        try:
            yield
        finally:
            self._note()
            self._names = None
        if self.computed > before:
            self._tell()

    def count(self, pictures: int) -> None:
        """Note that so many pictures have been computed."""
        self.computed += pictures
        if self._names:
            self.session.work[self._names[1]] += pictures
            if time.perf_counter() - self._told >= TELL_EVERY:
                self._note()
                self._tell()

    def _note(self) -> None:
        assert self._names
        name, noted, now = self._names[0], self.session.state.seconds, time.perf_counter()
        noted[name] = noted.get(name, 0.0) + now - self._noted
        self.session.timings[name] = round(noted[name], 3)
        self._noted = now

    def _tell(self) -> None:
        self._told = time.perf_counter()
        self.session.writer.update(work=self.session.work, timings=self.session.timings)

    def show(self, done: int, pictures: int) -> None:
        """Report how many pictures of this part are done, of how many.

        What came before the first report of computed pictures counts for nothing: a model is compiled then.
        """
        done, pictures, now, left = self.before + done, self.pictures or pictures, time.perf_counter(), None
        if self._first is None and self.computed:
            self._first = self.computed, now
        elif self._first and self.computed > self._first[0]:
            left = round((now - self._first[1]) / (self.computed - self._first[0]) * (pictures - done), 1)
        self.session.report(self.words, done, pictures, left)

    def wait(self, done: int, pictures: int) -> None:
        """Report how many pictures of this part another process has done, which is waited for."""
        words = f"waiting for another run: {self.words}"
        self.session.report(words, self.before + done, self.pictures or pictures)
