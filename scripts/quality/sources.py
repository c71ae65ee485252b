"""What can be read off the files themselves: how long they are, and which tests look at nothing.

A line of code is one that holds more than a comment or a docstring.
"""

import ast
import io
import tokenize
from collections.abc import Iterable, Iterator
from typing import Final

from msgspec import Struct

_WITHOUT_CODE: Final = {
    tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENCODING,
    tokenize.ENDMARKER,
}  # fmt: skip
_DEFINITIONS: Final = (ast.FunctionDef, ast.AsyncFunctionDef)
_DOCUMENTED: Final = (ast.Module, ast.ClassDef, *_DEFINITIONS)
#: Calls that fail a test where something is not as it should be; libraries' own, in the field's usual words.
_CHECKS: Final = ("assert", "check", "expect", "fail", "raises", "run_state_machine", "validate", "verify", "warns")


class Function(Struct, frozen=True):
    """A function, its lines without decorators, and what a reader of its name alone can't know."""

    file: str
    name: str
    line: int
    lines: int
    calls: frozenset[str]
    asserts: bool


def code_lines(text: str) -> int:
    """How many lines of a Python file hold code."""
    tokens = tokenize.generate_tokens(io.StringIO(text).readline)
    lines = {
        line for token in tokens if token.type not in _WITHOUT_CODE for line in range(token.start[0], token.end[0] + 1)
    }
    return len(lines - set(_docstring_lines(ast.parse(text))))


def functions(file: str, text: str) -> list[Function]:
    """The functions and methods of a file, each without those inside it."""
    return [_function(file, node) for node in ast.walk(ast.parse(text)) if isinstance(node, _DEFINITIONS)]


def idle_tests(tests: Iterable[Function]) -> list[Function]:
    """The tests that can't fail but by an error: no assert in them, nor in what they call by name in the tests.

    ``tests`` are all functions of the tests' folders, helpers too. A helper is known by its bare name: where two
    share one and either asserts, both count as asserting.
    """
    known = list(tests)
    asserting = {function.name for function in known if function.asserts}
    while more := {
        function.name for function in known if function.name not in asserting and function.calls & asserting
    }:
        asserting |= more
    return [function for function in known if function.name.startswith("test_") and not _looks(function, asserting)]


def _looks(test: Function, asserting: set[str]) -> bool:
    return test.asserts or bool(test.calls & asserting)


def _function(file: str, node: ast.FunctionDef | ast.AsyncFunctionDef) -> Function:
    inside = [part for statement in node.body for part in ast.walk(statement)]
    calls = frozenset(filter(None, (_called(part) for part in inside)))
    asserts = any(isinstance(part, ast.Assert) for part in inside) or any(
        word in call.lower() for call in calls for word in _CHECKS
    )
    return Function(file, node.name, node.lineno, (node.end_lineno or node.lineno) - node.lineno + 1, calls, asserts)


def _called(node: ast.AST) -> str | None:
    """The bare name of what is called, entered or used: a fixture's helper is often handed on, not called."""
    if isinstance(node, ast.Call):
        return node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", None)
    return None


def _docstring_lines(tree: ast.Module) -> Iterator[int]:
    for node in ast.walk(tree):
        if isinstance(node, _DOCUMENTED) and ast.get_docstring(node, clean=False) is not None:
            docstring = node.body[0]
            yield from range(docstring.lineno, (docstring.end_lineno or docstring.lineno) + 1)
