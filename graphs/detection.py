"""Which command tests a repository, found from its files. Pure: `probe` says what is there.

The root's own way of being tested comes first; where the root has none, the projects below it are tested,
each from its own folder, one after the other, and the worst result counts. The first fitting rule of `_RULES`
wins.

A command is chosen by what the repository is, not by what happens to be installed: tests whose runner is
missing are not replaced by others that happen to run, because green would mean less than it says. (`make
test` is the exception: it is the repository's own word for its tests.) What is left out is told in `note`;
what would bring a missing runner is told by `setup_suggestions`.
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

from graphs import probe
from graphs.probe import Found

MOST_PROJECTS = 8  # of a repository without a command at its root


@dataclass(frozen=True)
class Choice:
    """`command` is None where nothing says how to test. `missing`: the program that it needs and that is not
    there. `note` says in words what else there is, or what could not be read."""

    command: str | None
    missing: str | None = None
    note: str = ""
    kind: str = ""  # the rule that chose it


Rule = Callable[[Found], Choice | None]


def detect(found: Found) -> Choice:
    """The command that tests the repository."""
    notes = list(found.troubles)
    choices = list(_choices(found))
    if not choices:
        return _of_projects(found, notes)
    first = choices[0]
    own = next((choice for choice in choices if choice.kind == "_make" and not choice.missing), None)
    if first.missing and own:
        first = own
    notes += [_left_out(other) for other in choices if other is not first and other.kind not in _WRAPPERS]
    notes += _below(found, first)
    return replace(first, note="; ".join(notes))


def _choices(found: Found) -> Iterator[Choice]:
    for rule in _RULES:
        choice = rule(found)
        if choice is not None:
            yield replace(choice, kind=rule.__name__)


def _of_projects(found: Found, notes: list[str]) -> Choice:
    below = _projects(found)
    if not below:
        return Choice(None, note="; ".join(notes + _broken(found)))
    if len(below) > MOST_PROJECTS:
        notes.append(f"not run: {len(below) - MOST_PROJECTS} more projects")
    return replace(_together(below[:MOST_PROJECTS]), note="; ".join(notes))


def _projects(found: Found) -> list[tuple[str, Choice]]:
    """The folders below the root that can be tested, with how; none inside another that was taken."""
    taken: list[tuple[str, Choice]] = []
    for folder in probe.projects(found):
        if any(folder.startswith(f"{other}/") for other, _ in taken):
            continue
        choice = next(_choices(found.under(folder)), None)
        if choice is not None:
            taken.append((folder, choice))
    return taken


def _together(below: list[tuple[str, Choice]]) -> Choice:
    parts = [f"(cd {shlex.quote(folder)} && {choice.command})" for folder, choice in below]
    missing = next((choice.missing for _, choice in below if choice.missing), None)
    if len(parts) == 1:
        return Choice(parts[0], missing)
    steps = "; ".join(f"{part} || s=$?" for part in parts)
    return Choice(f"s=0; {steps}; (exit $s)", missing)


def _below(found: Found, chosen: Choice) -> list[str]:
    """Projects of another kind below the root, which the root's command does not reach."""
    if chosen.kind in _WRAPPERS or _gathers(found):
        return []
    others = [folder for folder, choice in _projects(found) if choice.kind not in (chosen.kind, *_WRAPPERS)]
    return [f"not run: the tests in {', '.join(others[:5])}"] if others else []


def _gathers(found: Found) -> bool:
    """Whether the root's manifest takes the projects below it in by itself."""
    return "workspaces" in found.text("package.json") or found.holds(
        "pnpm-workspace.yaml", "go.work", "lerna.json", "pom.xml", "build.gradle", "build.gradle.kts",
        "tox.ini", "noxfile.py",
    )  # fmt: skip


def _left_out(choice: Choice) -> str:
    return f"not run: `{choice.command}`{f' ({choice.missing} is missing)' if choice.missing else ''}"


def _broken(found: Found) -> list[str]:
    return [
        f"{path} is no JSON that can be read"
        for path in found.files
        if path.endswith("package.json") and path in found.contents and _package(found.text(path)) is None
    ]


def _needs(found: Found, tool: str, command: str, note: str = "") -> Choice:
    return Choice(command, None if tool in found.tools else tool, note)


# ---- Python ------------------------------------------------------------------------------------


def _python(found: Found) -> str:
    if "venv" in found.tools:
        return ".venv/bin/python"
    return next((name for name in ("python3", "python") if name in found.tools), "python3")


def _python_tests(found: Found) -> list[str]:
    """Test files of this project; those of a project below it with a manifest of its own belong to that."""
    named = re.compile(r"(^|/)(test_[^/]*|[^/]*_test|tests)\.py$")
    manifests = ("pyproject.toml", "setup.py", "setup.cfg", "pytest.ini", "tox.ini")
    owners = [
        folder for folder in probe.projects(found) if found.holds(*(f"{folder}/{m}" for m in manifests))
    ]
    return sorted(
        path
        for path in found.files
        if named.search(path) and not any(path.startswith(f"{owner}/") for owner in owners)
    )


