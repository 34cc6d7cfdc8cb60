"""cvcore: train, keep and compare image classifiers made from a few thousand pictures.

    import cvcore
    run = cvcore.train("doodle-features", data="doodle-pets", seed=1)
    cvcore.runs()
    cvcore.load(run.id)

Importing it loads neither Keras nor pandas; `train` does when it is called.
"""

import os
from typing import Any

# TensorFlow and JAX read these when they are first imported, wherever that happens.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
# Else JAX takes three quarters of a GPU's memory at its start, and TensorFlow all of it.
os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
os.environ.setdefault("TF_FORCE_GPU_ALLOW_GROWTH", "true")

__version__ = "0.1.0"
__all__ = ["load", "resume", "runs", "train"]


def __getattr__(name: str) -> Any:
    if name in __all__:
        from cvcore import api

        return getattr(api, name)
    raise AttributeError(f"module 'cvcore' has no attribute {name!r}")
