"""Guards on the floors: what may import what."""

import ast
import subprocess
import sys

import pytest

from cvcore.settings import PROJECT

SOURCES = sorted((PROJECT / "cvcore").rglob("*.py"))


def imported(source):
    names = set()
    for node in ast.walk(ast.parse(source.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            names.add(str(node.module).partition(".")[0])
    return names


def test_there_are_sources_to_look_at():
    assert len(SOURCES) > 10


@pytest.mark.parametrize("source", SOURCES, ids=lambda source: str(source.relative_to(PROJECT)))
def test_nothing_under_cvcore_imports_streamlit(source):
    assert not imported(source) & {"streamlit", "shell", "panels"}


@pytest.mark.parametrize("source", SOURCES, ids=lambda source: str(source.relative_to(PROJECT)))
def test_only_devices_imports_a_backend_by_name(source):
    assert not imported(source) & {"tensorflow", "jax", "torch"} or source.name == "devices.py"


@pytest.mark.parametrize(
    "source",
    [*SOURCES, *PROJECT.glob("*.py"), *PROJECT.glob("pages/*.py"), *PROJECT.glob("panels/*.py")],
    ids=lambda path: path.name,
)
def test_no_file_passes_400_lines(source):
    assert len(source.read_text().splitlines()) < 400


@pytest.mark.parametrize("source", sorted(PROJECT.glob("pages/*.py")), ids=lambda path: path.name)
def test_every_page_begins_with_the_navigation_and_stays_thin(source):
    body = [node for node in ast.parse(source.read_text()).body if not isinstance(node, ast.Import | ast.ImportFrom)]
    assert ast.unparse(body[0]) == "shell.navigation()"
    assert len(source.read_text().splitlines()) <= 130


# What the server and the worker import; everything else under cvcore belongs to a training process.
FOR_TRAINING = {
    "augmentation_layer", "batches", "callbacks", "doodle_base", "extraction", "fitting", "models", "stored_epochs",
    "training", "training_data", "__main__",
}  # fmt: skip
SERVER_SIDE = [
    ".".join(source.relative_to(PROJECT).with_suffix("").parts).removesuffix(".__init__")
    for source in SOURCES
    if source.stem not in FOR_TRAINING
]


def loaded_after_importing(modules):
    code = f"import importlib, sys\nfor name in {modules!r}: importlib.import_module(name)\nprint(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=PROJECT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return set(done.stdout.split())


def test_importing_every_server_side_module_loads_neither_tensorflow_nor_keras():
    known = "recipe run_directory backends.local estimate charts comparison datasets.catalogue augmentation cli"
    assert {f"cvcore.{name}" for name in known.split()} <= set(SERVER_SIDE)
    loaded = loaded_after_importing(SERVER_SIDE)
    assert set(SERVER_SIDE) <= loaded
    assert not loaded & {"tensorflow", "keras", "jax", "torch", "streamlit"}


def test_importing_the_worker_or_the_package_loads_no_pandas_either():
    loaded = loaded_after_importing(["cvcore", "cvcore.backends.worker", "cvcore.api", "cvcore.cli"])
    assert not loaded & {"tensorflow", "keras", "pandas", "scipy", "sklearn", "plotly", "streamlit"}


def test_saved_models_are_loaded_in_safe_mode_only():
    calls = [
        node
        for source in SOURCES
        for node in ast.walk(ast.parse(source.read_text()))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "load_model"
    ]
    assert calls
    for call in calls:
        assert any(word.arg == "safe_mode" and ast.unparse(word.value) == "True" for word in call.keywords)


def floors():
    """Read the floors from the table in docs/architecture.md: module -> floor."""
    rows = (PROJECT / "docs" / "architecture.md").read_text().splitlines()
    cells = [row.split("|") for row in rows if row.startswith("| ") and row.split("|")[1].strip().isdigit()]
    return {name.strip("`/"): int(row[1]) for row in cells for name in row[2].split()}


def test_every_module_has_a_floor_and_imports_from_its_own_or_below():
    floor = floors()
    for source in SOURCES:
        room = source.relative_to(PROJECT / "cvcore").parts[0].removesuffix(".py")
        if room in ("__init__", "__main__"):
            continue
        assert room in floor, f"docs/architecture.md gives {room} no floor"
        for node in ast.parse(source.read_text()).body:
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("cvcore"):
                parts = node.module.split(".")
                for name in parts[1:2] or [alias.name for alias in node.names]:
                    assert floor[name] <= floor[room], f"{room} imports {name} from a floor above"
