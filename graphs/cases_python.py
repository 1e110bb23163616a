"""The tests of a Python file, from its syntax tree: pytest's functions and classes, unittest's methods.

A skip counts where it stands: on the test, on its class, for the module, as its first statement. A condition
(`skipif`, `skipUnless`) is told apart from a plain skip, unless it is a constant. Assertions that hold
whatever the code does (`assert True`, `assertEqual(1, 1)`, a tuple, `x or True`, inside `if False:` or behind
a `return`) are not counted; nor is one whose failure is swallowed by `except: pass`.
"""

from __future__ import annotations

import ast
import re
from collections import Counter
from collections.abc import Iterable, Sequence

from graphs.cases import Case, Suite

_SKIPS = {"skip", "SkipTest", "skipTest", "xfail", "importorskip", "expectedFailure"}
_CONDITIONAL = {"skipif", "skipIf", "skipUnless"}
_HOOKS = {
    "pytest_collection_modifyitems", "pytest_ignore_collect", "pytest_runtest_makereport",
    "pytest_runtest_protocol", "pytest_runtest_call", "pytest_pyfunc_call", "pytest_runtest_setup",
    "pytest_sessionfinish", "pytest_collect_file", "pytest_pycollect_makeitem", "pytest_itemcollected",
    "pytest_deselected", "load_tests",
}  # fmt: skip
_LIKE_A_SKIP = re.compile(r"skip|xfail|disable|quarantine", re.IGNORECASE)
_SETUPS = {
    "setUp", "setUpClass", "asyncSetUp", "setUpModule", "setup_method", "setup_class", "setup_module",
    "setup_function",
}  # fmt: skip
_EXITS = {"os._exit", "sys.exit", "_exit", "exit", "quit"}
_LISTS = {"collect_ignore", "collect_ignore_glob", "__test__"}
_Function = ast.FunctionDef | ast.AsyncFunctionDef


