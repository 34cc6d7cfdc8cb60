"""What the first visitor would wait for, done while the server starts."""

import gc
import logging

log = logging.getLogger("fourways")


def warm_up() -> None:
    """Load what the pages draw with, and list the runs; about a second. What fails here fails again on its page.

    What is loaded then stays as long as the server, and is left out of every later search for garbage: a full one
    takes tens of milliseconds instead of hundreds, in which no page is drawn.
    """
    try:
        from panels import compare_panels, dataset_panels, run_panel  # noqa: F401
        from saved_runs import saved_runs

        compare_panels.warm_up(saved_runs())
    except Exception:  # the server starts, and its pages say what is wrong
        log.exception("not everything could be made ready for the first visitor")
    gc.collect()
    gc.freeze()
