"""The device a run trains on. The only module that names tensorflow, jax or torch."""

from __future__ import annotations

import contextlib
import gc
import importlib.metadata
import itertools
import json
import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

DRIVER = Path("/proc/driver/nvidia/gpus")
BFLOAT16_FROM = (8, 0)  # compute capability from which a GPU multiplies bfloat16 matrices in hardware


@dataclass(frozen=True)
class Gpu:
    """A GPU that Keras' backend can use.

    Attributes:
        name: what its maker calls it.
        memory_mb: its memory in MB (10^6 bytes), or None where nobody tells.
        compute_capability: NVIDIA's (major, minor), or None elsewhere.
    """

    name: str
    memory_mb: int | None = None
    compute_capability: tuple[int, int] | None = None


def prepare(mixed_precision: bool = False) -> dict[str, Any]:
    """Make Keras ready to train repeatably, and describe the device.

    Sets memory growth on each GPU and deterministic operations (TensorFlow), so that a run takes only the memory it
    needs and a resumed run repeats an uninterrupted one, Keras' dtype policy, and that no input pipeline is tuned.
    Call it before the first model.

    Args:
        mixed_precision: see `set_precision`.

    Returns:
        {kind: "CPU" or "GPU", name, cores, backend, precision: "float32" or "mixed_bfloat16"}; with a GPU also
        gpus: how many there are (one is trained on), and memory_mb where it is known.
    """
    import keras

    backend = keras.config.backend()
    found = gpus()
    if backend == "tensorflow":
        _leave_pipelines_untuned()
    if found and backend == "tensorflow":
        import tensorflow as tf

        for device in tf.config.list_physical_devices("GPU"):
            with contextlib.suppress(RuntimeError):  # too late in a process that has used the GPU; see cvcore/__init__
                tf.config.experimental.set_memory_growth(device, True)
        tf.config.experimental.enable_op_determinism()
    device = {"kind": "GPU" if found else "CPU", "name": found[0].name if found else cpu_name(),
              "cores": available_cores(), "backend": backend, "precision": set_precision(mixed_precision)}  # fmt: skip
    if found:
        device["gpus"] = len(found)
        if found[0].memory_mb:
            device["memory_mb"] = found[0].memory_mb
    return device


def _leave_pipelines_untuned() -> None:
    """Turn TensorFlow's tuner off in the pipelines that Keras makes of our batches, each of which has one thread.

    A pipeline that is let go, at the end of every epoch and evaluation, waits for its tuner, and Python with it. The
    tuner is woken before it is told that it is over (as of TensorFlow 2.21), and may sleep on: up to a minute.
    """
    import tensorflow as tf

    try:
        from keras.src.trainers.data_adapters.py_dataset_adapter import PyDatasetAdapter
    except ImportError:  # no public name leads to it, and a later Keras may have moved it
        return
    tuned = PyDatasetAdapter.get_tf_dataset
    if getattr(tuned, "untuned", False):
        return

    def untuned(adapter: Any) -> Any:
        options = tf.data.Options()
        options.autotune.enabled = False
        return tuned(adapter).with_options(options)

    untuned.untuned = True  # type: ignore[attr-defined]
    PyDatasetAdapter.get_tf_dataset = untuned


def set_precision(wanted: bool) -> str:
    """Set Keras' dtype policy for the models built from now on, and return its name.

    Args:
        wanted: whether the recipe asks for mixed precision.

    Returns:
        `mixed_bfloat16` (computes in bfloat16, keeps weights in float32) where it is wanted and the first GPU has
        compute capability 8 or more (Ampere, 2020); else `float32`, as everywhere on a CPU.
    """
    import keras

    capability = next((gpu.compute_capability for gpu in gpus()), None) if wanted else None
    precision = "mixed_bfloat16" if capability and capability >= BFLOAT16_FROM else "float32"
    keras.config.set_dtype_policy(precision)
    return precision


def gpus() -> list[Gpu]:
    """List the GPUs that Keras' backend can use; it trains on the first. Loads Keras and the backend."""
    import keras

    listing = {"tensorflow": _gpus_of_tensorflow, "jax": _gpus_of_jax, "torch": _gpus_of_torch}
    return listing[keras.config.backend()]() if keras.config.backend() in listing else []


def _gpus_of_tensorflow() -> list[Gpu]:
    import tensorflow as tf

    found = []
    for device in tf.config.list_physical_devices("GPU"):
        details = tf.config.experimental.get_device_details(device)
        name = details.get("device_name", device.name)
        # TensorFlow does not say how large a GPU is.
        memory = next((gpu.memory_mb for gpu in _gpus_of_driver() if gpu.name == name), None)
        found.append(Gpu(name, memory, details.get("compute_capability")))
    return found


def _gpus_of_jax() -> list[Gpu]:
    import jax

    found = []
    for device in jax.local_devices():
        if device.platform != "gpu":
            continue
        # Its memory_stats() know only what JAX may take, three quarters of the memory.
        memory = next((gpu.memory_mb for gpu in _gpus_of_driver() if gpu.name == device.device_kind), None)
        found.append(Gpu(device.device_kind, memory, _version(getattr(device, "compute_capability", ""))))
    return found


def _gpus_of_torch() -> list[Gpu]:
    import torch

    if torch.backends.mps.is_available():
        return [Gpu("Apple GPU")]
    found = []
    for index in range(torch.cuda.device_count()):
        about = torch.cuda.get_device_properties(index)
        capability = (about.major, about.minor) if torch.version.cuda else None
        found.append(Gpu(about.name, round(about.total_memory / 1e6), capability))
    return found


