"""The device a run trains on: GPUs of each backend, precision, names without Keras. Handmade GPUs: none is needed."""

import os
import subprocess
import sys
from types import SimpleNamespace

import keras
import numpy as np
import pytest

from cvcore import devices
from cvcore.devices import Gpu
from cvcore.settings import PROJECT

H200 = Gpu("NVIDIA H200", 150_755, (9, 0))


@pytest.fixture
def driver(tmp_path, monkeypatch):
    """Set up what NVIDIA's driver would say here: a line a GPU in the form of nvidia-smi."""
    monkeypatch.setattr(devices, "DRIVER", tmp_path / "gpus")
    monkeypatch.setenv("PATH", str(tmp_path))

    def says(*lines, code=0):
        program = tmp_path / "nvidia-smi"
        program.write_text("#!/bin/sh\n" + "".join(f"echo '{line}'\n" for line in lines) + f"exit {code}\n")
        program.chmod(0o755)

    return says


@pytest.fixture
def policy():
    yield
    keras.config.set_dtype_policy("float32")


@pytest.mark.parametrize(
    ("gpus", "wanted", "precision"),
    [
        ([], True, "float32"),
        ([H200], True, "mixed_bfloat16"),
        ([H200], False, "float32"),
        ([Gpu("A100", None, (8, 0))], True, "mixed_bfloat16"),
        ([Gpu("T4", None, (7, 5))], True, "float32"),
        ([Gpu("Apple GPU")], True, "float32"),
        ([Gpu("T4", None, (7, 5)), H200], True, "float32"),  # it trains on the first
    ],
)
def test_bfloat16_only_where_it_is_wanted_and_the_gpu_is_good_at_it(gpus, wanted, precision, policy, monkeypatch):
    monkeypatch.setattr(devices, "gpus", lambda: gpus)
    assert devices.set_precision(wanted) == precision == keras.config.dtype_policy().name


def test_precision_of_the_run_before_does_not_stay(policy, monkeypatch):
    monkeypatch.setattr(devices, "gpus", lambda: [H200])
    devices.set_precision(True)
    layer = keras.layers.Dense(1)
    layer.build((None, 2))
    assert (layer.compute_dtype, layer.kernel.dtype) == ("bfloat16", "float32")
    devices.set_precision(False)
    assert keras.layers.Dense(1).compute_dtype == "float32"


def test_gpus_of_tensorflow_get_memory_growth_and_are_named(driver, policy, monkeypatch):
    import tensorflow as tf

    grown = []
    physical = [SimpleNamespace(name="/physical_device:GPU:0"), SimpleNamespace(name="/physical_device:GPU:1")]
    details = {"device_name": "NVIDIA H200", "compute_capability": (9, 0)}
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind: physical if kind == "GPU" else [])
    monkeypatch.setattr(tf.config.experimental, "get_device_details", lambda gpu: details)
    monkeypatch.setattr(tf.config.experimental, "set_memory_growth", lambda gpu, on: grown.append((gpu.name, on)))
    monkeypatch.setattr(tf.config.experimental, "enable_op_determinism", lambda: grown.append("deterministic"))
    driver("NVIDIA H200, 143771, 9.0")
    found = devices.prepare(mixed_precision=True)
    assert grown == [("/physical_device:GPU:0", True), ("/physical_device:GPU:1", True), "deterministic"]
    assert found == {"kind": "GPU", "name": "NVIDIA H200", "cores": devices.available_cores(), "backend": "tensorflow",
                     "precision": "mixed_bfloat16", "gpus": 2, "memory_mb": 150_755}  # fmt: skip


def test_a_process_that_has_used_the_gpu_already_trains_on(driver, policy, monkeypatch):
    import tensorflow as tf

    def too_late(gpu, on):
        raise RuntimeError("Physical devices cannot be modified after being initialized")

    gpu = SimpleNamespace(name="/physical_device:GPU:0")
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind: [gpu] if kind == "GPU" else [])
    monkeypatch.setattr(tf.config.experimental, "get_device_details", lambda gpu: {"device_name": "NVIDIA H200"})
    monkeypatch.setattr(tf.config.experimental, "set_memory_growth", too_late)
    monkeypatch.setattr(tf.config.experimental, "enable_op_determinism", lambda: None)
    driver("NVIDIA H200, 143771, 9.0")
    assert devices.prepare()["name"] == "NVIDIA H200"
    assert os.environ["TF_FORCE_GPU_ALLOW_GROWTH"] == "true"


def test_a_pipeline_that_keras_makes_of_batches_is_not_tuned_and_so_its_end_waits_for_nothing(policy):
    from keras.src.trainers.data_adapters.py_dataset_adapter import PyDatasetAdapter

    from cvcore.batches import EvaluationBatches

    for _ in range(2):
        devices.prepare()
    pipeline = PyDatasetAdapter(EvaluationBatches(np.arange(5.0), np.arange(5), 2)).get_tf_dataset()
    assert pipeline.options().autotune.enabled is False
    assert [labels.numpy().tolist() for _, labels in pipeline] == [[0, 1], [2, 3], [4]]


