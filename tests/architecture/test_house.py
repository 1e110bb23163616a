"""The house as DESIGN.md draws it: floors, doors, room sizes, no cycles, no squatters on our names."""

from __future__ import annotations

import ast
import importlib.metadata
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FLOORS = ("terminalpp", "schema", "runtime", "graphs", "actors", "gateway")

# Which folder alone may import a heavy dependency.
DOORS = {
    "ray": ("runtime/",),
    "asyncpg": ("schema/",),
    "pgvector": ("schema/",),
    "redis": ("schema/",),
    "langgraph": ("graphs/",),
    "langchain_core": ("graphs/",),
    "litellm": ("actors/model/",),
    "docker": ("actors/node/",),
    "fastapi": ("gateway/",),
    "uvicorn": ("gateway/",),
    "typer": ("terminalpp/",),
    "rich": ("terminalpp/",),
    "aiohttp": ("terminalpp/",),
    "httpx": (),
    "cryptography": ("runtime/",),
    "prompt_toolkit": ("terminalpp/",),
}

LONGEST_FILE = 400
SIZE_REASON = "Longer than 400 lines because"  # a file over the limit says so in its docstring


def sources() -> list[Path]:
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "*.py"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split("\n")
    return [ROOT / name for name in listed if name.startswith(FLOORS) and (ROOT / name).exists()]


def imports(path: Path) -> list[tuple[str, int]]:
    """Every module that `path` imports, lazily or not, with its line."""
    found = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found += [(alias.name, node.lineno) for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            found.append((node.module, node.lineno))
    return found


def test_there_is_something_to_check():
    assert {path.relative_to(ROOT).parts[0] for path in sources()} == set(FLOORS)


def test_floors():
    """Imports point down only; the contracts are in pyproject.toml."""
    done = subprocess.run(
        [sys.executable, "-c", "from importlinter.cli import lint_imports_command as c; c()"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_doors():
    wrong = [
        f"{path.relative_to(ROOT)}:{line} imports {module}"
        for path in sources()
        for module, line in imports(path)
        if (access := DOORS.get(module.split(".")[0])) and not str(path.relative_to(ROOT)).startswith(access)
    ]
    assert not wrong, "\n".join(wrong)


def test_the_published_package_knows_only_the_wire():
    wrong = [
        f"{path.relative_to(ROOT)}:{line} imports {module}"
        for path in sources()
        if path.relative_to(ROOT).parts[0] == "terminalpp"
        for module, line in imports(path)
        if module.split(".")[0] in FLOORS and module.split(".")[0] != "terminalpp"
    ]
    assert not wrong, "\n".join(wrong)


def test_one_ray_init():
    calls = [
        f"{path.relative_to(ROOT)}:{node.lineno}"
        for path in sources()
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr == "init"
        and isinstance(node.func.value, ast.Name)
        and node.func.value.id == "ray"
    ]
    assert len(calls) == 1, calls


def test_rooms_are_small():
    wrong = []
    for path in sources():
        text = path.read_text()
        if text.count("\n") > LONGEST_FILE and SIZE_REASON not in (ast.get_docstring(ast.parse(text)) or ""):
            wrong.append(f"{path.relative_to(ROOT)}: {text.count(chr(10))} lines")
    assert not wrong, wrong


def test_long_files_open_with_an_essay():
    wrong = []
    for path in sources():
        text = path.read_text()
        if text.count("\n") > 100 and len((ast.get_docstring(ast.parse(text)) or "").split()) < 15:
            wrong.append(str(path.relative_to(ROOT)))
    assert not wrong, wrong


def test_public_definitions_say_what_they_are():
    """An error says it by its `title`."""
    wrong = [
        f"{path.relative_to(ROOT)}:{line} {name}"
        for path in sources()
        for name, line in _undocumented(ast.parse(path.read_text()))
    ]
    assert not wrong, "\n".join(wrong)


def _undocumented(node: ast.Module | ast.ClassDef, within: str = "") -> list[tuple[str, int]]:
    found = []
    for one in node.body:
        if not isinstance(one, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)) or one.name[0] == "_":
            continue
        titled = isinstance(one, ast.ClassDef) and any(
            isinstance(line, ast.Assign) and getattr(line.targets[0], "id", "") == "title"
            for line in one.body
        )
        overload = any(getattr(mark, "id", "") == "overload" for mark in one.decorator_list)
        if ast.get_docstring(one) is None and not (titled or overload):
            found.append((within + one.name, one.lineno))
        if isinstance(one, ast.ClassDef):
            found += _undocumented(one, f"{within}{one.name}.")
    return found


def test_nobody_but_the_link_knows_where_a_sandbox_lies():
    """What is done with a sandbox from outside of it goes through `SandboxAccess`."""
    above = ("gateway", "actors/agent", "actors/conversation")
    wrong = [
        str(path.relative_to(ROOT))
        for path in sources()
        if str(path.relative_to(ROOT)).startswith(above)
        if "run_dir" in path.read_text()
        or any("actors.sandbox.tppd.client" in module for module, _ in imports(path))
    ]
    assert not wrong, wrong


def test_no_cycles():
    """Not even by lazy imports; what only a type checker imports does not count."""
    modules = {
        ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
        for path in sources()
    }
    graph: dict[str, set[str]] = {}
    for name, path in modules.items():
        targets = set()
        for node in ast.walk(_without_type_checking(ast.parse(path.read_text()))):
            if isinstance(node, ast.Import):
                targets |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
                for alias in node.names:
                    full = f"{node.module}.{alias.name}"
                    targets.add(full if full in modules else node.module)
        graph[name] = {target for target in targets if target in modules and target != name}
    assert not _cycle(graph), " -> ".join(_cycle(graph))


def _without_type_checking(tree: ast.Module) -> ast.Module:
    class Drop(ast.NodeTransformer):
        def visit_If(self, node: ast.If) -> ast.AST | None:
            return None if isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING" else node

    return Drop().visit(tree)


def _cycle(graph: dict[str, set[str]]) -> list[str]:
    done: set[str] = set()

    def visit(name: str, path: list[str]) -> list[str]:
        if name in path:
            return [*path[path.index(name) :], name]
        if name in done:
            return []
        for target in sorted(graph[name]):
            if found := visit(target, [*path, name]):
                return found
        done.add(name)
        return []

    for name in sorted(graph):
        if found := visit(name, []):
            return found
    return []


def test_nobody_else_claims_our_names():
    """A distribution that installs a top-level `schema` or `runtime` would shadow ours."""
    owners = importlib.metadata.packages_distributions()
    assert {name: owners[name] for name in FLOORS if name in owners and owners[name] != ["terminalpp"]} == {}


@pytest.mark.parametrize("module", FLOORS)
def test_importing_does_nothing(module):
    """No output and no thread; a package is imported in a fresh interpreter."""
    code = f"import {module}, threading; assert threading.active_count() == 1, threading.enumerate()"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_lint():
    done = subprocess.run(
        [sys.executable, "-m", "ruff", "check", "."], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout
