"""The exercises of the base model: right, reproducible, and without dates."""

import random

import pytest
import torch
from babel import Locale

from examples.dates.formats import LOCALES
from examples.models.batches import IGNORED, grouped_batches, tensors
from examples.models.lexicon import Lexicon, load_lexicon
from examples.models.pretrain import SEED
from examples.models.tasks import WEIGHTS, draw, record
from examples.models.tokenizer import BOS_ID, EOS_ID, PAD_ID


@pytest.fixture(scope="module")
def lexicon() -> Lexicon:
    return load_lexicon(SEED)


def calendar_words() -> set[str]:
    """Names of months and days, long and short, in every language; those of one letter or digit are no words."""
    words = set[str]()
    for locale in map(Locale.parse, LOCALES):
        for names in (locale.months, locale.days):
            for width in ("wide", "abbreviated"):
                words |= {str(name).lower().rstrip(".") for name in names["format"][width].values()}
    return {word for word in words if len(word) > 2}


def test_no_word_of_the_lexicon_is_a_month_or_a_day(lexicon: Lexicon) -> None:
    words = {word.lower() for word in lexicon.words}
    assert words & calendar_words() == set()


def test_no_name_stands_for_two_numbers_of_the_catalogue(lexicon: Lexicon) -> None:
    names = [name for entry in lexicon.catalogue for name in entry]
    assert len(names) == len(set(names))


def test_the_same_seed_draws_the_same_exercises(lexicon: Lexicon) -> None:
    assert draw(random.Random(7), lexicon, 500) == draw(random.Random(7), lexicon, 500)


def test_every_exercise_names_its_task(lexicon: Lexicon) -> None:
    tasks = {task.__name__ for task in WEIGHTS}
    exercises = draw(random.Random(7), lexicon, 2_000)
    assert {exercise.prompt.split()[0] for exercise in exercises} == tasks


def test_a_record_s_fields_run_over_all_numbers_not_over_those_of_a_calendar(lexicon: Lexicon) -> None:
    rng = random.Random(7)
    answers = [record(rng, lexicon).completion.split("-") for _ in range(5_000)]
    lots, numbers, shelves = (sorted({int(part) for part in parts}) for parts in zip(*answers, strict=True))
    assert (lots[0] < 100, lots[-1] > 9_900) == (True, True)
    assert numbers == shelves == list(range(100))


def test_the_loss_is_on_the_completion_and_its_end_alone() -> None:
    inputs, labels = tensors([("ab\n", "c"), ("a\n", "c")])
    assert inputs.tolist() == [[BOS_ID, *b"ab\nc", EOS_ID], [BOS_ID, *b"a\nc", EOS_ID, PAD_ID]]
    assert labels[0].tolist() == [IGNORED] * 4 + [ord("c"), EOS_ID]
    assert labels[1].tolist() == [IGNORED] * 3 + [ord("c"), EOS_ID, IGNORED]


def test_batches_hold_every_pair_once_with_little_padding() -> None:
    rng = random.Random(7)
    pairs = [("x" * rng.randint(1, 60) + "\n", str(index)) for index in range(1_000)]
    batches = list(grouped_batches(pairs, 32, rng))
    padding = sum(int((inputs == PAD_ID).sum()) for inputs, _ in batches)
    assert sum(len(inputs) for inputs, _ in batches) == 1_000
    assert padding / sum(inputs.numel() for inputs, _ in batches) < 0.05


def test_a_batch_is_of_integers_that_an_embedding_takes() -> None:
    inputs, labels = tensors([("a\n", "b")])
    assert inputs.dtype == labels.dtype == torch.int64
