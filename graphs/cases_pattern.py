"""The tests of a file in another language than Python, found by patterns.

Comments and the inside of strings are blanked first (`blank`), in place: a test that was commented out is
gone, and a brace in a string does not count. Then each language has a pattern for where a test begins, words
for a skip and for a focus; what a test holds goes to the bracket that closes it, or, where blocks end with a
word (Ruby, Elixir), to where the next test begins.
"""

from __future__ import annotations

import posixpath
import re
from collections import Counter
from dataclasses import dataclass

from graphs.cases import Case, Suite

_ASSERTION = re.compile(
    r"\b(?:assert\w*!?|expect\w*|verify\w*|require\.\w+|check\w*|XCTAssert\w*|XCTFail|refute\w*|ASSERT_\w+|"
    r"EXPECT_\w+|REQUIRE\w*|CHECK\w*|is_deeply|cmp_ok|unlike|like|isnt|Assert\.\w+|Should\w*|BOOST_\w+|panic!|"
    r"fail|flunk|ok|is|[tb]\.(?:Error|Fatal|Fail|is|not|deepEqual|equal|same|true|false|throws|truthy|falsy|"
    r"snapshot|ok)\w*|assert\.\w+(?:\.\w+)*)\s*[({]|\.should(?:_not)?\b|\.(?:must|wont)_\w+|"
    r"\b(?:assert|refute)(?:_\w+)?[ \t]+[^=\s]"
)


@dataclass(frozen=True)
class Language:
    """`start` matches where a test begins: group `name` or `text` is its name, `mark` what stands before."""

    start: re.Pattern[str]
    skip: re.Pattern[str]
    focus: re.Pattern[str] | None = None
    group: re.Pattern[str] | None = None  # a container of tests; its mark counts for all inside
    comments: str = "c"  # c: // and /* */; rust: the same, ' is no string; hash: #
    braces: bool = True
    assertion: re.Pattern[str] = _ASSERTION


def _of(pattern: str) -> re.Pattern[str]:
    return re.compile(pattern, re.MULTILINE)


