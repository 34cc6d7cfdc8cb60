import streamlit as st

import shell

shell.navigation()

st.title("Augmentation")