def _gpus_of_driver() -> list[Gpu]:
    """Ask NVIDIA's driver; nothing where it is not installed or does not answer within 5 s."""
    command = ["nvidia-smi", "--query-gpu=name,memory.total,compute_cap", "--format=csv,noheader,nounits"]
    try:
        lines = subprocess.run(command, capture_output=True, text=True, timeout=5, check=True).stdout.splitlines()
    except (OSError, subprocess.SubprocessError):
        return []
    found = []
    for line in lines:
        name, memory, capability = (part.strip() for part in [*line.split(","), "", ""][:3])
        if name:
            # Reported in MiB.
            found.append(Gpu(name, round(int(memory) * 1.048576) if memory.isdigit() else None, _version(capability)))
    return found


def _version(text: str) -> tuple[int, int] | None:
    major, _, minor = str(text).partition(".")
    return (int(major), int(minor or 0)) if major.isdigit() and (minor or "0").isdigit() else None


def gpu_names() -> list[str]:
    """Return the names of this machine's NVIDIA GPUs without loading Keras; whether Keras can use them is not said."""
    names = []
    for file in sorted(DRIVER.glob("*/information")):
        try:
            lines = file.read_text(errors="replace").splitlines()
        except OSError:
            continue
        names += [line.split(":", 1)[1].strip() for line in lines if line.startswith("Model:")]
    return names or [gpu.name for gpu in _gpus_of_driver()]


def backend_name() -> str:
    """Return the backend Keras would use, without loading it: KERAS_BACKEND, else keras.json, else tensorflow."""
    if name := os.environ.get("KERAS_BACKEND"):
        return name
    try:
        home = Path(os.path.expanduser(os.environ.get("KERAS_HOME", "~/.keras")))  # noqa: PTH111  (or none)
        return str(json.loads((home / "keras.json").read_text())["backend"])
    except (OSError, ValueError, KeyError, TypeError, RuntimeError):
        return "tensorflow"


def leave_out_jax() -> None:
    """Keep TensorFlow from importing JAX into this process; call it in a process of our own, before Keras is loaded.

    TensorFlow imports JAX wherever it is installed, for a converter that nothing here uses: 110 MB and half a second.
    """
    if backend_name() == "tensorflow":
        sys.modules.setdefault("jax", None)  # type: ignore[arg-type]  # Python's way to say: not installed


def import_keras() -> None:
    """Import Keras without pandas, 67 MB that training has no use for, and without what TensorFlow says meanwhile.

    Where the import fails, what was said is printed on stderr all the same.
    """
    if "keras" in sys.modules:
        return
    unused = ("pandas", "scipy") if backend_name() == "tensorflow" else ("pandas",)  # JAX imports SciPy
    hidden = [name for name in unused if name not in sys.modules]
    sys.modules.update(dict.fromkeys(hidden))  # type: ignore[arg-type]  # None: not installed
    # It makes objects that stay; searching them for garbage takes a quarter of the time that the import takes.
    collects = gc.isenabled()
    gc.disable()
    sys.stderr.flush()
    terminal = os.dup(2)
    with tempfile.TemporaryFile() as said:
        os.dup2(said.fileno(), 2)
        try:
            import keras  # noqa: F401
        except BaseException:
            said.seek(0)
            os.write(terminal, said.read())
            raise
        finally:
            sys.stderr.flush()
            os.dup2(terminal, 2)
            os.close(terminal)
            for name in hidden:
                del sys.modules[name]
            if collects:
                gc.enable()


def tensorflow_graph(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile a function of tensors to a graph, where TensorFlow is Keras' backend."""
    import tensorflow as tf

    return tf.function(function, autograph=False, reduce_retracing=True)


def training_gpus() -> list[str]:
    """Return the GPUs of this machine that runs launched here train on, without loading Keras.

    Returns:
        A name each, to be the value of CUDA_VISIBLE_DEVICES of a process that shall see this one only; those named
        in this process' own CUDA_VISIBLE_DEVICES where it is set. Empty where Keras here trains on the processor.
    """
    if not _reaches_gpus():
        return []
    allowed = os.environ.get("CUDA_VISIBLE_DEVICES")
    if allowed is not None:
        names = [name.strip() for name in allowed.split(",")]
        return list(dict.fromkeys(itertools.takewhile(lambda name: name and not name.startswith("-"), names)))
    command = ["nvidia-smi", "--query-gpu=uuid", "--format=csv,noheader"]
    try:
        lines = subprocess.run(command, capture_output=True, text=True, timeout=5, check=True).stdout.splitlines()
    except (OSError, subprocess.SubprocessError):
        return [str(index) for index, _ in enumerate(sorted(DRIVER.glob("*/information")))]
    return [line.strip() for line in lines if line.startswith("GPU-")]


def device_in_words() -> str:
    """Name the device that a run launched from here would train on, without loading Keras.

    Returns:
        A GPU's name, or the processor's with its cores; of a GPU that this environment's Keras cannot use also that.
    """
    names = gpu_names()
    if names and _reaches_gpus():
        return names[0]
    words = f"{cpu_name()} ({available_cores()} cores)"
    return f"{words}; {names[0]} is not used: start with make run-gpu to train on it" if names else words


def _reaches_gpus() -> bool:
    """Say whether the backend's packages here were built for NVIDIA GPUs, as far as their names tell."""
    installed = {str(found.name).lower().replace("_", "-") for found in importlib.metadata.distributions()}
    backend = backend_name()
    if backend == "tensorflow":
        return "tensorflow-cpu" not in installed and any(name.startswith("nvidia-cudnn") for name in installed)
    if backend == "jax":
        return any(name.startswith("jax-cuda") and name.endswith("-plugin") for name in installed)
    return any(name.startswith("nvidia-cudnn") for name in installed)


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