_TEXT = r"\(\s*(?P<quote>['\"`])"
_JS = Language(
    _of(
        r"(?<![\w.$])(?P<mark>(?:[xf]?(?:it|test|specify)|ava|Deno\.test|bench)(?:\.\w+)*)(?:\([^()]*\)|`[^`]*`)?"
        + _TEXT
    ),
    _of(
        r"(?<![\w.$])(?:xit|xtest|xspecify|xdescribe|xcontext)\b|\.(?:skip|todo|fixme|skipIf|runIf|failing)\b|"
        r"\b(?:skip|todo|ignore)\s*:(?!\s*(?:false|undefined|null))|\bthis\.skip\(|\bt\.(?:skip|todo)\(|\bpending\("
    ),
    _of(r"(?<![\w.$])(?:fit|ftest|fdescribe|fcontext)\b|\.only\b|\bonly\s*:\s*true"),
    _of(r"(?<![\w.$])(?P<mark>[xf]?(?:describe|context|suite)(?:\.\w+)*)(?:\([^()]*\)|`[^`]*`)?" + _TEXT),
)
_GO = Language(
    _of(r"^func\s+(?P<name>(?:Test|Fuzz|Example)\w*)\s*\("),
    _of(r"\b\w+\.(?:Skip|Skipf|SkipNow)\("),
)
_RUST = Language(
    _of(
        r"(?P<mark>(?:#\[[^\]]*\]\s*)*#\[(?:\w+::)*(?:test|rstest|test_case|quickcheck|wasm_bindgen_test)\b[^\]]*\]\s*"
        r"(?:#\[[^\]]*\]\s*)*)(?:pub\s+)?(?:async\s+)?fn\s+(?P<name>\w+)"
    ),
    _of(r"#\[(?:ignore\b|cfg\(any\(\)\)|cfg\(FALSE\)|cfg_attr\([^)]*ignore)"),
    comments="rust",
)
_JVM = Language(
    _of(
        r"(?P<mark>(?:@\w[\w.]*(?:\([^)]*\))?\s*)*@(?:\w+\.)*(?:Test|ParameterizedTest|RepeatedTest|TestFactory|"
        r"Property)\b(?:\([^)]*\))?\s*(?:@\w[\w.]*(?:\([^)]*\))?\s*)*)"
        r"(?:[\w<>\[\],?.]+\s+)*(?P<name>\w+|`[^`]*`)\s*\("
    ),
    _of(
        r"@(?:Disabled|Ignore|Ignored|EnabledIf\w*|DisabledIf\w*|DisabledOn\w*|EnabledOn\w*)\b|enabled\s*=\s*false|"
        r"\bassume(?:True|False|That|Not\w*)?\(|\bAssumptions?\.\w+\(|\bthrow\s+new\s+\w*Skip\w*|\bTestAbortedException"
    ),
    group=_of(
        r"(?P<mark>(?:@\w[\w.]*(?:\([^)]*\))?\s*)+)(?:public\s+|final\s+|abstract\s+|internal\s+|open\s+)*"
        r"class\s+(?P<name>\w+)"
    ),
)
_NET = Language(
    _of(
        r"(?P<mark>(?:\[[^\]]*\]\s*)*\[(?:Fact|Theory|Test|TestCase|TestMethod|DataTestMethod|SkippableFact)\b[^\]]*\]\s*"
        r"(?:\[[^\]]*\]\s*)*)(?:public|internal|private|protected)?\s*(?:static\s+|async\s+|virtual\s+)*"
        r"[\w<>\[\],.?]+\s+(?P<name>\w+)\s*\("
    ),
    _of(r"\bSkip\s*=|\[(?:Ignore|Explicit)\b|\bAssert\.(?:Ignore|Inconclusive|Skip\w*)\(|\bSkip\.If"),
    group=_of(
        r"(?P<mark>(?:\[[^\]]*\]\s*)+)(?:public\s+|sealed\s+|static\s+|partial\s+|internal\s+)*class\s+(?P<name>\w+)"
    ),
)
_RUBY = Language(
    _of(
        r"^[ \t]*(?:(?P<mark>[xf]?(?:it|specify|test|example|scenario|should))\s*\(?\s*(?P<quote>['\"])|"
        r"def\s+(?P<name>test_\w+[?!]?))"
    ),
    _of(
        r"^[ \t]*x(?:it|specify|describe|context|example|scenario)\b|^[ \t]*(?:skip|pending|omit)\b|"
        r"[:,]\s*:?(?:skip|pending)\b"
    ),
    _of(r"^[ \t]*f(?:it|specify|describe|context|example)\b|\bfocus:\s*true|,\s*:focus\b"),
    _of(r"^[ \t]*(?P<mark>[xf]?(?:describe|context)|RSpec\.(?:x|f)?describe)\b[^\n]*?(?P<quote>['\"])"),
    comments="hash",
    braces=False,
)
_PHP = Language(
    _of(
        r"(?:(?P<mark>#\[Test\]\s*(?:#\[[^\]]*\]\s*)*)?(?:public\s+)?function\s+(?P<name>test\w+)\s*\()|"
        r"(?<![\w.$>])(?:it|test)" + _TEXT
    ),
    _of(r"\bmarkTest(?:Skipped|Incomplete)\b|->(?:skip\w*|todo|markTestSkipped)\("),
    _of(r"->only\("),
    comments="c",
)
_ELIXIR = Language(
    _of(r"(?P<mark>(?:^[ \t]*@tag[^\n]*\n)*)^[ \t]*test\s+(?P<quote>['\"])"),
    _of(r"@(?:module|describe)?tag\s*\(?\s*(?::skip\b|skip:|:pending|:exclude)"),
    comments="hash",
    braces=False,
)
_SWIFT = Language(
    _of(r"(?P<mark>(?:@Test\b(?:\([^)]*\))?\s*)?)func\s+(?P<name>test\w*|(?<=\s)\w+)\s*\("),
    _of(r"\bXCTSkip\w*|\.disabled\(|\bwithKnownIssue\b"),
)
_BATS = Language(
    _of(r"^@test\s+(?P<quote>['\"])"),
    _of(r"^\s*skip\b"),
    comments="hash",
    braces=False,
    assertion=re.compile(r"^\s+(?!(?:true|:|skip)\b)[\w\[$\"]"),  # every command of a test may fail
)
_PERL = Language(
    _of(r"\bsubtest\s+(?P<quote>['\"])|^\s*(?P<mark>)(?:ok|is|isnt|like|unlike|is_deeply|cmp_ok)\s*\("),
    _of(r"\bskip_all\b|\bskip\s*\(?\s*['\"]|\bSKIP:|\btodo_skip\b|\$TODO\b"),
    comments="hash",
    braces=False,
)
_CPP = Language(
    _of(
        r"^\s*(?:TEST|TEST_F|TEST_P|TYPED_TEST|TEST_CASE|SCENARIO|BOOST_AUTO_TEST_CASE|BOOST_FIXTURE_TEST_CASE)\s*"
        r"\(\s*(?:(?P<quote>\")|(?P<name>\w+(?:\s*,\s*\w+)?))"
    ),
    _of(r"\bDISABLED_|\bGTEST_SKIP\b|\[!?(?:hide|shouldfail|mayfail)\]|\[\.\w*\]|\bSKIP\(|\bdisabled\(\)"),
)
_DART = Language(
    _of(r"(?<![\w.$])(?P<mark>test|testWidgets)" + _TEXT),
    _of(r"\bskip\s*:\s*(?!false)|@Skip\b|\bmarkTestSkipped\("),
    _of(r"\bsolo\s*:\s*true|\bsolo_test\b"),
    _of(r"(?<![\w.$])(?P<mark>group)" + _TEXT),
)
_PYTHON = Language(  # for what our own Python cannot parse: another version's syntax
    _of(r"(?P<mark>(?:^[ \t]*@[^\n]*\n)*)^[ \t]*(?:async\s+)?def\s+(?P<name>test\w*)\s*\("),
    _of(
        r"@(?:\w+\.)*(?:skip\w*|xfail|expectedFailure)\b|\bpytest\.(?:skip|xfail)\(|\.skipTest\(|\bSkipTest\b"
    ),
    comments="hash",
    braces=False,
)
_BY_END = {
    **dict.fromkeys(["js", "jsx", "ts", "tsx", "mjs", "cjs", "mts", "cts", "vue", "svelte"], _JS),
    **dict.fromkeys(["java", "kt", "kts", "groovy", "scala"], _JVM),
    **dict.fromkeys(["cs", "fs", "vb"], _NET),
    **dict.fromkeys(["cc", "cpp", "cxx", "c", "hpp", "h"], _CPP),
    "go": _GO, "rs": _RUST, "rb": _RUBY, "php": _PHP, "ex": _ELIXIR, "exs": _ELIXIR, "swift": _SWIFT,
    "bats": _BATS, "t": _PERL, "dart": _DART, "py": _PYTHON,
}  # fmt: skip
_LITERAL = r"true|false|null|nil|None|undefined|\d+|'[^'\n]*'|\"[^\"\n]*\"|`[^`\n]*`"
_TRIVIAL = re.compile(
    rf"expect\(\s*(?P<a>{_LITERAL})\s*\)\s*(?:\.\w+)*[.\s](?:toBe|toEqual|toStrictEqual|equal|eql|eq|to)\b[\s(]*"
    rf"(?:(?:eq|be)[\s(]+)?(?P=a)|expect\(\s*true\s*\)\s*\.(?:toBeTruthy|toBeDefined|to\.be)|"
    r"(?:assert|assert\.ok|ok|t\.true|t\.truthy|t\.ok|assertTrue|Assert\.(?:True|IsTrue|That)|XCTAssert|XCTAssertTrue|"
    r"(?:ASSERT|EXPECT)_TRUE|REQUIRE|CHECK|assert!|(?:require|assert)\.True)\(\s*(?:t\s*,\s*)?(?:true|1)\s*[,)]|"
    r"\bassert(?:_equal)?\s+true\b|(?:assert|assert_\w+)\s+(?P<c>\d+)\s*(?:,|==)\s*(?P=c)\b|"
    rf"(?:assert\w*!?|Assert\.\w+|(?:assert|t)\.\w+)\(\s*(?:t\s*,\s*)?(?P<b>{_LITERAL})\s*,\s*(?P=b)\s*[,)]"
)
_EXIT = _of(
    r"\bprocess\.exit\(\s*0?\s*\)|\bos\.Exit\(\s*0\s*\)|\bSystem\.exit\(\s*0\s*\)|\bexit!?\s*\(?\s*0\b"
)
_RETURNS = re.compile(r"(?:,[^{]*\{)?\s*return\s*(?:;|\n)")  # as its first statement
_FRAME = re.compile(r"\b(?:async|function|t|done|do|end|fn|it|of|testing|T|throws|void|Exception)\b|->|=>")
_WORD = re.compile(r"[A-Za-z_$][\w$]*|\d+(?:\.\d+)?|(['\"`])(?:\\.|(?!\1).)*\1", re.DOTALL)


