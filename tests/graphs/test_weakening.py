# ruff: noqa: E501 (a row of a table is one line)
"""What a change did to the tests: rows of files before and after, and what must, or must not, be found."""

from __future__ import annotations

import json
from typing import Any

import pytest

from graphs import weakening
from graphs.runner_settings import Change

PY = "test_app.py"
ONE = "def test_add():\n    assert add(2, 3) == 5\n"
TWO = ONE + "\n\ndef test_sub():\n    assert sub(5, 3) == 2\n"
UNIT = (
    "import unittest\n\n\nclass T(unittest.TestCase):\n    def test_add(self):\n"
    "        self.assertEqual(add(2, 3), 5)\n"
)
ROWS = '@pytest.mark.parametrize("a", [1, 2, 3])\ndef test_row(a):\n    assert f(a) == a\n'
HEAD = "import pytest\n"


def found(
    old: dict[str, str], new: dict[str, str], task: str = "Fix the bug", **reports: Any
) -> list[tuple[str, bool]]:
    changes = [
        Change(path, old.get(path), new.get(path))
        for path in sorted(old.keys() | new.keys())
        if old.get(path) != new.get(path)
    ]
    assert all(weakening.wanted(change.path) for change in changes)
    return [(one["kind"], one["blocks"]) for one in weakening.find(changes, task, **reports)]


