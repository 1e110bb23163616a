"""Suggests the setup command that brings what the tests lack, from the lock files that a repository has.

Pure. It is offered to the person (`--setup-cmd … --network open`), never run by itself: the sandbox has no
network unless the person gives it one (`--allow pypi` or `--allow npm` is mostly enough). The test run
finds programs in `.venv/bin` and `node_modules/.bin`, so what a setup installs there is there for the
tests.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from graphs.probe import Found

_REQUIREMENTS = re.compile(r"[\w-]*requirements[\w.-]*\.txt|requirements/[\w.-]+\.txt")
_VENV = "python3 -m venv .venv && .venv/bin/python -m pip install"
# Programs that come with an image, not with a repository.
_OF_THE_IMAGE = frozenset(
    ("node", "npm", "npx", "yarn", "pnpm", "bun", "deno", "go", "cargo", "rustc", "make", "cmake",
     "ctest", "gcc", "cc", "g++", "c++", "clang", "java", "javac", "mvn", "gradle", "ruby", "bundle",
     "gem", "php", "composer", "mix", "elixir", "swift", "dotnet", "bats", "prove", "perl", "python3",
     "python", "pip", "pip3", "just", "git", "docker", "uv", "poetry", "pipenv", "pdm", "sh", "bash")
)  # fmt: skip


def bringing(missing: str | None, command: str, found: Found) -> str | None:
    """The setup command that would bring `missing` for `command`; None where the repository knows none."""
    if missing is None or image_lacks(missing):
        return None
    inside = re.match(r"(?:s=0; )?\(cd (\S+) && ", command)
    folder = inside.group(1).strip("'") if inside else ""
    here = found.under(folder)
    for fits, setup in _ORDER:
        made = setup(here) if fits(f"{command} {missing}", here) else None
        if made:
            return f"cd {inside.group(1)} && {made}" if inside else made
    return None


def image_lacks(missing: str | None) -> bool:
    """Whether an image has to bring it: then another `--image` is the way."""
    return bool(missing) and missing.strip("`'\" ").rpartition("/")[2] in _OF_THE_IMAGE


def _node(found: Found) -> str | None:
    if not found.holds("package.json"):
        return None
    if found.holds("pnpm-lock.yaml"):
        return "pnpm install --frozen-lockfile"
    if found.holds("yarn.lock"):
        return "yarn install --immutable" if found.holds(".yarnrc.yml") else "yarn install --frozen-lockfile"
    if found.holds("bun.lock", "bun.lockb"):
        return "bun install --frozen-lockfile"
    return "npm ci" if found.holds("package-lock.json", "npm-shrinkwrap.json") else "npm install"


def _python(found: Found) -> str | None:
    if found.holds("uv.lock"):
        return "uv sync"
    if found.holds("poetry.lock"):
        return "POETRY_VIRTUALENVS_IN_PROJECT=1 poetry install"
    if found.holds("pdm.lock"):
        return "pdm install"
    if found.holds("Pipfile.lock", "Pipfile"):
        return "PIPENV_VENV_IN_PROJECT=1 pipenv install --dev"
    lists = sorted(path for path in found.files if _REQUIREMENTS.fullmatch(path))
    named = [path for path in lists if re.search(r"test|dev|ci", path)]
    plain = [path for path in lists if path == "requirements.txt"]
    wanted = [f"-r {path}" for path in dict.fromkeys([*plain, *(named or lists)])]
    if found.holds("pyproject.toml", "setup.py"):
        wanted.append("-e .")
    return f"{_VENV} {' '.join([*wanted, 'pytest'])}"


def _of(lock: str, setup: str) -> Callable[[Found], str | None]:
    return lambda found: setup if found.holds(lock) else None


def _java(found: Found) -> str | None:
    if found.holds("pom.xml"):
        return f"{'./mvnw' if found.holds('mvnw') else 'mvn'} -B dependency:go-offline"
    if found.holds("build.gradle", "build.gradle.kts"):
        return f"{'./gradlew' if found.holds('gradlew') else 'gradle'} --no-daemon testClasses"
    return None


def _speaks(pattern: str) -> Callable[[str, Found], bool]:
    return lambda words, found: bool(re.search(pattern, words))


def _alone(name: str) -> Callable[[str, Found], bool]:
    """Where the command does not tell its language, the manifest does."""
    return lambda words, found: found.holds(name)


_ORDER: tuple[tuple[Callable[[str, Found], bool], Callable[[Found], str | None]], ...] = (
    (_speaks(r"\b(npm|npx|yarn|pnpm|bun|node|jest|vitest|mocha|ava|tsc|tsx|ts-node|playwright)\b"), _node),
    (_speaks(r"\b(python3?|pytest|unittest|tox|nox|pip)\b"), _python),
    (_speaks(r"\bgo\s+test\b"), _of("go.mod", "go mod download")),
    (_speaks(r"\bcargo\b"), _of("Cargo.toml", "cargo fetch")),
    (_speaks(r"\b(bundle|rspec|rake|ruby)\b"), _of("Gemfile", "bundle install")),
    (_speaks(r"\b(phpunit|composer|php|pest)\b"), _of("composer.json", "composer install")),
    (_speaks(r"\bmix\b"), _of("mix.exs", "mix deps.get")),
    (_speaks(r"\b(mvnw?|gradlew?)\b"), _java),
    (_speaks(r"\bdotnet\b"), lambda found: "dotnet restore"),
    (_speaks(r"\bswift\b"), _of("Package.swift", "swift package resolve")),
    (_alone("package.json"), _node),
    (_alone("pyproject.toml"), _python),
    (_alone("requirements.txt"), _python),
    (_alone("Gemfile"), _of("Gemfile", "bundle install")),
    (_alone("composer.json"), _of("composer.json", "composer install")),
)  # fmt: skip
