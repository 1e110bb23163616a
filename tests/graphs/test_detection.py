# ruff: noqa: E501 (a row of a table is one line)
"""Which command is chosen, what is said of what is not, and what would bring what is missing.

The probe and the requests for reports are run by real shells on real folders.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from graphs import detection, digest, probe, reporting, setup_suggestions
from graphs.probe import Found


def found(tools: str, files: str, contents: dict[str, str] | None = None, uses: str = "", **more) -> Found:
    contents = contents or {}
    names = frozenset(files.split()) | contents.keys()
    return Found(frozenset(tools.split()), frozenset(names), contents, frozenset(uses.split()), **more)


def package(test: str | None = None, **more) -> str:
    return json.dumps({"name": "a", **({"scripts": {"test": test}} if test else {}), **more})


JEST = {"package.json": package("jest")}
PYTHON = "python3 python-pytest"
CASES = [
    # seen, command, missing
    (found(PYTHON, "tests/test_a.py"), "python3 -m pytest -q", None),
    (found(PYTHON, "a/deep/er/folder/of/tests/test_a.py"), "python3 -m pytest -q", None),
    (found(f"{PYTHON} venv", "pytest.ini"), ".venv/bin/python -m pytest -q", None),
    (found("python3", "tests/test_a.py tests/__init__.py", uses="unittest"), "python3 -m unittest discover -v -s tests -t .", None),
    (found("python3", "tests/test_a.py", uses="unittest"), "python3 -m unittest discover -v -s tests", None),
    (found("python", "test_a.py", uses="unittest"), "python -m unittest discover -v", None),
    (found("python3", "setup.py"), None, None),
    (found("npm node", "", JEST), "CI=1 npm test --silent", None),
    (found("npm yarn", "yarn.lock", JEST), "CI=1 yarn test", None),
    (found("npm", "yarn.lock", JEST), "CI=1 npm test --silent", None),
    (found("npm pnpm", "pnpm-lock.yaml", JEST), "CI=1 pnpm test", None),
    (found("npm bun", "bun.lock", JEST), "CI=1 bun run test", None),
    (found("npm pnpm", "", {"package.json": package("jest", packageManager="pnpm@9.1.0")}), "CI=1 pnpm test", None),
    (found("npm", "", {"package.json": package("echo \"Error: no test specified\" && exit 1")}), None, None),
    (found("npm", "", {"package.json": "{broken"}), None, None),
    (found("npm", "", {"package.json": package("jest", padding="x" * 31_000)}), "CI=1 npm test --silent", None),
    (found("go", "go.mod a_test.go"), "go test ./...", None),
    (found("cargo", "", {"Cargo.toml": "[package]\n"}), "cargo test", None),
    (found("cargo", "", {"Cargo.toml": "[workspace]\nmembers = ['a']\n"}), "cargo test --workspace", None),
    (found("make", "", {"Makefile": "all:\n\ntest: all\n\tx"}), "make test", None),
    (found("make", "", {"Makefile": "check:\n\tx"}), "make check", None),
    (found("make", "", {"Makefile": "test := 3\n"}), None, None),
    (found("mvn", "pom.xml"), "mvn -B -q test", None),
    (found("", "pom.xml mvnw"), "./mvnw -B -q test", None),
    (found("", "build.gradle.kts gradlew"), "./gradlew test", None),
    (found("bundle", "Gemfile spec/a_spec.rb"), "bundle exec rspec", None),
    (found("rspec", ".rspec"), "rspec", None),
    (found("rake", "test/a_test.rb", {"Rakefile": "Rake::TestTask.new\n"}), "rake test", None),
    (found("php", "phpunit.xml.dist"), "vendor/bin/phpunit", None),
    (found("mix", "mix.exs"), "mix test", None),
    (found("dotnet", "A.sln tests/A.Tests.csproj"), "dotnet test", None),
    (found("bats", "test/a.bats"), "bats test", None),
    (found("prove", "t/a.t"), "prove -lr t", None),
    (found("", ""), None, None),
    # a missing runner is told, not replaced
    (found("", "go.mod"), "go test ./...", "go"),
    (found("", "", JEST), "CI=1 npm test --silent", "npm"),
    (found("python3", "tests/test_a.py", uses="pytest"), "python3 -m pytest -q", "pytest"),
    (found("python3", "tests/test_a.py"), "python3 -m pytest -q", "pytest"),
    (found("python3", "pytest.ini tests/test_a.py", uses="unittest"), "python3 -m pytest -q", "pytest"),
    (found("npm", "requirements.txt tests/test_a.py", JEST, uses="pytest"), "python3 -m pytest -q", "python3"),
    (found("python3 npm", "requirements.txt tests/test_a.py", JEST, uses="pytest"), "python3 -m pytest -q", "pytest"),
    # but the repository's own word for its tests is taken
    (found("python3 make", "pytest.ini", {"Makefile": "test:\n\tpytest\n"}), "make test", None),
    (found("python3 python-pytest make", "pytest.ini", {"Makefile": "test:\n\tpytest\n"}), "python3 -m pytest -q", None),
    # a stray test in another language does not make the project
    (found(f"{PYTHON} go", "go.mod tools/test_gen.py"), "go test ./...", None),
    # workspaces and monorepos
    (found("npm", "", {"package.json": package(workspaces=["a"]), "a/package.json": package("jest")}),
     "CI=1 npm test --workspaces --if-present --silent", None),
    (found("npm", "", {"package.json": package("turbo test", workspaces=["a"]), "a/package.json": package("jest")}),
     "CI=1 npm test --silent", None),
    (found("pnpm", "", {"package.json": package(), "pnpm-workspace.yaml": "", "pnpm-lock.yaml": "", "a/package.json": package("jest")}),
     "CI=1 pnpm -r test", None),
    (found("yarn", "yarn.lock", {"package.json": package(workspaces=["a"]), "a/package.json": package("jest")}),
     "(cd a && CI=1 npm test --silent)", "npm"),
    (found("npm", "", {"web/package.json": package("jest")}), "(cd web && CI=1 npm test --silent)", None),
    (found(PYTHON, "backend/pyproject.toml backend/tests/test_a.py"), "(cd backend && python3 -m pytest -q)", None),
    (found(f"{PYTHON} npm", "api/pyproject.toml api/tests/test_a.py", {"my web/package.json": package("jest")}),
     "s=0; (cd api && python3 -m pytest -q) || s=$?; (cd 'my web' && CI=1 npm test --silent) || s=$?; (exit $s)", None),
    (found("go", "a/go.mod b/go.mod", {"go.work": "go 1.22\n\nuse (\n\t./a\n\t./b\n)\n"}), "go test ./a/... ./b/...", None),
    (found("go", "", {"go.work": "go 1.22\nuse ./a\n"}), "go test ./a/...", None),
    (found("go", "a/go.mod b/go.mod"), "s=0; (cd a && go test ./...) || s=$?; (cd b && go test ./...) || s=$?; (exit $s)", None),
    (found("cargo", "", {"core/Cargo.toml": "[package]\n"}), "(cd core && cargo test)", None),
    (found("make", "", {"sub/Makefile": "test:\n\tx\n"}), "(cd sub && make test)", None),
]  # fmt: skip


@pytest.mark.parametrize(("seen", "command", "missing"), CASES)
def test_detection(seen, command, missing):
    choice = detection.detect(seen)
    assert (choice.command, choice.missing) == (command, missing)


@pytest.mark.parametrize(
    ("seen", "note"),
    [
        (found("npm", "", {"package.json": "{broken"}), "package.json is no JSON that can be read"),
        (found(f"{PYTHON} npm", "pytest.ini", JEST), "not run: `CI=1 npm test --silent`"),
        (found(PYTHON, "pytest.ini", {"web/package.json": package("jest")}), "not run: the tests in web"),
        (found("npm", "", JEST, troubles=("x cannot be read",)), "x cannot be read"),
        (found("go", " ".join(f"m{n}/go.mod" for n in range(11))), "not run: 3 more projects"),
        (found(PYTHON, "pytest.ini", {"Makefile": "test:\n\tpytest\n"}), ""),
        (found("npm", "", JEST), ""),
    ],
)
def test_what_is_left_out_is_told(seen, note):
    assert detection.detect(seen).note == note


@pytest.mark.parametrize(
    ("missing", "command", "seen", "setup"),
    [
        ("mini-runner", "CI=1 npm test --silent", found("", "package.json package-lock.json"), "npm ci"),
        ("jest", "npm test", found("", "package.json"), "npm install"),
        ("jest", "CI=1 yarn test", found("", "package.json yarn.lock"), "yarn install --frozen-lockfile"),
        ("jest", "CI=1 yarn test", found("", "package.json yarn.lock .yarnrc.yml"), "yarn install --immutable"),
        ("vitest", "CI=1 pnpm test", found("", "package.json pnpm-lock.yaml"), "pnpm install --frozen-lockfile"),
        ("jest", "(cd web && CI=1 npm test --silent)", found("", "web/package.json web/package-lock.json"), "cd web && npm ci"),
        ("jest", "make test", found("", "package.json package-lock.json"), "npm ci"),
        ("pytest", "python3 -m pytest -q", found("", "uv.lock pyproject.toml"), "uv sync"),
        ("pytest", "python3 -m pytest -q", found("", "poetry.lock"), "POETRY_VIRTUALENVS_IN_PROJECT=1 poetry install"),
        ("flask", "python3 -m pytest -q", found("", "Pipfile.lock"), "PIPENV_VENV_IN_PROJECT=1 pipenv install --dev"),
        ("pytest", "pytest", found("", "requirements.txt requirements-dev.txt"),
         "python3 -m venv .venv && .venv/bin/python -m pip install -r requirements.txt -r requirements-dev.txt pytest"),
        ("pytest", "pytest", found("", "pyproject.toml"), "python3 -m venv .venv && .venv/bin/python -m pip install -e . pytest"),
        ("pytest", "python3 -m pytest -q", found("", "test_a.py"), "python3 -m venv .venv && .venv/bin/python -m pip install pytest"),
        ("rspec", "bundle exec rspec", found("", "Gemfile Gemfile.lock"), "bundle install"),
        ("vendor/bin/phpunit", "vendor/bin/phpunit", found("", "composer.json composer.lock"), "composer install"),
        ("go", "go test ./...", found("", "go.mod"), None),
        ("npm", "CI=1 npm test --silent", found("", "package.json"), None),
        ("make", "make test", found("", "package.json"), None),
        ("frobnicate", "frobnicate", found("", ""), None),
        (None, "npm test", found("", "package.json"), None),
    ],
)  # fmt: skip
def test_setups(missing, command, seen, setup):
    assert setup_suggestions.bringing(missing, command, seen) == setup


# ---- the probe, by real shells -------------------------------------------------------------------

SHELLS = [shell for shell in ("bash", "dash", "sh") if shutil.which(shell)]


def look(folder: Path, shell: str) -> Found:
    ran = subprocess.run([shell, "-c", f"cd {folder}\n{probe.SCRIPT}"], stdout=subprocess.PIPE, check=True)
    return probe.read(ran.stdout)


def put(folder: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)


@pytest.mark.parametrize("shell", SHELLS)
def test_the_probe_reads_whole_files(tmp_path, shell):
    large = package("jest", padding="é" * 31_000, lines="end package.json\ntool go\nfile x\n")
    put(tmp_path, {
        "package.json": large, "my app/package.json": package("vitest"), "node_modules/a/package.json": package("no"),
        "Makefile": "test:\n\ttrue", "tests/unit/deep/down/below/it/test_a.py": "import pytest\n",
        "tests/test_b.py": "class A(unittest.TestCase): ...\n", "package-lock.json": "{}", "requirements-dev.txt": "",
    })  # fmt: skip
    seen = look(tmp_path, shell)
    assert seen.contents == {
        "package.json": large, "my app/package.json": package("vitest"), "Makefile": "test:\n\ttrue",
    }  # fmt: skip
    assert seen.files == {
        "package.json", "my app/package.json", "Makefile", "tests/unit/deep/down/below/it/test_a.py",
        "tests/test_b.py", "package-lock.json", "requirements-dev.txt",
    }  # fmt: skip
    assert (seen.uses, seen.troubles) == ({"pytest", "unittest"}, ())


@pytest.mark.parametrize("shell", SHELLS)
def test_the_probe_tells_what_it_cannot_read(tmp_path, shell):
    put(tmp_path, {"package.json": "x" * (probe.FILE_BYTES + 1)})
    assert look(tmp_path, shell).troubles == (
        f"package.json is too large to be read ({probe.FILE_BYTES + 1} bytes)",
    )


def test_the_root_is_read_first_of_very_many(tmp_path):
    put(
        tmp_path,
        {f"a{n}/package.json": package() for n in range(probe.MOST_READ + 5)}
        | {"package.json": package("jest")},
    )
    seen = look(tmp_path, "sh")
    assert detection.detect(seen).command == "CI=1 npm test --silent"
    assert seen.troubles == (f"there are more than {probe.MOST_READ} manifests",)


def test_a_probe_that_was_cut_says_so():
    assert probe.read(b"tool go\ncontent 500 package.json\n{").troubles == (
        "package.json could not be read whole",
    )
    assert probe.read(b"find: './x': Permission denied\ntool go\n").troubles == (
        "find: './x': Permission denied",
    )


# ---- reports, by real runners ---------------------------------------------------------------------


def run(workspace: Path, command: str, seen: Found, reports: Path) -> tuple[int, str, list[bytes]]:
    """What the tester's shell lines do: the status, what a person sees, and the reports."""
    reports.mkdir(exist_ok=True)
    (reports.parent / "began").write_text("")
    lines = [
        f"cd {workspace}",
        reporting.environment(command, seen, str(reports)),
        reporting.flagged(command, str(reports)),
    ]
    ran = subprocess.run(
        ["bash", "-c", "\n".join(lines)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False
    )
    script = reporting.collect(str(reports), str(workspace), str(reports.parent / "began"))
    said = subprocess.run(["bash", "-c", script], stdout=subprocess.PIPE, check=True).stdout
    return ran.returncode, ran.stdout.decode(), reporting.read(said)


def test_pytest_writes_a_report_per_folder_beside_its_words(tmp_path):
    work, reports = tmp_path / "work", tmp_path / "reports"
    test = "def test_{}():\n    assert {}\n"
    put(work, {"a/test_a.py": test.format("one", 1), "b/test_b.py": test.format("two", 0)})
    pytest_ = f"{sys.executable} -m pytest -q -p no:cacheprovider"
    command = f"s=0; (cd a && {pytest_}) || s=$?; (cd b && {pytest_}) || s=$?; (exit $s)"
    code, said, written = run(work, command, look(work, "bash"), reports)
    assert (code, len(written)) == (1, 2)
    assert "1 passed" in said
    cases = digest.read(said, code, command=command, reports=written).cases
    assert {name.split("::")[-1].split(".")[-1]: result for name, result in cases.items()} == {
        "test_one": "passed", "test_two": "failed",
    }  # fmt: skip
    assert not [path for path in work.rglob("*.xml")]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("pytest.ini", "[pytest]\naddopts = --junitxml=mine.xml\n"),
        ("pyproject.toml", '[tool.pytest.ini_options]\naddopts = "-p no:junitxml"\n'),
    ],
)
def test_a_repository_with_its_own_wishes_for_reports_is_left_alone(tmp_path, name, text):
    work = tmp_path / "work"
    put(work, {name: text, "test_a.py": "def test_a():\n    pass\n"})
    command = f"{sys.executable} -m pytest -q -p no:cacheprovider"
    code, said, written = run(work, command, look(work, "bash"), tmp_path / "reports")
    assert (code, written) == (0, [])
    assert "1 passed" in said