# (what is done, the test file before, the test file after, kind, whether it forbids `passed`)
PYTHON = [
    ("deleted", TWO, ONE, "deleted", True),
    ("deleted and another one made", TWO, ONE + "def test_x():\n    assert hello() == 1\n", "deleted", True),
    ("deleted, its numbers used elsewhere", TWO, ONE + "def test_x():\n    assert mul(5, 3) == 2\n", "deleted", True),
    ("commented out", TWO, ONE + "\n# def test_sub():\n#     assert sub(5, 3) == 2\n", "deleted", True),
    ("not a test by its name now", ONE, ONE.replace("test_add", "_test_add"), "deleted", True),
    ("class taken away", UNIT + "\n\nT = None\n", UNIT, None, None),
    ("class taken away at the end", UNIT, UNIT + "\n\nT = None\n", "deleted", True),
    ("class deleted by del", UNIT, UNIT + "\n\ndel T\n", "deleted", True),
    ("not collected", UNIT, UNIT.replace("Case):", "Case):\n    __test__ = False\n"), "deleted", True),
    ("skip on the class", UNIT, UNIT.replace("class T", '@unittest.skip("no db")\nclass T'), "skipped", True),
    ("skip on the test", ONE, "@pytest.mark.skip\n" + ONE, "skipped", True),
    ("skip with words", ONE, '@pytest.mark.skip(reason="flaky")\n' + ONE, "skipped", True),
    ("xfail", ONE, "@pytest.mark.xfail\n" + ONE, "skipped", True),
    ("xfail that is not strict", ONE, "@pytest.mark.xfail(strict=False)\n" + ONE, "skipped", True),
    ("skipif True", ONE, '@pytest.mark.skipif(True, reason="x")\n' + ONE, "skipped", True),
    ("skipif False is none", ONE, '@pytest.mark.skipif(False, reason="x")\n' + ONE, None, None),
    ("skipif", ONE, '@pytest.mark.skipif(sys.platform != "win32", reason="x")\n' + ONE, "skipped", True),
    ("skipUnless", UNIT, UNIT.replace("    def", "    @unittest.skipUnless(DB, 'x')\n    def"), "skipped", True),
    ("expectedFailure", UNIT, UNIT.replace("    def", "    @unittest.expectedFailure\n    def"), "skipped", True),
    ("pytestmark", ONE, "pytestmark = pytest.mark.skip\n" + ONE, "skipped", True),
    ("pytestmark in a list", ONE, "pytestmark = [pytest.mark.slow, pytest.mark.skip]\n" + ONE, "skipped", True),
    ("pytestmark that only marks", ONE, "pytestmark = [pytest.mark.slow]\n" + ONE, None, None),
    ("module skip", ONE, 'pytest.skip("x", allow_module_level=True)\n' + ONE, "skipped", True),
    ("raise SkipTest", ONE, 'raise unittest.SkipTest("x")\n' + ONE, "skipped", True),
    ("skip as first statement", ONE, ONE.replace("    assert", "    pytest.skip('x')\n    assert"), "skipped", True),
    ("self.skipTest", UNIT, UNIT.replace("        self.", "        self.skipTest('x')\n        self."), "skipped", True),
    ("return as first statement", ONE, ONE.replace("    assert", "    return\n    assert"), "skipped", True),
    ("if True: return", ONE, ONE.replace("    assert", "    if True:\n        return\n    assert"), "skipped", True),
    ("emptied", ONE, "def test_add():\n    pass\n", "emptied", True),
    ("emptied to a docstring", ONE, 'def test_add():\n    """Adds."""\n', "emptied", True),
    ("assert True", ONE, "def test_add():\n    assert True\n", "emptied", True),
    ("assert or True", ONE, ONE.replace("== 5", "== 5 or True"), "emptied", True),
    ("assert a tuple", ONE, 'def test_add():\n    assert (add(2, 3) == 5, "message")\n', "emptied", True),
    ("assertEqual(1, 1)", UNIT, UNIT.replace("add(2, 3), 5", "1, 1"), "emptied", True),
    ("assertTrue(True)", UNIT, UNIT.replace("assertEqual(add(2, 3), 5)", "assertTrue(True)"), "emptied", True),
    ("equal to itself", ONE, ONE.replace("== 5", "== add(2, 3)"), "emptied", True),
    ("swallowed", ONE, "def test_add():\n    try:\n        assert add(2, 3) == 5\n    except Exception:\n"
     "        pass\n", "emptied", True),
    ("behind if False", ONE, "def test_add():\n    if False:\n        assert add(2, 3) == 5\n", "emptied", True),
    ("called only", ONE, "def test_add():\n    add(2, 3)\n", "emptied", True),
    ("overridden below", ONE, ONE + "\n\ndef test_add():\n    pass\n", "emptied", True),
    ("rows taken away", ROWS, ROWS.replace("[1, 2, 3]", "[1]"), "rows", True),
    ("a row skipped", ROWS, ROWS.replace("3]", "pytest.param(3, marks=pytest.mark.skip)]"), "rows", True),
    ("an assertion less", ONE + "    assert add(0, 0) == 0\n", ONE, "assertions", False),
    ("another expectation", ONE, ONE.replace("== 5", "== -1"), "expectation", False),
    ("ends the run", ONE, "import os\nos._exit(0)\n" + ONE, "switch", True),
    ("exits in a test", TWO, TWO.replace("    assert add", "    sys.exit(0)\n    assert add"), "switch", True),
    ("load_tests", UNIT, UNIT + "\n\ndef load_tests(loader, tests, pattern):\n    return None\n", "switch", True),
    ("a ternary", ONE, ONE.replace("add(2, 3) == 5", "add(2, 3) == 5 if False else True"), "emptied", True),
    ("constants alone", ONE, ONE.replace("add(2, 3) == 5", "2 + 3 == 5"), "emptied", True),
    ("suppressed", ONE, ONE.replace("    assert", "    with contextlib.suppress(AssertionError):\n        assert"), "emptied", True),
    ("expected to fail", ONE, ONE.replace("    assert", "    with pytest.raises(AssertionError):\n        assert"), "emptied", True),
    ("finally: return", ONE, "def test_add():\n    try:\n        assert add(2, 3) == 5\n    finally:\n        return\n", "emptied", True),
    ("a skip of its own", ONE, "@skip_unless_database\n" + ONE, "skipped", True),
    ("setUp skips", UNIT, UNIT.replace("    def test", "    def setUp(self):\n        self.skipTest('x')\n\n    def test"), "skipped", True),
    ("the module's setup skips", ONE, "def setup_module():\n    pytest.skip('x')\n\n\n" + ONE, "skipped", True),
    ("under a condition", ONE, "if os.environ.get('X'):\n    def test_add():\n        assert add(2, 3) == 5\n", "skipped", True),
    # what is no weakening
    ("a new test", ONE, TWO, None, None),
    ("a new test that is skipped", ONE, TWO.replace("def test_sub", "@skip\ndef test_sub"), None, None),
    ("a skip taken away", "@pytest.mark.skip\n" + ONE, ONE, None, None),
    ("renamed", ONE, ONE.replace("test_add", "test_adding_two_numbers"), None, None),
    ("put into a class", ONE, "class TestAdd:\n    def test_add(self):\n        assert add(2, 3) == 5\n", None, None),
    ("class renamed", UNIT, UNIT.replace("class T", "class TestAdding"), None, None),
    ("more assertions", ONE, ONE + "    assert add(1, 1) == 2\n", None, None),
    ("a message added", ONE, ONE.replace("== 5", "== 5, 'adds'"), None, None),
    ("two tests merged into rows", "def test_a():\n    assert f(1) == 2\n\n\ndef test_b():\n    assert f(2) == 3\n",
     '@pytest.mark.parametrize(("a", "b"), [(1, 2), (2, 3)])\ndef test_f(a, b):\n    assert f(a) == b\n', None, None),
    ("merged into one that was there", TWO, ONE + "    assert sub(5, 3) == 2\n", None, None),
    ("a row more", ROWS, ROWS.replace("3]", "3, 4]"), None, None),
    ("rows in a variable", ROWS, ROWS.replace("[1, 2, 3]", "VALUES"), None, None),
    ("a skipped one deleted", ONE + "@pytest.mark.skip\ndef test_x():\n    assert f() == 1\n", ONE, None, None),
    ("an empty one deleted", ONE + "def test_x():\n    pass\n", ONE, None, None),
    ("a fixture added", ONE, "@pytest.fixture\ndef db():\n    return 1\n\n\n" + ONE, None, None),
    ("an assertion in a helper", ONE, "def check(a):\n    assert a == 5\n\n\ndef test_add():\n    check(add(2, 3))\n",
     "expectation", False),
    ("main guard", ONE, ONE + '\n\nif __name__ == "__main__":\n    sys.exit(pytest.main())\n', None, None),
    ("raises exit", ONE, ONE + "\n\ndef test_exit():\n    with pytest.raises(SystemExit):\n        sys.exit(0)\n",
     None, None),
    ("comments and layout", ONE, "# adds\n" + ONE.replace("2, 3", "2,  3"), None, None),
    ("broken text is no news", ONE, "def test_add(:\n    assert add(2, 3) == 5\n", None, None),
]  # fmt: skip