def read(path: str, text: str) -> Suite:
    """The tests in a file; none where its language is not known."""
    end = posixpath.splitext(path)[1].lstrip(".").lower()
    language = _BY_END.get(end)
    if language is None:
        return Suite()
    bare = blank(text, language.comments)
    coded = blank(text, language.comments, strings=False)
    groups = (
        [(match, _end(bare, match, language)) for match in language.group.finditer(bare)]
        if language.group
        else []
    )
    starts = list(language.start.finditer(bare))
    cases: dict[str, Case] = {}
    for number, match in enumerate(starts):
        stop = _end(bare, match, language)
        if not language.braces:
            stop = starts[number + 1].start() if number + 1 < len(starts) else len(bare)
        outer = [found for found, end_of in groups if found.start() < match.start() < end_of]
        case = _case(language, coded, bare, match, stop, outer)
        while case.name in cases:
            case = Case(f"{case.name}'", case.assertions, case.words, case.skipped, focused=case.focused)
        cases[case.name] = case
    switches: tuple[tuple[str, str], ...] = tuple(
        (hit.group(0), "ends the run") for hit in _EXIT.finditer(bare)
    )
    if language is _GO:
        tags = re.findall(r"^//go:build\s+(?!go1\.).*$", text, re.MULTILINE)
        switches += tuple((tag, "keeps the file from being built everywhere") for tag in tags)
    return Suite(cases, switches)


