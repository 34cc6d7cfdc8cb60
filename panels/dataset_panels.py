"""The parts of the Dataset page: adding pictures, the gallery, resizing, skipped files."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import streamlit as st
from PIL import Image

import people
import shell
from cvcore import permissions
from cvcore.datasets import (
    DOWNLOADS,
    Dataset,
    Picture,
    add_upload,
    download,
    load_picture,
    open_dataset,
    remove_upload,
    resize,
    thumbnail,
)
from cvcore.datasets.pictures import MAX_PIXELS
from cvcore.errors import DatasetError
from shell import plain

PAGE = 24
RESIZES = {  # title: (interpolation, antialias, what it does and who does it)
    "Nearest": ("nearest", False, "Keeps one pixel of many. Keras' ImageDataGenerator, the textbook's first edition."),
    "Bilinear": ("bilinear", False, "Mixes four pixels, however many there are. Keras' directory loader, its second."),
    "Bilinear, antialiased": ("bilinear", True, "Mixes all pixels that a new one covers. Pillow's own resize."),
}


def bound(name: str) -> dict[str, str]:
    """Give a widget of this page a key, and a place in the URL."""
    return {"key": f"dataset_{name}", "bind": "query-params"}


def progress_bar(text: str) -> Callable[[int, int], None]:
    """Draw a progress bar and return the function that moves it, a hundred times at most each time it starts anew."""
    bar, shown = st.progress(0.0, text), [0]

    def step(done: int, total: int) -> None:
        if total and done * 100 // total != shown[0]:
            shown[0] = done * 100 // total
            bar.progress(min(1.0, done / total), f"{text}: {shown[0]} %")

    return step


def add_pictures() -> None:
    """Offer to upload a zip, and open it once; its fingerprint is then in the session as `dataset_added`."""
    st.markdown(
        "A **zip** with one folder a class, or with `train`, `validation` and `test` folders that hold one folder a "
        f"class each. At most 200 MB, 600 MB unpacked, 30,000 files; {MAX_PIXELS // 10**6} million pixels a picture. "
        "Folders and zips in the server's data folder (`CVCORE_DATA`) are in the list by themselves."
    )
    number = st.session_state.setdefault("dataset_uploads", 0)
    file = st.file_uploader(
        "Zip", type="zip", key=f"dataset_upload_{number}", label_visibility="collapsed", max_upload_size=200
    )
    if file is not None:
        st.session_state["dataset_problem"] = ""
        try:
            added = add_upload(file.name, file, progress_bar("Unpacking and checking"))
            st.session_state["dataset_added"] = added.fingerprint
        except DatasetError as error:
            st.session_state["dataset_problem"] = str(error)
        shell.forget_upload(file.file_id)
        st.session_state["dataset_uploads"] = number + 1  # an uploader of another key is empty
        st.rerun()
    if problem := st.session_state.get("dataset_problem"):
        st.error(plain(problem), icon=":material/error:")


def remove_pictures(row: dict[str, Any]) -> None:
    """Offer to remove an uploaded dataset to who may clear what is stored, once more asked before it is done."""
    if not permissions.may_clear(people.person()):
        st.caption(":material/lock: Only the teacher may remove an upload, signed in on the page Storage.")
        return
    with st.popover("Remove", icon=":material/delete:"):
        st.markdown(
            f"Removes the upload **{plain(row['title'])}** from this server, for everybody. Its runs stay, and cannot "
            "be continued without the pictures."
        )
        if st.button("Remove this upload", type="primary", key="dataset_remove"):
            remove(row)
            del st.session_state["dataset_name"]
            st.rerun()


def remove(row: dict[str, Any]) -> None:
    """Remove an uploaded dataset and all that is stored of it, if this browser's person may.

    That needs the same as clearing the store: the teacher may, and anyone where no teacher's password is set. Who sent
    an upload may not for that alone, since others' runs need its pictures.

    Raises:
        NotAllowed: this person may not.
        DatasetError: it is no upload, or cannot be removed.
    """
    permissions.require_clearing(people.person(), "remove an upload")
    remove_upload(row["source"])
    shell.dataset.clear()


def not_here(row: dict[str, Any]) -> None:
    """Say why a known dataset cannot be shown and what to do; download it when asked to."""
    if row["kind"] != "download":
        shell.empty_state("These pictures are not where they were: choose others above, or add them again as a zip.")
        return
    item = DOWNLOADS[row["id"]]
    with st.container(border=True):
        st.markdown(f"Not downloaded yet: {item.size}. {item.about}")
        if st.button("Download", type="primary", icon=":material/download:", key="dataset_download"):
            download(row["id"], progress_bar("Downloading"))
            st.rerun()
        st.caption(
            f"Without internet here: put [{item.file_name}]({item.url}) into the folder that `CVCORE_DATA` names."
        )


def opened(row: dict[str, Any]) -> Dataset:
    """Open a known dataset; with a progress bar the first time, when pictures are written and checked."""
    if row["fingerprint"] is None:
        place = st.empty()
        with place.container():
            open_dataset(row["source"], progress=progress_bar("Reading the pictures for the first time"))
        place.empty()
    return shell.dataset(row["source"])


@st.cache_data(max_entries=2000, show_spinner=False)
def _tile(path: Path, sha256: str, width: int, height: int) -> bytes:
    return thumbnail(path, width, height)


def gallery(dataset: Dataset, pictures: list[Picture]) -> None:
    """Show pictures a page at a time."""
    pages = max(1, -(-len(pictures) // PAGE))
    number = st.pagination(pages, **bound("page"))
    with st.grid("auto", min_column_width=120, vertical_alignment="bottom"):
        for picture in pictures[(number - 1) * PAGE : number * PAGE]:
            name = dataset.class_names[picture.label]
            caption = f"{plain(name)}, {picture.width} × {picture.height}"
            image = _tile(dataset.root / picture.path, picture.sha256, 160, 130)
            st.image(image, caption, alt=f"{name}: {picture.path}")


def resizing(dataset: Dataset, pictures: list[Picture]) -> None:
    """Show what each way of resizing does to one picture, its pixels magnified."""
    with st.container(horizontal=True):
        number = st.number_input("Picture", 1, len(pictures), width=160, **bound("picture"))
        size = st.slider("Image size in pixels", 16, 224, 64, 8, width=320, **bound("size"))
    picture = pictures[number - 1]
    path = dataset.root / picture.path
    whole = load_picture(path)
    with st.grid(4, min_column_width=200):
        with st.container():
            st.image(_tile(path, picture.sha256, 480, 480), width="stretch", alt=picture.path)
            st.caption(f"**As it is**, {picture.width} × {picture.height}. {plain(picture.path)}")
        for title, (interpolation, antialias, words) in RESIZES.items():
            small = Image.fromarray(resize(whole, size, interpolation, antialias))
            side = size * max(1, 448 // size)  # a whole multiple, so that the pixels themselves are seen
            with st.container():
                magnified = small.resize((side, side), Image.Resampling.NEAREST)
                st.image(magnified, width="stretch", output_format="PNG", alt=f"{title}, {size} pixels")
                st.caption(f"**{title}.** {words}")
    st.caption("None of the sources keeps the aspect ratio: the network sees every picture as a square.")


def skipped(report: dict[str, Any]) -> None:
    """List the files that are not used, by reason and one by one."""
    if not report["skipped"]:
        shell.empty_state("Nothing was skipped: every file is a picture that can be used.")
        return
    st.markdown("\n".join(f"- {number:,} × {plain(reason)}" for reason, number in report["skipped_reasons"].items()))
    st.dataframe(report["skipped"], hide_index=True, alt="Skipped files with their reasons")