@pytest.mark.parametrize(
    ("before", "after", "kind", "blocks"), [row[1:] for row in PYTHON], ids=[row[0] for row in PYTHON]
)
def test_python(before, after, kind, blocks):
    told = found({PY: HEAD + before}, {PY: HEAD + after})
    assert told == ([] if kind is None else [(kind, blocks)])


JS = "describe('adds', () => {\n  it('one', () => {\n    expect(add(1, 2)).toBe(3);\n  });\n  it('two', () => {\n" \
     "    expect(add(2, 2)).toBe(4);\n  });\n});\n"  # fmt: skip
NODE = "test('one', () => { assert.equal(add(1, 2), 3); });\n"
GO = 'package a\n\nfunc TestAdd(t *testing.T) {\n\tif add(1, 2) != 3 {\n\t\tt.Fatal("}")\n\t}\n}\n'
RUST = "fn add() {}\n#[cfg(test)]\nmod tests {\n    #[test]\n    fn adds() {\n        assert_eq!(add(1, 2), 3);\n    }\n}\n"
JAVA = "class ATest {\n  @Test\n  void adds() {\n    assertEquals(3, add(1, 2));\n  }\n}\n"
CSHARP = "public class ATests {\n  [Fact]\n  public void Adds() {\n    Assert.Equal(3, Add(1, 2));\n  }\n}\n"
RUBY = 'describe "add" do\n  it "adds" do\n    expect(add(1, 2)).to eq 3\n  end\nend\n'
MINITEST = "class T < Minitest::Test\n  def test_add\n    assert_equal 3, add(1, 2)\n  end\nend\n"
PHP = "<?php\nclass ATest extends TestCase {\n  public function testAdds(): void {\n    $this->assertSame(3, add(1, 2));\n  }\n}\n"
ELIXIR = 'defmodule ATest do\n  test "adds" do\n    assert add(1, 2) == 3\n  end\nend\n'
SWIFT = "final class ATests: XCTestCase {\n  func testAdds() {\n    XCTAssertEqual(add(1, 2), 3)\n  }\n}\n"
BATS = '@test "adds" {\n  run add 1 2\n  [ "$output" = 3 ]\n}\n'
CPP = "TEST(Add, Adds) {\n  EXPECT_EQ(3, add(1, 2));\n}\n"
OTHERS = [
    ("a.test.js", JS, JS.replace("it('two'", "it.skip('two'"), "skipped", True),
    ("a.test.js", JS, JS.replace("it('two'", "xit('two'"), "skipped", True),
    ("a.test.ts", JS, JS.replace("describe(", "describe.skip("), "skipped", True),
    ("a.test.js", JS, JS.replace("describe(", "xdescribe("), "skipped", True),
    ("a.test.js", JS, JS.replace("it('one'", "it.only('one'"), "focused", True),
    ("a.test.js", JS, JS.replace("it('one'", "fit('one'"), "focused", True),
    ("a.test.js", JS, JS.replace("describe(", "fdescribe("), "focused", True),
    ("a.test.js", JS, JS.replace("it('two'", "// it('two'").replace("toBe(4);\n  });", "toBe(4);\n//  });"), "deleted", True),
    ("a.test.js", JS, JS.replace("expect(add(2, 2)).toBe(4)", "expect(true).toBe(true)"), "emptied", True),
    ("a.test.js", JS, JS.replace("expect(add(2, 2)).toBe(4);", ""), "emptied", True),
    ("a.test.js", JS, JS.replace("toBe(4)", "toBe(5)"), "expectation", False),
    ("a.test.js", JS, JS.replace("'two'", "'adds two and two'"), None, None),
    ("a.test.js", JS, JS.replace("describe('adds'", "describe('addition'"), None, None),
    ("a.test.js", JS, JS + "it('three', () => { expect(add(0, 0)).toBe(0); });\n", None, None),
    ("a.test.js", JS, JS.replace("\n", "\r\n"), None, None),
    ("test/a.js", NODE, NODE.replace("'one', ", "'one', { skip: true }, "), "skipped", True),
    ("test/a.js", NODE, NODE.replace("'one', ", "'one', { todo: true }, "), "skipped", True),
    ("test/a.js", NODE, NODE.replace("'one', ", "'one', { skip: false }, "), None, None),
    ("test/a.js", NODE, NODE.replace("() => {", "(t) => { t.skip();"), "skipped", True),
    ("test/a.js", NODE, "process.exit(0);\n" + NODE, "switch", True),
    ("a_test.go", GO, GO.replace("\tif", '\tt.Skip("x")\n\tif'), "skipped", True),
    ("a.test.js", JS, JS.replace("it('two', () => {", "it('two', () => {\n    return;"), "skipped", True),
    ("a_test.go", GO, GO.replace("\tif", "\treturn\n\tif"), "skipped", True),
    ("a_test.go", GO, "//go:build integration\n\n" + GO, "switch", True),
    ("a_test.go", GO, "//go:build go1.21\n\n" + GO, None, None),
    ("a_test.go", GO, GO.replace("TestAdd", "testAdd"), "deleted", True),
    ("a_test.go", GO, GO.replace("TestAdd", "TestAddition"), None, None),
    ("a_test.go", GO, "package a\n\nfunc TestAdd(t *testing.T) {\n}\n", "emptied", True),
    ("src/lib.rs", RUST, RUST.replace("    #[test]\n", "    #[test]\n    #[ignore]\n"), "skipped", True),
    ("src/lib.rs", RUST, RUST.replace("    #[test]\n", ""), "deleted", True),
    ("src/lib.rs", RUST, RUST.replace("assert_eq!(add(1, 2), 3)", "assert!(true)"), "emptied", True),
    ("src/lib.rs", RUST, RUST.replace("fn add() {}", "fn add() { 1 }"), None, None),
    ("src/test/java/ATest.java", JAVA, JAVA.replace("@Test", '@Test\n  @Disabled("x")'), "skipped", True),
    ("src/test/java/ATest.java", JAVA, JAVA.replace("class", "@Disabled\nclass"), "skipped", True),
    ("src/test/java/ATest.java", JAVA, JAVA.replace("  @Test\n", ""), "deleted", True),
    ("src/test/java/ATest.java", JAVA, JAVA.replace("add(1, 2)", "add(2, 1)"), "expectation", False),
    ("ATests.cs", CSHARP, CSHARP.replace("[Fact]", '[Fact(Skip = "x")]'), "skipped", True),
    ("ATests.cs", CSHARP, CSHARP.replace("[Fact]\n", "\n"), "deleted", True),
    ("spec/a_spec.rb", RUBY, RUBY.replace(' it "', ' xit "'), "skipped", True),
    ("spec/a_spec.rb", RUBY, RUBY.replace(' it "', ' fit "'), "focused", True),
    ("spec/a_spec.rb", RUBY, RUBY.replace("    expect", '    skip "x"\n    expect'), "skipped", True),
    ("spec/a_spec.rb", RUBY, RUBY.replace("    expect(add(1, 2)).to eq 3\n", ""), "emptied", True),
    ("test/a_test.rb", MINITEST, MINITEST.replace("    assert", "    skip\n    assert"), "skipped", True),
    ("test/a_test.rb", MINITEST, MINITEST.replace("test_add", "xtest_add"), "deleted", True),
    ("tests/ATest.php", PHP, PHP.replace("    $this", "    $this->markTestSkipped();\n    $this", 1), "skipped", True),
    ("tests/ATest.php", PHP, PHP.replace("testAdds", "adds"), "deleted", True),
    ("test/a_test.exs", ELIXIR, ELIXIR.replace("  test", "  @tag :skip\n  test"), "skipped", True),
    ("ATests.swift", SWIFT, SWIFT.replace("    XCT", '    throw XCTSkip("x")\n    XCT'), "skipped", True),
    ("t/a.bats", BATS, BATS.replace("  run", '  skip "x"\n  run'), "skipped", True),
    ("t/a.bats", BATS, '@test "adds" {\n  true\n}\n', "emptied", True),
    ("a_test.cc", CPP, CPP.replace("Adds", "DISABLED_Adds"), "skipped", True),
    ("a_test.cc", CPP, CPP.replace("EXPECT_EQ(3, add(1, 2))", "EXPECT_TRUE(true)"), "emptied", True),
    ("test_old.py", "def test_a():\n    print 'x'\n    assert f() == 1\n",
     "@skip\ndef test_a():\n    print 'x'\n    assert f() == 1\n", "skipped", True),
]  # fmt: skip