def _case(
    language: Language, coded: str, bare: str, match: re.Match[str], stop: int, outer: list[re.Match[str]]
) -> Case:
    name, prefix = _named(coded, match), " › ".join(_named(coded, group) for group in outer)
    around = " ".join(group.group(0) for group in outer)
    code, begin = bare[match.start() : stop], _begin(bare, match, stop, language)
    body = coded[begin:stop]
    skip = language.skip.search(code) or language.skip.search(around)
    focus = language.focus and (language.focus.search(code) or language.focus.search(around))
    assertions: Counter[str] = Counter()
    for statement in re.split(r"[;\n]", body):
        found = language.assertion.search(statement)
        if found and not _TRIVIAL.search(statement):
            assertions[" ".join(statement[found.start() :].rstrip("}) ").split())[:300]] += 1
    return Case(
        f"{prefix} › {name}" if prefix else name,
        assertions,
        frozenset(word.group(0)[:200] for word in _WORD.finditer(body)),
        " ".join(skip.group(0).split()) if skip else "return" if _RETURNS.match(body) else None,
        focused=bool(focus),
        empty=not re.search(r"\w", _FRAME.sub("", bare[begin:stop])),
    )


def _begin(bare: str, match: re.Match[str], stop: int, language: Language) -> int:
    """Where the body begins: behind the quoted name, or behind the first brace."""
    if quote := match.groupdict().get("quote"):
        at = bare.find(quote, match.end(), stop)
        return at + 1 if at >= 0 else match.end()
    at = bare.find("{", match.end(), stop) if language.braces else -1
    return at + 1 if at >= 0 else match.end()