def read(text: str) -> Suite | None:
    """The file's tests; None when it is no Python that this Python can parse."""
    try:
        tree = ast.parse(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None
    cases: dict[str, Case] = {}
    switches: list[tuple[str, str]] = []
    module = _marks(_module_marks(tree))
    _collect(tree.body, "", module, cases, switches)
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and _name(node.func) in _EXITS and not _guarded(tree, node):
            switches.append((_text(node), "ends the run"))
    return Suite(cases, tuple(switches))


def _collect(
    body: Sequence[ast.stmt],
    prefix: str,
    outer: tuple[str | None, bool],
    cases: dict[str, Case],
    switches: list[tuple[str, str]],
) -> None:
    for node in body:
        if isinstance(node, _Function) and node.name in _SETUPS and not (outer[0] and not outer[1]):
            first = _skips_itself(node)
            outer = (first, False) if first and first != "return" else outer
    for node in body:
        if isinstance(node, _Function):
            if node.name in _HOOKS:
                switches.append((f"def {node.name}", "a hook that decides what tests report"))
            if node.name.startswith("test"):
                cases[prefix + node.name] = _case(prefix + node.name, node, outer)
        elif isinstance(node, ast.ClassDef):
            inner = _marks([*node.decorator_list, *_module_marks(node)])
            inner = inner if inner[0] else outer
            if any(_is_false(item, "__test__") for item in node.body):
                continue
            _collect(node.body, f"{prefix}{node.name}.", inner, cases, switches)
        elif isinstance(node, ast.If | ast.Try | ast.With):
            here = outer
            if isinstance(node, ast.If) and _constant(node.test) is None and outer[0] is None:
                here = (f"only if {_text(node.test)}", True)
            if not (isinstance(node, ast.If) and _constant(node.test) is False):
                _collect(node.body, prefix, here, cases, switches)
            _collect(getattr(node, "orelse", []), prefix, here, cases, switches)
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            names = [_name(target) for target in getattr(node, "targets", [getattr(node, "target", None)])]
            for name in names:
                if name in _LISTS:
                    switches.append((_text(node), "keeps tests from being collected"))
                gone = [known for known in cases if known == name or known.startswith(f"{name}.")]
                for known in gone:  # `TestThing = None`
                    del cases[known]
        elif isinstance(node, ast.Delete):
            for target in node.targets:
                name = _name(target)
                for known in [known for known in cases if known == name or known.startswith(f"{name}.")]:
                    del cases[known]


def _is_false(node: ast.stmt, name: str) -> bool:
    return (
        isinstance(node, ast.Assign)
        and any(_name(target) == name for target in node.targets)
        and _constant(node.value) is False
    )


def _module_marks(node: ast.Module | ast.ClassDef) -> list[ast.expr]:
    """What skips a module or class as a whole: `pytestmark`, `skip(…)` or `raise SkipTest` at its top."""
    out: list[ast.expr] = []
    for item in node.body:
        if isinstance(item, ast.Assign) and any(_name(target) == "pytestmark" for target in item.targets):
            out.extend(item.value.elts if isinstance(item.value, ast.List | ast.Tuple) else [item.value])
        elif isinstance(item, ast.Expr) and isinstance(item.value, ast.Call):
            if _name(item.value.func) in ("pytest.skip", "pytest.importorskip", "skip", "importorskip"):
                out.append(item.value)
        elif isinstance(item, ast.Raise) and item.exc is not None:
            out.append(item.exc)
    return out


def _marks(decorators: Iterable[ast.expr]) -> tuple[str | None, bool]:
    """(words of the skip, whether it depends on a condition) of decorators and the like."""
    found: tuple[str | None, bool] = (None, False)
    for decorator in decorators:
        call = decorator if isinstance(decorator, ast.Call) else None
        leaf = _name(call.func if call else decorator).rsplit(".", 1)[-1]
        if leaf == "param":
            continue
        if leaf not in _SKIPS | _CONDITIONAL:
            if _LIKE_A_SKIP.search(leaf):  # a decorator of the project's own: the run tells what it does
                found = found if found[0] else (_text(decorator), True)
            continue
        conditions = [*call.args, *(k.value for k in call.keywords if k.arg == "condition")] if call else []
        if leaf in _CONDITIONAL or (leaf == "xfail" and conditions):
            value = _constant(conditions[0]) if conditions else None
            never = value is not None and bool(value) == (leaf == "skipUnless")
            if never:
                continue
            if value is None:
                found = found if found[0] else (_text(decorator), True)
                continue
        if leaf == "importorskip":
            found = found if found[0] else (_text(decorator), True)
            continue
        return _text(decorator), False
    return found


def _case(name: str, node: _Function, outer: tuple[str | None, bool]) -> Case:
    skipped, conditional = _marks(node.decorator_list)
    if skipped is None or conditional:
        first = _skips_itself(node)
        if first is not None:
            skipped, conditional = first, False
    if skipped is None or (conditional and outer[0] and not outer[1]):
        skipped, conditional = outer
    assertions: Counter[str] = Counter()
    _assertions(node.body, assertions)
    effective = [item for item in node.body if not _does_nothing(item)]
    return Case(
        name,
        assertions,
        frozenset(_words([*node.body, *node.decorator_list])),
        skipped,
        conditional,
        empty=not effective,
        rows=_rows(node),
    )


def _rows(node: _Function) -> int | None:
    """How many rows `parametrize` gives this test; None without one, or where they are not written there."""
    rows: int | None = None
    for decorator in node.decorator_list:
        if isinstance(decorator, ast.Call) and _name(decorator.func).endswith("parametrize"):
            values = decorator.args[1] if len(decorator.args) > 1 else None
            if isinstance(values, ast.List | ast.Tuple | ast.Set):
                live = [item for item in values.elts if not _skipped_row(item)]
                rows = (1 if rows is None else rows) * len(live)
            else:
                return None
    return rows


def _skipped_row(item: ast.expr) -> bool:
    if not (isinstance(item, ast.Call) and _name(item.func).endswith("param")):
        return False
    for keyword in item.keywords:
        if keyword.arg == "marks":
            marks = keyword.value.elts if isinstance(keyword.value, ast.List | ast.Tuple) else [keyword.value]
            return _marks(marks)[0] is not None
    return False


def _skips_itself(node: _Function) -> str | None:
    """A skip among the statements at the top of the test, before anything that could be tested."""
    for item in node.body:
        if _does_nothing(item):
            continue
        call = item.value if isinstance(item, ast.Expr) else item.exc if isinstance(item, ast.Raise) else None
        if _name(call).rsplit(".", 1)[-1] in ("skip", "SkipTest", "skipTest", "xfail"):
            return _text(item)
        if isinstance(item, ast.Return) and (item.value is None or isinstance(item.value, ast.Constant)):
            return "return"
        if isinstance(item, ast.If) and _constant(item.test) not in (None, False) and not item.orelse:
            inner = ast.FunctionDef("test", node.args, item.body, [])
            return _skips_itself(inner)
        if isinstance(item, ast.Assert | ast.For | ast.While | ast.With | ast.AsyncWith | ast.If | ast.Try):
            return None
    return None


def _assertions(body: Sequence[ast.stmt], out: Counter[str]) -> None:
    """Count what can fail in statements that are reached."""
    for item in body:
        if isinstance(item, ast.Assert):
            if not _always(item.test):
                out[_text(item.test)] += 1
        elif isinstance(item, ast.Raise):
            out[_text(item)] += 1
        elif isinstance(item, ast.With | ast.AsyncWith):
            if any(_swallows(context.context_expr) for context in item.items):
                continue
            for context in item.items:
                _called(context.context_expr, out)
            _assertions(item.body, out)
        elif isinstance(item, ast.If):
            if _constant(item.test) is not False:
                _assertions(item.body, out)
            if _constant(item.test) is not True:
                _assertions(item.orelse, out)
        elif isinstance(item, ast.Try):
            lost = any(_catches_failures(one) and _all_nothing(one.body) for one in item.handlers)
            if not lost and not any(isinstance(one, ast.Return) for one in item.finalbody):
                _assertions(item.body, out)
            for handler in item.handlers:
                _assertions(handler.body, out)
            _assertions([*item.orelse, *item.finalbody], out)
        elif isinstance(item, ast.For | ast.AsyncFor | ast.While):
            empty = isinstance(item, ast.For | ast.AsyncFor) and (
                isinstance(item.iter, ast.List | ast.Tuple) and not item.iter.elts
            )
            if not empty:
                _assertions([*item.body, *item.orelse], out)
        elif isinstance(item, _Function | ast.ClassDef):
            _assertions(item.body, out)
        elif isinstance(item, ast.Return):
            if item.value is not None:
                _called(item.value, out)
            return
        else:
            for child in ast.iter_child_nodes(item):
                if isinstance(child, ast.expr):
                    _called(child, out)


def _called(expression: ast.expr, out: Counter[str]) -> None:
    """Calls that assert by their name: `self.assertEqual`, `mock.assert_called_once`, `pytest.raises`, …"""
    for node in ast.walk(expression):
        if not isinstance(node, ast.Call):
            continue
        leaf = _name(node.func).rsplit(".", 1)[-1].lower().lstrip("_")
        told = leaf.startswith(("assert", "expect", "verify", "check", "fail", "raises", "warns", "should"))
        if told and not _always_call(leaf, node):
            out[_text(node)] += 1


def _always_call(leaf: str, node: ast.Call) -> bool:
    values = [_constant(argument) for argument in node.args]
    if leaf in ("asserttrue", "assert_true", "assert_", "assertisnotnone") and values:
        return _always(node.args[0])
    if leaf == "assertfalse" and node.args:
        return isinstance(node.args[0], ast.Constant) and not node.args[0].value
    if leaf == "assertisnone" and node.args:
        return isinstance(node.args[0], ast.Constant) and node.args[0].value is None
    if leaf in ("assertequal", "assertequals", "assertis", "assertin") and len(node.args) >= 2:
        return _text(node.args[0]) == _text(node.args[1])
    return False


def _always(test: ast.expr) -> bool:
    """Whether the expression is true whatever the code under test does."""
    if isinstance(test, ast.Constant):
        return bool(test.value)
    if not any(isinstance(node, ast.Name | ast.Attribute | ast.Call | ast.Await) for node in ast.walk(test)):
        return True  # constants alone: whatever they give, they give it always
    if isinstance(test, ast.IfExp):
        chosen = _constant(test.test)
        branches = (
            [test.body] if chosen is True else [test.orelse] if chosen is False else [test.body, test.orelse]
        )
        return all(_always(branch) for branch in branches)
    if isinstance(test, ast.Tuple | ast.List | ast.Dict):
        return bool(getattr(test, "elts", None) or getattr(test, "keys", None))
    if isinstance(test, ast.BoolOp):
        each = [_always(value) for value in test.values]
        return any(each) if isinstance(test.op, ast.Or) else all(each)
    if isinstance(test, ast.UnaryOp) and isinstance(test.op, ast.Not):
        return isinstance(test.operand, ast.Constant) and not test.operand.value
    if isinstance(test, ast.Compare) and len(test.ops) == 1:
        equal = isinstance(test.ops[0], ast.Eq | ast.Is | ast.LtE | ast.GtE)
        return equal and _text(test.left) == _text(test.comparators[0])
    return False


def _swallows(context: ast.expr) -> bool:
    """`suppress(…)` or `raises(…)` around assertions, with an error that a failed assertion is."""
    if not isinstance(context, ast.Call):
        return False
    leaf = _name(context.func).rsplit(".", 1)[-1]
    kinds = {_name(argument).rsplit(".", 1)[-1] for argument in context.args}
    if leaf == "suppress":
        return bool(kinds & {"AssertionError", "Exception", "BaseException"})
    return leaf in ("raises", "assertRaises") and bool(kinds & {"AssertionError", "BaseException"})


def _catches_failures(handler: ast.ExceptHandler) -> bool:
    names = handler.type.elts if isinstance(handler.type, ast.Tuple) else [handler.type]
    return any(
        name is None or _name(name).rsplit(".", 1)[-1] in ("AssertionError", "Exception", "BaseException")
        for name in names
    )


def _all_nothing(body: Sequence[ast.stmt]) -> bool:
    quiet = ("print", "log", "debug", "info", "warning", "warn", "error", "exception")
    return all(
        _does_nothing(item)
        or isinstance(item, ast.Return | ast.Continue | ast.Break)
        or (
            isinstance(item, ast.Expr)
            and isinstance(item.value, ast.Call)
            and _name(item.value.func).rsplit(".", 1)[-1] in quiet
        )
        for item in body
    )


def _does_nothing(item: ast.stmt) -> bool:
    return isinstance(item, ast.Pass) or (isinstance(item, ast.Expr) and isinstance(item.value, ast.Constant))


def _guarded(tree: ast.Module, call: ast.Call) -> bool:
    """Whether the call stands under `if __name__ == "__main__":` or in a function that is no test."""
    runs = ("test", "pytest_", "setup", "setUp")
    for node in ast.walk(tree):
        inside = (
            (isinstance(node, ast.If) and "__name__" in _text(node.test))
            or (isinstance(node, _Function) and not node.name.startswith(runs))
            or (
                isinstance(node, ast.With)
                and any("raises" in _text(i.context_expr).lower() for i in node.items)
            )
        )
        if inside and any(child is call for child in ast.walk(node)):
            return True
    return False


def _constant(node: ast.expr) -> object:
    """The truth of a constant expression as a bool, None when it is no constant."""
    if isinstance(node, ast.Constant) and not isinstance(node.value, str):
        return bool(node.value)
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
        inner = _constant(node.operand)
        return None if inner is None else not inner
    return None


def _name(node: ast.AST | None) -> str:
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        return f"{_name(node.value)}.{node.attr}"
    if isinstance(node, ast.Call):
        return _name(node.func)
    return ""


def _words(body: Iterable[ast.AST]) -> Iterable[str]:
    for item in body:
        for node in ast.walk(item):
            if isinstance(node, ast.Name):
                yield node.id
            elif isinstance(node, ast.Attribute):
                yield f".{node.attr}"
            elif isinstance(node, ast.Constant) and not _docstring(node):
                yield repr(node.value)[:200]


def _docstring(node: ast.Constant) -> bool:
    return isinstance(node.value, str) and "\n" in node.value and len(node.value) > 200


def _text(node: ast.AST) -> str:
    return ast.unparse(node)[:300]