@pytest.mark.parametrize(("path", "before", "after", "kind", "blocks"), OTHERS)
def test_other_languages(path, before, after, kind, blocks):
    assert set(found({path: before}, {path: after})) == (set() if kind is None else {(kind, blocks)})


def package(test: str | None, **more: Any) -> str:
    scripts = {"build": "tsc", **({"test": test} if test is not None else {}), **more.pop("scripts", {})}
    return json.dumps({"name": "a", "scripts": scripts, **more}, indent=2)


MAKE = "all:\n\tcc a.c\n\ntest: all\n\tpytest -q\n\nclean:\n\trm a\n"
INI = "[pytest]\ntestpaths = tests\n"
SETTINGS = [
    ("package.json", package("jest"), package("true"), "command", True),
    ("package.json", package("jest"), package("echo ok"), "command", True),
    ("package.json", package("jest"), package("jest || true"), "command", True),
    ("package.json", package("jest"), package("jest; exit 0"), "command", True),
    ("package.json", package("jest"), package("jest --passWithNoTests"), "command", True),
    ("package.json", package("jest"), package("jest --testPathIgnorePatterns a"), "command", True),
    ("package.json", package("jest"), package(None), "command", True),
    ("package.json", package("jest"), package("jest --coverage"), "command", False),
    ("package.json", package("npm run unit", scripts={"unit": "jest"}),
     package("npm run unit", scripts={"unit": "exit 0"}), "command", True),
    ("package.json", package("jest", jest={}), package("jest", jest={"testPathIgnorePatterns": ["a"]}), "config", True),
    ("package.json", package("jest"), package("jest", scripts={"lint": "eslint"}), None, None),
    ("package.json", package("jest"), package("jest", dependencies={"a": "1"}), None, None),
    ("package.json", package('echo "Error: no test specified" && exit 1'), package("jest"), None, None),
    ("Makefile", MAKE, MAKE.replace("pytest -q", "true"), "command", True),
    ("Makefile", MAKE, MAKE.replace("\tpytest", "\t-pytest"), "command", True),
    ("Makefile", MAKE, MAKE.replace("-q", "-q || true"), "command", True),
    ("Makefile", MAKE, MAKE.replace("-q", "-q --deselect t.py::a"), "command", True),
    ("Makefile", MAKE, MAKE.replace("-q", "-q -x"), "command", False),
    ("Makefile", MAKE, MAKE.replace("cc a.c", "cc -O2 a.c"), None, None),
    ("Makefile", MAKE, MAKE + "lint:\n\truff check\n", None, None),
    ("pytest.ini", INI, INI + "addopts = --ignore=tests/test_a.py\n", "config", True),
    ("pytest.ini", INI, INI.replace("tests", "tests/unit"), "config", False),
    ("pyproject.toml", '[tool.pytest.ini_options]\naddopts = "-q"\n',
     '[tool.pytest.ini_options]\naddopts = "-q -k \'not add\'"\n', "config", True),
    ("pyproject.toml", '[project]\nversion = "1"\n', '[project]\nversion = "2"\n', None, None),
    ("conftest.py", "", 'collect_ignore = ["test_a.py"]\n', "switch", True),
    ("conftest.py", "", "def pytest_collection_modifyitems(items):\n    items.clear()\n", "switch", True),
    ("conftest.py", "", "import pytest\n\n\n@pytest.fixture\ndef db():\n    return 1\n", None, None),
    ("jest.config.js", "module.exports = {}\n", "module.exports = {\n  testPathIgnorePatterns: ['a'],\n}\n", "config", True),
    ("pom.xml", "<project>\n</project>\n", "<project>\n<testFailureIgnore>true</testFailureIgnore>\n</project>\n",
     "config", True),
    ("Cargo.toml", "[lib]\n", "[lib]\ntest = false\n", "config", True),
    (".github/workflows/ci.yml", "on: push\n", "on: push\n    continue-on-error: true\n", "ci", False),
]  # fmt: skip