def _named(coded: str, match: re.Match[str]) -> str:
    groups = match.groupdict()
    if groups.get("name"):
        return " ".join(groups["name"].replace("DISABLED_", "").split())
    if groups.get("quote"):
        quote, at = groups["quote"], match.end()
        found = re.compile(rf"(?:\\.|[^\\{quote}])*", re.DOTALL).match(coded, at)
        return found.group(0)[:200] if found else ""
    return f"line {coded.count(chr(10), 0, match.start()) + 1}"


def _end(bare: str, match: re.Match[str], language: Language) -> int:
    """Where the bracket closes that the test opened: its call's, or its body's."""
    if not language.braces:
        found = re.compile(rf"^[ \t]{{0,{_indent(bare, match.start())}}}\S", re.MULTILINE).search(
            bare, match.end()
        )
        return found.end() if found else len(bare)
    call = bare.rfind("(", match.start(), match.end()) if match.groupdict().get("quote") else -1
    at = call if call >= 0 else bare.find("{", match.end())
    if at < 0:
        return len(bare)
    return _closing(bare, at)


def _indent(bare: str, at: int) -> int:
    line = bare[bare.rfind("\n", 0, at) + 1 :]
    return len(line) - len(line.lstrip(" \t"))


def _closing(bare: str, at: int) -> int:
    pairs, depth = {"(": ")", "{": "}", "[": "]"}, 0
    opened, closed = bare[at], pairs[bare[at]]
    for index in range(at, len(bare)):
        depth += (bare[index] == opened) - (bare[index] == closed)
        if depth == 0:
            return index + 1
    return len(bare)


_LINE = r"(?P<quoted>(?P<q>[\"'])(?:\\.|(?!(?P=q))[^\\\n])*(?P=q))"
_LONG = r"(?P<long>`(?:\\.|[^`\\])*`)"
_TOKEN = {
    "c": re.compile(rf"//[^\n]*|/\*.*?(?:\*/|\Z)|{_LINE}|{_LONG}", re.DOTALL),
    "rust": re.compile(
        r"//[^\n]*|/\*.*?(?:\*/|\Z)|(?P<long>r(?P<n>#*)\".*?\"(?P=n)|'(?:\\[^\n]|[^'\\\n])')|"
        r"(?P<quoted>\"(?:\\.|[^\\\"])*\")",
        re.DOTALL,
    ),
    "hash": re.compile(
        r"(?<![\w$&{\\])#[^\n]*|(?P<quoted>(?P<q>[\"'])(?:\\.|(?!(?P=q))[^\\])*(?P=q))", re.DOTALL
    ),
}


def blank(text: str, comments: str, *, strings: bool = True) -> str:
    """The text with comments, and the inside of strings if wanted, as blanks; line breaks stay."""

    def clear(match: re.Match[str]) -> str:
        found = match.group(0)
        groups = match.groupdict()
        if groups.get("quoted") or groups.get("long"):
            return f"{found[0]}{_blanks(found[1:-1])}{found[-1]}" if strings else found
        return found if found.startswith("//go:") else _blanks(found)

    return _TOKEN[comments].sub(clear, text)


def _blanks(text: str) -> str:
    return re.sub(r"[^\n]", " ", text)