def _configured(found: Found) -> bool:
    return found.holds("pytest.ini", ".pytest.ini", "conftest.py") or any(
        mark in found.text(name)
        for name, mark in (
            ("pyproject.toml", "[tool.pytest"),
            ("setup.cfg", "[tool:pytest]"),
            ("tox.ini", "[pytest]"),
        )
    )


def _pytest(found: Found) -> Choice | None:
    """A Python project: one that says so at its root."""
    manifests = ("pyproject.toml", "setup.py", "setup.cfg", "requirements.txt", "Pipfile")
    return _python_project(found) if _configured(found) or found.holds(*manifests) else None


def _loose_python(found: Found) -> Choice | None:
    """Python tests in a repository that is nothing else."""
    return None if _pytest(found) else _python_project(found)


def _python_project(found: Found) -> Choice | None:
    tests, python = _python_tests(found), _python(found)
    if not tests and not _configured(found):
        return None
    command = f"{python} -m pytest -q"
    if not {"python3", "python", "venv"} & found.tools:
        return Choice(command, "python3")
    if "python-pytest" in found.tools:
        return Choice(command)
    written_for_unittest = "unittest" in found.uses and "pytest" not in found.uses
    if tests and written_for_unittest and not _configured(found):
        return Choice(_unittest(python, tests, found))
    return Choice(command, "pytest")


def _unittest(python: str, tests: list[str], found: Found) -> str:
    top = {path.split("/")[0] for path in tests if "/" in path}
    if len(top) == 1 and all("/" in path for path in tests):
        folder = top.pop()  # `-t .` keeps `import package` working when the tests stand in their own folder
        start = f"{python} -m unittest discover -v -s {shlex.quote(folder)}"
        return start + (" -t ." if found.holds(f"{folder}/__init__.py") else "")
    return f"{python} -m unittest discover -v"


# ---- JavaScript --------------------------------------------------------------------------------


def _package(text: str) -> dict[str, Any] | None:
    try:
        value = json.loads(text)
    except ValueError:
        return None
    return value if isinstance(value, dict) else None


def _test_script(found: Found) -> str | None:
    scripts = (_package(found.text("package.json")) or {}).get("scripts")
    script = scripts.get("test") if isinstance(scripts, dict) else None
    return (
        script if isinstance(script, str) and script.strip() and "no test specified" not in script else None
    )


def _manager(found: Found) -> str:
    """The package manager that the repository itself names: by field, else by its lock file."""
    value = _package(found.text("package.json")) or {}
    named = str(value.get("packageManager", "")).partition("@")[0]
    if named in ("pnpm", "yarn", "npm", "bun"):
        return named
    locks = (("pnpm-lock.yaml", "pnpm"), ("yarn.lock", "yarn"), ("bun.lock", "bun"), ("bun.lockb", "bun"))
    return next((manager for lock, manager in locks if found.holds(lock)), "npm")


def _node(found: Found) -> Choice | None:
    if not found.holds("package.json") and "package.json" not in found.contents:
        return None
    manager = _manager(found)
    # Another manager than the repository's runs the same script, so npm stands in for one that is missing.
    runner = manager if manager in found.tools or "npm" not in found.tools else "npm"
    if _test_script(found):
        run = {"npm": "npm test --silent", "bun": "bun run test"}.get(runner, f"{runner} test")
        return _needs(found, runner, f"CI=1 {run}")
    value = _package(found.text("package.json")) or {}
    workspaces = bool(value.get("workspaces")) or found.holds("pnpm-workspace.yaml")
    below = [folder for folder in probe.projects(found) if _test_script(found.under(folder))]
    if workspaces and below and runner == "pnpm":
        return _needs(found, "pnpm", "CI=1 pnpm -r test")
    if workspaces and below and runner == "npm" and value.get("workspaces"):
        return _needs(found, "npm", "CI=1 npm test --workspaces --if-present --silent")
    return None


def _deno(found: Found) -> Choice | None:
    return _needs(found, "deno", "deno test -A") if found.holds("deno.json", "deno.jsonc") else None


# ---- other languages ---------------------------------------------------------------------------


def _go(found: Found) -> Choice | None:
    if found.holds("go.work"):
        used = re.findall(r"^\s*(?:use\s+)?(\.[\w./-]*)\s*$", found.text("go.work"), re.MULTILINE)
        where = " ".join(f"{folder.rstrip('/')}/..." for folder in dict.fromkeys(used)) or "./..."
        return _needs(found, "go", f"go test {where}")
    return _needs(found, "go", "go test ./...") if found.holds("go.mod") else None