SETTINGS += [
    ("pom.xml", "<project>\n</project>\n", "<project>\n<skip>true</skip>\n</project>\n", None, None),
    ("pom.xml", "<project>\n</project>\n", "<project>\n<skipTests>true</skipTests>\n</project>\n", "config", True),
    ("pyproject.toml", "[tool.pytest.ini_options]\n", "[tool.pytest.ini_options]\naddopts = \"-m 'not slow'\"\n", "config", True),
    ("pyproject.toml", "[tool.ruff]\nline-length = 100\n", "[tool.ruff]\nline-length = 100\nexclude = ['a']\n", None, None),
    ("pyproject.toml", "", "[tool.setuptools.packages.find]\nexclude = ['tests*']\n", None, None),
    ("tox.ini", "[testenv]\ncommands = pytest\n", "[testenv]\nignore_outcome = true\ncommands = pytest\n", "config", True),
    ("setup.cfg", "[flake8]\nmax = 1\n", "[flake8]\nmax = 1\nexclude = a\n", None, None),
    ("setup.cfg", "[tool:pytest]\n", "[tool:pytest]\nnorecursedirs = tests/slow\n", "config", True),
    ("build.gradle", "dependencies {\n}\n", "dependencies {\n  implementation('a') { exclude(group: 'b') }\n}\n", None, None),
    ("vitest.config.ts", "export default {}\n", "export default {\n  test: { exclude: ['a'] },\n}\n", "config", True),
    ("vite.config.ts", "export default {}\n", "export default {\n  optimizeDeps: { exclude: ['a'] },\n}\n", None, None),
    ("test/test_helper.exs", "ExUnit.start()\n", "ExUnit.start()\nExUnit.configure(exclude: [:a])\n", "config", True),
    ("conftest.py", "", "def pytest_addoption(parser):\n    parser.addoption('--slow')\n", None, None),
]  # fmt: skip


