"""The dashboard: `streamlit run app.py`."""

import shell

shell.navigation().run()
