"""What runs need besides their own files, through the store: pictures, once a fingerprint, and weights files."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import zipfile
from pathlib import Path
from typing import Any

from cvcore import base_weights
from cvcore.backends.store import DamagedInStore, Store, check_hash, file_sha256, temporary_beside
from cvcore.datasets import Dataset, find_dataset
from cvcore.datasets.archives import LOCAL
from cvcore.datasets.opening import open_path, slug
from cvcore.errors import CvcoreError, DatasetError
from cvcore.recipe import make_recipe
from cvcore.run_directory import Run
from cvcore.settings import cache_folder, weights_folder

ABOUT = "about.json"
PICTURES = "pictures.zip"


def send_pictures(store: Store, run: Run) -> dict[str, Any] | None:
    """Send the pictures of a run unless they are in the store already.

    Returns:
        What the other side needs to open them, or None for drawings: any machine draws those itself.

    Raises:
        DatasetError: they are not on this machine any more, or too many for a zip.
        StoreTrouble: one sentence.
    """
    wanted = run.dataset
    if wanted.get("drawn"):
        return None
    about = {"id": wanted["id"], "fingerprint": wanted["fingerprint"], "seed": wanted.get("split_seed", 0)}
    folder = _folder(wanted["fingerprint"])
    if store.document(f"{folder}/{ABOUT}") is None:
        dataset = find_dataset(wanted["id"], wanted["fingerprint"])
        with tempfile.TemporaryDirectory(prefix="fourways-") as temporary:
            zipped = Path(temporary) / PICTURES
            write_zip(dataset, zipped)
            if zipped.stat().st_size > LOCAL.archive_bytes:
                raise DatasetError(f"Pictures of more than {LOCAL.archive_bytes // 10**9} GB do not travel through the "
                                   "store; train where the folder is, or on a shared one.")  # fmt: skip
            store.put(zipped, f"{folder}/{PICTURES}")
            sizes = {"bytes": zipped.stat().st_size, "sha256": file_sha256(zipped)}
            store.write(f"{folder}/{ABOUT}", _json({**about, **sizes}))
    return about


def write_zip(dataset: Dataset, path: Path) -> None:
    """Write the usable pictures of a dataset into a zip, the same bytes for the same pictures."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as zipped:
        for picture in sorted(dataset.pictures, key=lambda picture: picture.path):
            member = zipfile.ZipInfo(picture.path, (1980, 1, 1, 0, 0, 0))
            member.external_attr = 0o100644 << 16
            with (dataset.root / picture.path).open("rb") as source, zipped.open(member, "w") as target:
                shutil.copyfileobj(source, target)


def fetch_pictures(store: Store, about: dict[str, Any]) -> None:
    """Bring pictures to this machine's cache, once, where `find_dataset` then finds them by their fingerprint.

    Raises:
        DatasetError: what is in the store are not these pictures; nothing of it stays.
        StoreTrouble: one sentence.
    """
    id, fingerprint, seed = slug(str(about.get("id"))), str(about.get("fingerprint")), _number(about, "seed")
    check_hash(fingerprint)
    try:
        find_dataset(id, fingerprint)
        return
    except DatasetError:
        pass
    folder = _folder(fingerprint)
    sizes = store.document(f"{folder}/{ABOUT}")
    target = cache_folder() / "datasets" / "from-store" / fingerprint[:24] / f"{id}.zip"
    target.parent.mkdir(parents=True, exist_ok=True)
    broken = DatasetError(f"The pictures of {id!r} in the store are not those of fingerprint {fingerprint[:12]}; "
                          f"remove {folder} from the store and launch again.")  # fmt: skip
    if sizes is None or not 0 < _number(sizes, "bytes") <= LOCAL.archive_bytes:
        raise broken
    temporary = temporary_beside(target.parent)
    try:
        _check_room(target.parent, sizes["bytes"])
        if not store.fetch_checked(f"{folder}/{PICTURES}", temporary, sizes["bytes"], str(sizes.get("sha256"))):
            raise broken
        temporary.replace(target)
        try:
            dataset = open_path(target, seed)
        except DatasetError as error:
            raise broken from error
        if dataset.fingerprint != fingerprint:
            raise broken
    except BaseException:
        target.unlink(missing_ok=True)
        raise
    finally:
        temporary.unlink(missing_ok=True)


def send_weights(store: Store, run: Run) -> dict[str, Any] | None:
    """Send the weights file of a run's base where this machine has it; None where the job finds its own.

    Raises:
        StoreTrouble: one sentence.
    """
    recipe, known = make_recipe(**run.recipe), run.info.get("weights")
    file = None if run.info.get("from_run") else base_weights.weights_here(recipe, known)
    if file is None:
        return None
    sha256 = file_sha256(file)
    given = known is not None and known["origin"] == "file"
    about = {"name": known["name"] if known and given else file.name, "bytes": file.stat().st_size, "sha256": sha256,
             "given": given}  # fmt: skip
    if not store.there(f"weights/{sha256}.json"):
        store.put(file, f"weights/{sha256}")
        store.write(f"weights/{sha256}.json", _json({"bytes": about["bytes"]}))
    return about


def fetch_weights(store: Store, about: dict[str, Any]) -> None:
    """Bring a weights file to where training looks for it: the cache, or the folder that CVCORE_WEIGHTS names.

    Raises:
        DamagedInStore: it is another file; nothing of it stays.
        StoreTrouble: one sentence.
    """
    name, sha256 = Path(str(about.get("name"))).name, str(about.get("sha256"))
    check_hash(sha256)
    if about.get("given"):
        target = base_weights.kept_weights(name, sha256)
    else:
        own = weights_folder()
        if own is not None and (own / name).is_file():
            return
        target = cache_folder() / "weights" / f"from-store-{sha256[:24]}" / name
        os.environ["CVCORE_WEIGHTS"] = str(target.parent)
    if target.is_file() and file_sha256(target) == sha256:
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = temporary_beside(target.parent)
    try:
        _check_room(target.parent, _number(about, "bytes"))
        if not store.fetch_checked(f"weights/{sha256}", temporary, _number(about, "bytes"), sha256):
            raise DamagedInStore(f"the weights file {name} in the store is not the one that was sent; remove "
                                 f"weights/{sha256[:12]}… from the store and launch again")  # fmt: skip
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)


def _folder(fingerprint: str) -> str:
    return f"datasets/{fingerprint}"


def _json(document: dict[str, Any]) -> bytes:
    return json.dumps(document).encode()


def _number(document: dict[str, Any], name: str) -> int:
    value = document.get(name)
    return value if type(value) is int else 0


def _check_room(folder: Path, needed: int) -> None:
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise CvcoreError(f"{needed / 1e6:.0f} MB from the store do not fit into the cache folder, which has "
                          f"{free / 1e6:.0f} MB free; free some space or point CVCORE_CACHE elsewhere")  # fmt: skip
