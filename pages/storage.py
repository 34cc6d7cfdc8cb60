import streamlit as st

import people
import shell
from cvcore.cache_entries import entries
from panels import storage_panel

shell.navigation()

st.title("Storage")
st.markdown(
    "Decoding pictures and running them through a frozen base gives the same result every time, so it is done once and "
    "kept for every run that needs it, whoever launches it."
)
people.sign_in()

with shell.error_box():
    storage_panel.said()
    found = entries()
    storage_panel.room(found)
    if not found:
        shell.empty_state("Nothing is stored yet: the first run on some pictures stores them.", "Train", "train")
        st.stop()
    storage_panel.table(found, shell.runs())
    storage_panel.clearing(found)