@pytest.mark.skipif(not shutil.which("node"), reason="node is not installed here")
def test_node_writes_a_report_and_prints_what_it_always_prints(tmp_path):
    work = tmp_path / "work"
    put(work, {
        "package.json": package("node --test"),
        "test/a.js": "const t = require('node:test');\nt('one', () => {});\nt('two', { skip: true }, () => {});\n",
    })  # fmt: skip
    plain = subprocess.run(
        ["npm", "test", "--silent"], cwd=work, capture_output=True, check=True
    ).stdout.decode()
    code, said, written = run(work, "npm test --silent", look(work, "bash"), tmp_path / "reports")
    assert (code, len(written)) == (0, 1)
    assert said.splitlines()[0] == plain.splitlines()[0]
    assert len(said.splitlines()) == len(plain.splitlines())
    cases = digest.read(said, code, command="npm test", reports=written).cases
    assert sorted(cases.values()) == ["passed", "skipped"]


@pytest.mark.skipif(not shutil.which("node"), reason="node is not installed here")
def test_a_script_with_a_reporter_of_its_own_is_left_alone(tmp_path):
    work = tmp_path / "work"
    put(work, {
        "package.json": package("node --test --test-reporter=dot"),
        "test/a.js": "require('node:test')('one', () => {});\n",
    })  # fmt: skip
    code, _, written = run(work, "npm test --silent", look(work, "bash"), tmp_path / "reports")
    assert (code, written) == (0, [])


