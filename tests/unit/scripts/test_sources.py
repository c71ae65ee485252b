"""What is read off files: lines of code, the length of functions, tests that look at nothing."""

import pytest

from scripts.quality.sources import code_lines, functions, idle_tests

MODULE = '''"""A module
with a long docstring.
"""

import os  # a comment beside code counts once

# A comment alone does not.


class Thing:
    """A class."""

    def method(self) -> str:
        """A method."""
        return """text
that is code
"""
'''


def test_only_lines_that_hold_code_are_counted() -> None:
    assert code_lines(MODULE) == 6  # import, class, def, and the three of the returned text


@pytest.mark.parametrize("text", ["", "\n\n", "# nothing\n", '"""Only a docstring."""\n'])
def test_a_file_without_code_has_no_lines_of_it(text: str) -> None:
    assert code_lines(text) == 0


def test_functions_have_their_place_and_length() -> None:
    (method,) = functions("thing.py", MODULE)
    assert (method.name, method.line, method.lines) == ("method", 13, 5)


def idle(text: str) -> list[str]:
    return [test.name for test in idle_tests(functions("test_x.py", text))]


@pytest.mark.parametrize(
    "body",
    [
        "assert 1",
        "with pytest.raises(ValueError):\n        f()",
        "for x in range(3):\n        assert x",
        "mock.assert_called_once()",
        "pytest.fail('no')",
        "holds(1)",
        "outer(1)",
        "Schema().validate({})",
    ],
)
def test_a_test_that_looks_at_something_is_no_idle_one(body: str) -> None:
    helpers = "def holds(x):\n    assert x\n\ndef outer(x):\n    holds(x)\n"
    assert idle(f"{helpers}\ndef test_it():\n    {body}\n") == []


@pytest.mark.parametrize("body", ["pass", "f()", "print('assert')", "x = 1", "quiet()"])
def test_a_test_that_looks_at_nothing_is_found(body: str) -> None:
    assert idle(f"def quiet():\n    pass\n\ndef test_it():\n    {body}\n") == ["test_it"]


def test_helpers_that_call_each_other_end() -> None:
    assert idle("def a():\n    b()\n\ndef b():\n    a()\n\ndef test_it():\n    a()\n") == ["test_it"]


def test_methods_of_test_classes_and_async_tests_are_looked_at_too() -> None:
    text = "class TestIt:\n    def test_idle(self):\n        pass\n\nasync def test_late():\n    pass\n"
    assert sorted(idle(text)) == ["test_idle", "test_late"]