@pytest.mark.parametrize(("path", "before", "after", "kind", "blocks"), SETTINGS)
def test_how_the_tests_are_run(path, before, after, kind, blocks):
    told = found({path: before}, {path: after})
    assert told[:1] == ([] if kind is None else [(kind, blocks)])


def test_a_script_that_the_test_command_names():
    old, new = "set -e\npytest -q\n", "set -e\npytest -q || true\n"
    assert found({"ci/run.sh": old}, {"ci/run.sh": new}, command="sh ci/run.sh") == [("command", True)]
    assert found({"ci/run.sh": old}, {"ci/run.sh": new}, command="make test") == []
    assert found({"ci/run.sh": old}, {"ci/run.sh": old + "echo done\n"}, command="sh ci/run.sh") == []


def test_functions_that_only_bear_a_tests_name():
    old = "def test_connection(host):\n    return ping(host)\n"
    assert found({"app/net.py": old}, {"app/net.py": "x = 1\n"}) == []
    assert found({"app/cli.py": old}, {"app/cli.py": old + "import sys\nsys.exit(0)\n"}) == []
    assert found({"checks/net.py": "import pytest\n" + old}, {"checks/net.py": "x = 1\n"}) == [
        ("deleted", True)
    ]


def test_a_program_under_test_that_the_command_names_may_change():
    old, new = "print(1)\nx = 2\n", "print(2)\n"
    assert found({"app.py": old}, {"app.py": new}, command="python3 app.py --selftest") == []
    assert found({"run.sh": "a\nb\n"}, {"run.sh": "a\nc\n"}, command="sh run.sh") == [("command", False)]


