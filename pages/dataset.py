import streamlit as st

import shell
from cvcore.datasets import known_datasets, report
from panels import dataset_panels
from panels.dataset_panels import bound
from shell import plain

shell.navigation()

VIEWS, ALL = ("Pictures", "Resizing", "Skipped files"), "all classes"

st.title("Dataset")

with shell.error_box():
    choose, add = st.columns([3, 2], vertical_alignment="bottom")
    with add.popover("Add your own pictures", icon=":material/upload:", width="stretch"):
        dataset_panels.add_pictures()
    rows = {row["name"]: row for row in known_datasets()}
    if added := st.session_state.pop("dataset_added", None):
        st.session_state["dataset_name"] = next(name for name, row in rows.items() if row["fingerprint"] == added)
    row = rows[choose.selectbox("Pictures from", list(rows), **bound("name"))]
    if not row["available"]:
        dataset_panels.not_here(row)
        st.stop()

    if row["upload"]:
        with add:
            dataset_panels.remove_pictures(row)
    dataset = dataset_panels.opened(row)
    found = report(dataset)
    with st.container(border=True):
        with st.container(horizontal=True, vertical_alignment="center"):
            st.subheader(plain(dataset.title), anchor=False, width="content")
            if dataset.drawn:
                st.badge("drawn by this program, not photographs", icon=":material/draw:")
        with st.grid(4, min_column_width=120):
            st.metric("Pictures", f"{found['pictures']:,}")
            st.metric("Classes", len(dataset.class_names))
            st.metric("Median size", f"{found['width']['median']:.0f} × {found['height']['median']:.0f}")
            st.metric("Skipped files", f"{len(found['skipped']):,}")
        counts = [
            {"class": name, **{split: of_class[name] for split, of_class in dataset.counts.items()}}
            for name in dataset.class_names
        ]
        st.dataframe(counts, hide_index=True, alt="Pictures by class and split")
        spread = [
            f"{side} {span['min']:,}" + (f" to {span['max']:,}" if span["max"] > span["min"] else "") + " pixels"
            for side, span in (("width", found["width"]), ("height", found["height"]))
        ]
        sizes = f"{', '.join(spread).capitalize()}; {found['bytes'] / 1e6:,.1f} MB."
        st.caption(" ".join([sizes, *map(plain, dataset.notes)]))

    view = st.segmented_control(
        "View", VIEWS, default=VIEWS[0], required=True, label_visibility="collapsed", **bound("view")
    )
    if view == "Skipped files":
        dataset_panels.skipped(found)
        st.stop()

    with st.container(horizontal=True, vertical_alignment="bottom"):
        split = st.segmented_control("Split", list(dataset.counts), default="train", required=True, **bound("split"))
        one = st.selectbox("Class", [ALL, *dataset.class_names], width=240, **bound("class"))
    pictures = [picture for picture in dataset.split(split) if one in (ALL, dataset.class_names[picture.label])]
    if one == ALL:
        pictures.sort(key=lambda picture: picture.sha256)  # mixes the classes, the same way every time
    if view == "Pictures":
        dataset_panels.gallery(dataset, pictures)
    else:
        dataset_panels.resizing(dataset, pictures)
