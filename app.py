"""The dashboard: `streamlit run app.py` serves `main.py` to each browser."""

from pathlib import Path

import streamlit as st
from starlette.middleware import Middleware

from owner_cookie import OwnerCookie
from serving import lifespan

app = st.App(Path(__file__).with_name("main.py"), lifespan=lifespan, middleware=[Middleware(OwnerCookie)])