def test_gpus_of_jax_are_listed_without_its_cpu(driver, monkeypatch):
    cpu = SimpleNamespace(platform="cpu", device_kind="cpu")
    gpu = SimpleNamespace(platform="gpu", device_kind="NVIDIA H200", compute_capability="9.0")
    monkeypatch.setitem(sys.modules, "jax", SimpleNamespace(local_devices=lambda: [cpu, gpu]))
    driver("NVIDIA H200, 143771, 9.0")
    assert devices._gpus_of_jax() == [H200]


def test_gpus_of_torch_are_listed(monkeypatch):
    about = SimpleNamespace(name="NVIDIA H200", total_memory=150_755_000_000, major=9, minor=0)
    cuda = SimpleNamespace(device_count=lambda: 1, get_device_properties=lambda index: about)
    torch = SimpleNamespace(cuda=cuda, version=SimpleNamespace(cuda="13.0"),
                            backends=SimpleNamespace(mps=SimpleNamespace(is_available=lambda: False)))  # fmt: skip
    monkeypatch.setitem(sys.modules, "torch", torch)
    assert devices._gpus_of_torch() == [H200]


def test_a_computer_without_gpu_trains_on_its_cpu():
    found = devices.prepare()
    if not devices.gpus():
        assert (found["kind"], found["name"], found["precision"]) == ("CPU", devices.cpu_name(), "float32")
        assert "gpus" not in found


def test_names_come_from_the_driver_s_files_and_else_from_its_program(driver):
    driver("NVIDIA H200, 143771, 9.0", "NVIDIA T4, [N/A], 7.5")
    assert devices.gpu_names() == ["NVIDIA H200", "NVIDIA T4"]
    folder = devices.DRIVER / "0000:05:00.0"
    folder.mkdir(parents=True)
    (folder / "information").write_text("Model: \t\t NVIDIA A100-SXM4-40GB\nIRQ:   \t\t 33\n")
    assert devices.gpu_names() == ["NVIDIA A100-SXM4-40GB"]


def test_no_driver_means_no_gpu(driver):
    assert devices.gpu_names() == []


@pytest.mark.parametrize(("line", "code"), [("Failed to initialize NVML", 9), ("", 0)])
def test_driver_that_does_not_answer_means_no_gpu(driver, line, code):
    driver(line, code=code)
    assert devices.gpu_names() == []


@pytest.mark.parametrize(
    ("backend", "installed", "uses_gpu"),
    [
        ("tensorflow", ["tensorflow_cpu"], False),
        ("tensorflow", ["tensorflow", "nvidia-cudnn-cu12"], True),
        ("jax", ["jax", "jaxlib"], False),
        ("jax", ["jax", "jax-cuda13-plugin"], True),
        ("torch", ["torch", "nvidia-cudnn-cu13"], True),
    ],
)
def test_device_in_words_says_whether_this_environment_can_use_the_gpu(backend, installed, uses_gpu, monkeypatch):
    monkeypatch.setenv("KERAS_BACKEND", backend)
    monkeypatch.setattr(devices, "gpu_names", lambda: ["NVIDIA H200"])
    found = [SimpleNamespace(name=name) for name in installed]
    monkeypatch.setattr(devices.importlib.metadata, "distributions", lambda: found)
    words = devices.device_in_words()
    assert (words == "NVIDIA H200") == uses_gpu
    if not uses_gpu:
        assert words.startswith(devices.cpu_name()) and "NVIDIA H200 is not used" in words


def test_device_in_words_without_gpu_is_the_processor(monkeypatch):
    monkeypatch.setattr(devices, "gpu_names", list)
    assert devices.device_in_words() == f"{devices.cpu_name()} ({devices.available_cores()} cores)"


@pytest.mark.parametrize(
    ("content", "name"),
    [('{"backend": "jax"}', "jax"), ("{", "tensorflow"), ("[]", "tensorflow"), (None, "tensorflow")],
)
def test_backend_is_read_where_keras_reads_it(content, name, tmp_path, monkeypatch):
    monkeypatch.delenv("KERAS_BACKEND", raising=False)
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    if content is not None:
        (tmp_path / "keras.json").write_text(content)
    assert devices.backend_name() == name
    monkeypatch.setenv("KERAS_BACKEND", "torch")
    assert devices.backend_name() == "torch"


@pytest.mark.parametrize(("backend", "left_out"), [("tensorflow", True), ("jax", False)])
def test_jax_is_left_out_of_tensorflow_s_processes_only(backend, left_out):
    code = ("import sys\nfrom cvcore.devices import leave_out_jax\nleave_out_jax()\n"
            "print(sys.modules.get('jax', 'importable') is None)")  # fmt: skip
    done = subprocess.run([sys.executable, "-c", code], env={**os.environ, "KERAS_BACKEND": backend}, cwd=PROJECT,
                          capture_output=True, text=True, timeout=300, check=True)  # fmt: skip
    assert done.stdout.strip() == str(left_out)