@pytest.mark.skipif(not shutil.which("rspec"), reason="rspec is not installed here")
def test_rspec_writes_a_report_beside_its_words(tmp_path):
    work = tmp_path / "work"
    put(
        work,
        {"spec/a_spec.rb": 'describe "x" do\n  it("one") { expect(1).to eq 1 }\n  xit("two") { }\nend\n'},
    )
    code, said, written = run(work, "rspec", look(work, "bash"), tmp_path / "reports")
    assert (code, len(written)) == (0, 1)
    assert "2 examples, 0 failures, 1 pending" in said
    assert sorted(digest.read(said, code, command="rspec", reports=written).cases.values()) == [
        "passed",
        "skipped",
    ]


def test_variables_that_are_set_are_kept():
    seen = found("node-reporters", "spec/a_spec.rb", {"package.json": package("node --test")}, node=20)
    lines = reporting.environment("npm test", seen, "/r")
    script = f"PYTEST_ADDOPTS=-x NODE_OPTIONS=--inspect SPEC_OPTS=-c; {lines}\necho $PYTEST_ADDOPTS $NODE_OPTIONS $SPEC_OPTS"
    said = subprocess.run(["sh", "-c", script], stdout=subprocess.PIPE, check=True).stdout.decode()
    assert said.strip() == "-x --junitxml=/r/$PWD/pytest.xml --inspect -c"
    assert reporting.flagged("vendor/bin/phpunit", "/r") == "vendor/bin/phpunit --log-junit /r/phpunit.xml"
    assert reporting.flagged("vendor/bin/phpunit | tee log", "/r") == "vendor/bin/phpunit | tee log"
