"""Guards on the floors: what may import what."""

import ast

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
    assert not imported(source) & {"streamlit", "shell", "run_panel"}


@pytest.mark.parametrize("source", SOURCES, ids=lambda source: str(source.relative_to(PROJECT)))
def test_only_devices_imports_tensorflow_by_name(source):
    assert "tensorflow" not in imported(source) or source.name == "devices.py"


@pytest.mark.parametrize(
    "source", [*SOURCES, *PROJECT.glob("*.py"), *PROJECT.glob("pages/*.py")], ids=lambda path: path.name
)
def test_no_file_passes_400_lines(source):
    assert len(source.read_text().splitlines()) < 400


@pytest.mark.parametrize("source", sorted(PROJECT.glob("pages/*.py")), ids=lambda path: path.name)
def test_every_page_begins_with_the_navigation_and_stays_thin(source):
    body = [node for node in ast.parse(source.read_text()).body if not isinstance(node, ast.Import | ast.ImportFrom)]
    assert ast.unparse(body[0]) == "shell.navigation()"
    assert len(source.read_text().splitlines()) <= 130
