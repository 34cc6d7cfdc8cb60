"""Pictures in, datasets out: a catalogue, any folder or zip, splits, health, decoded pixels."""

from cvcore.datasets.catalogue import data_choices, find_dataset, known_datasets, open_dataset
from cvcore.datasets.dataset import SPLITS, Dataset, Picture, report
from cvcore.datasets.downloads import DOWNLOADS, download
from cvcore.datasets.pictures import load_picture, resize, thumbnail
from cvcore.datasets.pixel_cache import checked_picture, pixels
from cvcore.datasets.small import LAYOUTS, make_small
from cvcore.datasets.uploads import add_upload, remove_upload

__all__ = [
    "DOWNLOADS",
    "LAYOUTS",
    "SPLITS",
    "Dataset",
    "Picture",
    "add_upload",
    "checked_picture",
    "data_choices",
    "download",
    "find_dataset",
    "known_datasets",
    "load_picture",
    "make_small",
    "open_dataset",
    "pixels",
    "remove_upload",
    "report",
    "resize",
    "thumbnail",
]