def test_files_that_go_and_come():
    assert found({PY: TWO}, {}) == [("deleted", True)]
    assert found({PY: TWO}, {"tests/test_app.py": TWO}) == []
    assert found({PY: TWO}, {"test_a.py": ONE, "test_b.py": TWO.replace(ONE, "")}) == []
    assert found({PY: ONE}, {"app_checks.py": ONE}) == [("deleted", True)]
    assert found({"a.test.js": JS}, {"b.test.js": JS}) == []


def test_a_condition_that_let_the_test_run_forbids_nothing():
    after = '@pytest.mark.skipif(sys.platform == "win32", reason="x")\n' + ONE
    ran = {"test_app::test_add": "passed"}
    assert found({PY: ONE}, {PY: after}, before=ran, after=ran) == []


# ---- reports ------------------------------------------------------------------------------------

BEFORE = {"t.A::test_a": "passed", "t.A::test_b": "failed", "t.A::test_c": "skipped"}


@pytest.mark.parametrize(
    ("after", "kinds"),
    [
        (BEFORE, []),
        ({**BEFORE, "t.A::test_d": "passed"}, []),
        ({"t.A::test_a": "passed", "t.A::test_b": "passed"}, []),
        ({"t.A::test_a": "passed", "t.A::test_b": "skipped"}, [("skipped", True)]),
        ({"t.A::test_a": "passed"}, [("gone", True)]),
        ({"u.B::test_a": "passed", "u.B::test_b": "passed"}, []),
        ({"t.A::test_a": "passed", "t.A::test_new": "passed"}, []),
        ({}, []),
    ],
)
def test_reports(after, kinds):
    assert found({}, {}, before=BEFORE, after=after) == kinds


