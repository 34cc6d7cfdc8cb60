"""The device a run trains on. The only module that imports tensorflow by name."""

from __future__ import annotations

import os
import platform
from pathlib import Path
from typing import Any


def prepare() -> dict[str, Any]:
    """Make Keras ready to train repeatably, and describe the device.

    Sets memory growth on each GPU (so that runs share one) and deterministic
    operations (so that a resumed run repeats an uninterrupted one). Call it before the first model.

    Returns:
        {kind: "CPU" or "GPU", name, cores, backend}.
    """
    import keras

    backend = keras.config.backend()
    gpus: list[str] = []
    if backend == "tensorflow":
        import tensorflow as tf

        for gpu in tf.config.list_physical_devices("GPU"):
            tf.config.experimental.set_memory_growth(gpu, True)
            gpus.append(tf.config.experimental.get_device_details(gpu).get("device_name", gpu.name))
        if gpus:
            tf.config.experimental.enable_op_determinism()
    name = gpus[0] if gpus else cpu_name()
    return {"kind": "GPU" if gpus else "CPU", "name": name, "cores": available_cores(), "backend": backend}


def available_cores() -> int:
    """Return how many CPU cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def cpu_name() -> str:
    """Return the processor's model name, or its architecture where the system does not tell."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def peak_memory_mb() -> float:
    """Return the largest resident memory of this process so far, in MB (10^6 bytes)."""
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return round(peak * (1 if platform.system() == "Darwin" else 1024) / 1e6, 1)
