"""What is published: the client and the CLI, of which the client needs almost nothing."""

from __future__ import annotations

import re
import subprocess
import sys
import zipfile
from email.parser import Parser
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CLIENT = {"aiohttp", "yarl"}

# Runs a program as if what the extra `cli` brings were not installed.
WITHOUT = """
import sys

class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {missing!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

import importlib.util
found = importlib.util.find_spec
importlib.util.find_spec = lambda name, package=None: None if name in {missing!r} else found(name, package)
sys.meta_path.insert(0, Missing())
sys.path.insert(0, {wheel!r})
"""
EXTRA = ["typer", "rich", "prompt_toolkit", "click", "pygments", "markdown_it", "pydantic", "httpx"]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    words = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return next(folder.glob("*.whl"))


def without_the_extra(wheel: Path, program: str) -> subprocess.CompletedProcess[str]:
    code = WITHOUT.format(missing=EXTRA, wheel=str(wheel)) + program
    return subprocess.run([sys.executable, "-c", code], cwd=wheel.parent, capture_output=True, text=True)


def test_the_wheel_holds_the_published_package_alone(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as opened:
        names = opened.namelist()
    tops = {name.split("/")[0] for name in names}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"terminalpp"}
    assert "terminalpp/py.typed" in names


def test_the_client_needs_no_packages_of_the_cli(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as opened:
        name = next(name for name in opened.namelist() if name.endswith("/METADATA"))
        told = Parser().parsestr(opened.read(name).decode())
    needs: dict[bool, set[str]] = {True: set(), False: set()}
    for line in told.get_all("Requires-Dist") or []:
        match = re.match(r"[\w-]+", line)
        assert match
        needs["extra ==" in line].add(match[0].replace("-", "_"))
    assert needs[False] == CLIENT
    assert needs[True] == {"typer", "rich", "prompt_toolkit"}
    assert told.get_all("Provides-Extra") == ["cli"]


def test_the_client_can_be_imported_without_them(wheel: Path) -> None:
    program = f"""
import terminalpp.client as client
assert client.__file__.startswith({str(wheel)!r}), client.__file__
assert not set(sys.modules) & set({EXTRA!r}), set(sys.modules) & set({EXTRA!r})
try:
    client.Sandbox.create(url="http://127.0.0.1:9", token="t")
except client.TerminalError as error:
    print(error.code)
"""
    done = without_the_extra(wheel, program)
    assert (done.returncode, done.stdout, done.stderr) == (0, "unavailable\n", "")


def test_tpp_says_what_to_install(wheel: Path) -> None:
    done = without_the_extra(wheel, "from terminalpp.cli.script import main; main()")
    assert (done.returncode, done.stdout) == (3, "")
    assert done.stderr == "tpp needs typer, rich, prompt_toolkit: pip install 'terminalpp[cli]'\n"


def test_tpp_starts_with_them(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as opened:
        name = next(name for name in opened.namelist() if name.endswith("/entry_points.txt"))
        module, function = re.search(r"tpp = ([\w.]+):(\w+)", opened.read(name).decode()).groups()  # type: ignore[union-attr]
    code = f"import sys; sys.path.insert(0, {str(wheel)!r}); sys.argv = ['tpp', '--help']\n"
    code += f"from {module} import {function}; {function}()"
    done = subprocess.run([sys.executable, "-c", code], cwd=wheel.parent, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "Terminal++" in done.stdout
