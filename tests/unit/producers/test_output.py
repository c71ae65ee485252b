"""The forms of a command's data."""

import io
import json

import pytest
import yaml

from producers.cli.output import Format, Table, show

ITEMS = [{"id": "a", "note": "[bold]x[/bold]"}, {"id": "b", "note": "y" * 200}]


def shown(form: Format, capsys: pytest.CaptureFixture[str]) -> str:
    rows = [(item["id"], item["note"]) for item in ITEMS]
    show(form, ITEMS, ["a", "b"], lambda: Table(("ID", "NOTE"), rows))
    return capsys.readouterr().out


def test_json_and_yaml_are_the_data_themselves(capsys: pytest.CaptureFixture[str]) -> None:
    assert json.loads(shown(Format.JSON, capsys)) == ITEMS
    assert yaml.safe_load(io.StringIO(shown(Format.YAML, capsys))) == ITEMS


def test_names_are_one_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert shown(Format.NAME, capsys) == "a\nb\n"


def test_a_table_that_no_terminal_reads_is_not_cut_and_keeps_brackets(capsys: pytest.CaptureFixture[str]) -> None:
    header, first, second = shown(Format.TABLE, capsys).splitlines()

    assert header.split() == ["ID", "NOTE"]
    assert first.split() == ["a", "[bold]x[/bold]"]
    assert second.split() == ["b", "y" * 200]


def test_an_empty_table_is_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    show(Format.TABLE, [], [], lambda: Table(("ID",), []))

    assert capsys.readouterr().out == ""
