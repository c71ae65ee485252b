"""When the dispatcher has to hear of free slots."""

from schemas.events import Slots
from schemas.topics import Kind
from workers.credit import Credit

ROOM = 8


def credit(told: int, came: int = 0) -> Credit:
    credit = Credit()
    credit.tell(Slots(generate=told))
    for _ in range(came):
        credit.take(Kind.GENERATE)
    return credit


def test_it_is_short_at_first() -> None:
    assert Credit().is_short(Kind.GENERATE, ROOM, ROOM)


def test_a_slot_that_comes_free_is_news_only_where_few_are_known() -> None:
    assert not credit(told=4).is_short(Kind.GENERATE, 5, ROOM)
    assert credit(told=3).is_short(Kind.GENERATE, 4, ROOM)


def test_what_has_come_since_counts() -> None:
    assert not credit(told=8, came=4).is_short(Kind.GENERATE, 8, ROOM)
    assert credit(told=8, came=5).is_short(Kind.GENERATE, 8, ROOM)


def test_nothing_is_news_where_no_more_are_free_than_it_knows() -> None:
    assert not credit(told=8, came=7).is_short(Kind.GENERATE, 1, ROOM)
    assert not credit(told=0).is_short(Kind.GENERATE, 0, ROOM)


def test_each_kind_has_its_own() -> None:
    short = credit(told=8)
    assert short.is_short(Kind.FINETUNE, 1, 1)
    assert not short.is_short(Kind.GENERATE, 8, ROOM)
    short.take(Kind.FINETUNE)
    assert not short.is_short(Kind.GENERATE, 8, ROOM)


def test_what_is_told_replaces_what_was_known() -> None:
    known = credit(told=8, came=8)
    assert known.is_short(Kind.GENERATE, 8, ROOM)
    known.tell(Slots(generate=8))
    assert not known.is_short(Kind.GENERATE, 8, ROOM)
