"""The script of every visit: Streamlit runs it for each browser, `app.py` serves it."""

import shell

shell.navigation().run()