@pytest.mark.parametrize(
    ("old", "new", "numbers", "kinds"),
    [
        ({"main.c": "1"}, {"main.c": "2"}, (5, 5), []),
        ({"main.c": "1"}, {"main.c": "2"}, (5, 6), []),
        ({"main.c": "1"}, {"main.c": "2"}, (5, 3), [("gone", True)]),
        ({"run.lisp": "1"}, {}, (5, 0), [("gone", True)]),
        ({PY: TWO}, {PY: TWO + "# no main\n"}, (2, 0), [("gone", True)]),
        ({PY: TWO}, {PY: ONE + "    assert sub(5, 3) == 2\n"}, (2, 1), []),
        ({PY: TWO}, {PY: ONE}, (2, 1), [("deleted", True)]),
    ],
)
def test_numbers_tell_where_no_name_does(old, new, numbers, kinds):
    changes = [Change(path, old.get(path), new.get(path)) for path in old.keys() | new.keys()]
    told = weakening.find(changes, "Fix it", numbers=numbers)
    assert [(one["kind"], one["blocks"]) for one in told] == kinds


def test_what_the_files_tell_is_not_told_twice():
    after = {"test_app::test_add": "passed"}
    before = {**after, "test_app::test_sub": "failed"}
    assert found({PY: TWO}, {PY: ONE}, before=before, after=after) == [("deleted", True)]
    skipped = {**after, "test_app::test_sub": "skipped"}
    new = TWO.replace("def test_sub", "@pytest.mark.skip\ndef test_sub")
    assert found({PY: TWO}, {PY: new}, before=before, after=skipped) == [("skipped", True)]
    renamed = {**after, "test_app::test_difference": "passed"}
    new = TWO.replace("test_sub", "test_difference")
    assert found({PY: TWO}, {PY: new}, before=before, after=renamed) == []


# ---- the task -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("task", "blocks"),
    [
        ("Fix the bug in sub", True),
        ("Fix the failing test", True),
        ("Make the tests pass", True),
        ("Make test_sub pass. Do not delete any tests.", True),
        ("Fix sub() without removing tests", True),
        ("Fix the skip() function so that the tests pass", True),
        ("Remove the dead code in main", True),
        ("Remove the obsolete tests", False),
        ("Delete test_sub", False),
        ("Please drop the test for sub", False),
        ("The test test_sub should be removed", False),
        ("Rewrite the tests with hypothesis", False),
        ("Remove sub from the calculator", False),
        ("Fix add, and delete the flaky tests", False),
        ("Revert the last commit", False),
        ("Fix it, but do not revert anything", True),
    ],
)
def test_what_the_task_asks_for_is_no_weakening(task, blocks):
    assert found({PY: TWO}, {PY: ONE}, task) == [("deleted", blocks)]


@pytest.mark.parametrize(
    ("task", "blocks"),
    [
        ("Skip the slow tests", False),
        ("Mark test_add as xfail", False),
        ("Rewrite the tests", True),
        ("Remove add", True),
    ],
)
def test_a_skip_is_asked_for_by_name(task, blocks):
    assert found({PY: ONE}, {PY: "@pytest.mark.skip\n" + ONE}, task) == [("skipped", blocks)]


def test_a_runner_that_the_task_changes():
    change = ({"package.json": package("jest")}, {"package.json": package("vitest run --passWithNoTests")})
    assert found(*change, "Migrate from jest to vitest") == [("command", False)]
    assert found(*change, "Fix the date parser") == [("command", True)]


def test_findings_are_bounded_and_the_gravest_come_first():
    many = "".join(f"def test_{n}():\n    assert f({n}) == {n}\n    assert g({n})\n" for n in range(60))
    few = many.replace("    assert g(59)\n", "").replace("def test_7(", "@pytest.mark.skip\ndef test_7(")
    told = found({PY: many}, {PY: few})
    assert told == [("skipped", True), ("assertions", False)]
    assert len(found({PY: many}, {PY: ONE})) == weakening.MOST
