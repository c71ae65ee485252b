"""The example's data: what the files hold, and that they can be made again."""

import datetime
import hashlib
import json
from pathlib import Path

import msgspec
import pytest

from examples.dates.ambiguity import CENTURY_EARLIER, YEARS, collisions, days_of
from examples.dates.build import build
from examples.dates.formats import DateFormat, candidate_formats, regional_formats
from examples.dates.split import SIZES
from schemas.requests import Record

DATES = Path(__file__).parents[3] / "examples/dates"
SPLITS = {name: DATES / f"{name}.jsonl" for name in ("train", "validation", "test")}


class Line(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    prompt: str
    completion: str
    locale: str
    format: str


def lines(split: str) -> list[Line]:
    return [msgspec.json.decode(line, type=Line) for line in SPLITS[split].read_bytes().splitlines()]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("dates")
    build(directory)
    return directory


@pytest.mark.parametrize("name", ["train.jsonl", "validation.jsonl", "test.jsonl", "card.json"])
def test_the_locked_babel_makes_the_same_bytes_again(built: Path, name: str) -> None:
    assert (built / name).read_bytes() == (DATES / name).read_bytes()


def test_no_date_is_in_two_examples_of_any_split() -> None:
    dates = [line.completion for split in SPLITS for line in lines(split)]
    assert len(dates) == len(set(dates)) == sum(SIZES.values())


def test_no_prompt_of_the_test_set_was_trained_on() -> None:
    seen = {line.prompt for split in ("train", "validation") for line in lines(split)}
    assert not seen & {line.prompt for line in lines("test")}


def test_no_prompt_has_two_answers() -> None:
    answers: dict[str, set[str]] = {}
    for split in SPLITS:
        for line in lines(split):
            answers.setdefault(line.prompt, set()).add(line.completion)
    assert {prompt for prompt, dates in answers.items() if len(dates) > 1} == set()


def test_every_split_has_each_format_of_ten_languages() -> None:
    kept = {tuple(name.split(":")) for name in json.loads((DATES / "card.json").read_bytes())["formats"]}
    assert len({locale for locale, _ in kept}) == 10
    for split in SPLITS:
        assert {(line.locale, line.format) for line in lines(split)} == kept


def test_languages_have_equal_parts_of_the_test_set() -> None:
    locales = [line.locale for line in lines("test")]
    assert {locales.count(locale) for locale in set(locales)} == {60}


def test_each_line_is_a_record_that_a_fine_tune_accepts() -> None:
    for split, path in SPLITS.items():
        records = [msgspec.json.decode(line, type=Record) for line in path.read_bytes().splitlines()]
        assert len(records) == SIZES[split]


def test_each_answer_is_a_date_of_the_calendar() -> None:
    for line in lines("test"):
        assert datetime.date.fromisoformat(line.completion).isoformat() == line.completion


def test_the_card_has_the_digest_of_every_file() -> None:
    files = json.loads((DATES / "card.json").read_bytes())["files"]
    assert {name: entry["sha256"] for name, entry in files.items()} == {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in SPLITS.values()
    }


def formats(*names: str) -> list[DateFormat]:
    return [candidate for candidate in candidate_formats() if f"{candidate.locale}:{candidate.name}" in names]


def test_day_and_month_in_either_order_make_both_formats_ambiguous() -> None:
    pair = formats("en:yMd", "pt:short")
    assert set(collisions(pair, list(days_of(range(2024, 2025))))) == set(pair)


def test_every_writer_of_a_text_with_two_readings_is_ambiguous() -> None:
    trio = formats("fr:short", "pt:short", "en:yMd")
    assert set(collisions(trio, list(days_of(range(2024, 2025))))) == set(trio)


def test_a_year_of_two_digits_is_ambiguous() -> None:
    short = formats("de:short")
    assert set(collisions(short, [*days_of(CENTURY_EARLIER), *days_of(range(2024, 2025))])) == set(short)


def test_a_weekday_in_the_language_tells_the_order_of_day_and_month() -> None:
    pair = formats("pt:yMEd", "es:yMEd")
    assert collisions(pair, list(days_of(YEARS))) == {}


def test_a_reader_of_another_region_makes_a_format_ambiguous() -> None:
    american = formats("en:yMEd")
    british = [each for each in regional_formats() if each.locale.startswith("en_") and each.pattern == "E, d/M/y"]
    year = list(days_of(range(2024, 2025)))
    assert collisions(american, year) == {}
    assert set(collisions(american, year, british)) == set(american)