def _cargo(found: Found) -> Choice | None:
    if not found.holds("Cargo.toml"):
        return None
    whole = " --workspace" if re.search(r"^\[workspace", found.text("Cargo.toml"), re.MULTILINE) else ""
    return _needs(found, "cargo", f"cargo test{whole}")


def _jvm(found: Found) -> Choice | None:
    if found.holds("pom.xml"):
        return Choice("./mvnw -B -q test") if found.holds("mvnw") else _needs(found, "mvn", "mvn -B -q test")
    if found.holds("build.gradle", "build.gradle.kts"):
        own = found.holds("gradlew")
        return Choice("./gradlew test") if own else _needs(found, "gradle", "gradle --no-daemon test")
    return None


def _ruby(found: Found) -> Choice | None:
    bundled = found.holds("Gemfile")
    if found.holds(".rspec") or any(
        path.startswith("spec/") and path.endswith("_spec.rb") for path in found.files
    ):
        runner, tool = ("bundle exec rspec", "bundle") if bundled else ("rspec", "rspec")
        return _needs(found, tool, runner)
    tests = [path for path in found.files if re.match(r"test/(.*/)?(test_[^/]*|[^/]*_test)\.rb$", path)]
    if tests and re.search(r"\bTestTask\b|^\s*task\s+[:\"']?test\b", found.text("Rakefile"), re.MULTILINE):
        runner, tool = ("bundle exec rake test", "bundle") if bundled else ("rake test", "rake")
        return _needs(found, tool, runner)
    if tests:
        each = 'Dir.glob("test/**/{test_*,*_test}.rb") { |f| require File.expand_path(f) }'
        return _needs(found, "ruby", f"ruby -Ilib -Itest -e {shlex.quote(each)}")
    return None


def _php(found: Found) -> Choice | None:
    scripts = (_package(found.text("composer.json")) or {}).get("scripts")
    if found.holds("phpunit.xml", "phpunit.xml.dist"):
        return _needs(found, "php", "vendor/bin/phpunit")
    return (
        _needs(found, "composer", "composer test")
        if isinstance(scripts, dict) and "test" in scripts
        else None
    )


def _mix(found: Found) -> Choice | None:
    return _needs(found, "mix", "mix test") if found.holds("mix.exs") else None


def _swift(found: Found) -> Choice | None:
    return _needs(found, "swift", "swift test") if found.holds("Package.swift") else None


def _dotnet(found: Found) -> Choice | None:
    solution = any(path.endswith((".sln", ".slnx")) and "/" not in path for path in found.files)
    tests = [path for path in found.files if re.search(r"tests?\.(cs|fs)proj$", path, re.IGNORECASE)]
    return _needs(found, "dotnet", "dotnet test") if solution or tests else None


def _ctest(found: Found) -> Choice | None:
    if not re.search(
        r"\b(enable_testing|include\s*\(\s*CTest)\b", found.text("CMakeLists.txt"), re.IGNORECASE
    ):
        return None
    build = "cmake -S . -B build && cmake --build build && ctest --test-dir build --output-on-failure"
    return _needs(found, "cmake", build)


def _tox(found: Found) -> Choice | None:
    """Only where nothing tells how the tests are written: tox makes environments of its own, by network."""
    if found.holds("noxfile.py"):
        return _needs(found, "nox", "nox")
    return _needs(found, "tox", "tox") if "[testenv" in found.text("tox.ini") else None


def _bats(found: Found) -> Choice | None:
    folders = sorted({path.rpartition("/")[0] or "." for path in found.files if path.endswith(".bats")})
    return _needs(found, "bats", f"bats {' '.join(map(shlex.quote, folders[:10]))}") if folders else None


def _prove(found: Found) -> Choice | None:
    tests = any(path.startswith("t/") and path.endswith(".t") for path in found.files)
    return _needs(found, "prove", "prove -lr t") if tests else None


def _make(found: Found) -> Choice | None:
    for name in ("GNUmakefile", "makefile", "Makefile"):
        for target in ("test", "tests", "check"):
            if re.search(rf"^{target}\s*::?(?!=)", found.text(name), re.MULTILINE):
                return _needs(found, "make", f"make {target}")
    return None


def _just(found: Found) -> Choice | None:
    tests = re.search(r"^@?test\b[^:=\n]*:(?!=)", found.text("justfile"), re.MULTILINE)
    return _needs(found, "just", "just test") if tests else None


_RULES: tuple[Rule, ...] = (
    _pytest, _node, _deno, _go, _cargo, _jvm, _ruby, _php, _mix, _swift, _dotnet, _ctest, _loose_python, _tox,
    _bats, _prove, _make, _just,
)  # fmt: skip
_WRAPPERS = ("_make", "_just", "_tox")  # they run what another rule would find
