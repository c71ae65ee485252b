"""Text piece by piece."""

from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from tests.tiny_models import byte_tokenizer
from workers.engine.transcript import Transcript

TOKENIZER = byte_tokenizer()
texts = st.text(st.characters(codec="utf-8", exclude_characters="\ufffd\0"), max_size=60)


def decode(ids: Sequence[int]) -> str:
    text = TOKENIZER.decode(list(ids), skip_special_tokens=True)
    assert isinstance(text, str)
    return text


def tokens_of(text: str) -> list[int]:
    ids: list[int] = TOKENIZER(text).input_ids
    return ids


def pieces_of(text: str, stop: tuple[str, ...] = ()) -> tuple[list[str], Transcript]:
    transcript = Transcript(decode, stop)
    pieces = []
    for token in tokens_of(text):
        pieces.append(transcript.push(token))
        if transcript.stopped:
            return pieces, transcript
    return [*pieces, transcript.finish()], transcript


@given(texts)
def test_the_pieces_are_the_text_and_break_no_character(text: str) -> None:
    pieces, transcript = pieces_of(text)
    assert "".join(pieces) == transcript.text == text
    assert not any("\ufffd" in piece for piece in pieces)


@given(texts, st.lists(st.text("abé你 ", min_size=1, max_size=4), min_size=1, max_size=3))
def test_the_text_ends_before_the_stop_string_that_is_complete_first(text: str, stops: list[str]) -> None:
    for stop in stops:
        text += stop[:1] + stop
    pieces, transcript = pieces_of(text, tuple(stops))
    assert transcript.stopped
    _, first = min((text.find(stop) + len(stop), text.find(stop)) for stop in stops)
    assert "".join(pieces) == transcript.text == text[:first]


@given(texts, st.text("abc", min_size=2, max_size=4))
def test_without_the_stop_string_nothing_is_lost(text: str, stop: str) -> None:
    text = text.replace(stop, "") + stop[:-1]
    if stop not in text:
        pieces, transcript = pieces_of(text, (stop,))
        assert not transcript.stopped
        assert "".join(pieces) == text


def test_the_beginning_of_a_stop_string_is_held_back_until_it_is_none() -> None:
    transcript = Transcript(decode, ("\n\n",))
    first, newline, other = tokens_of("a\nb")
    assert [transcript.push(token) for token in (first, newline, other)] == ["a", "", "\nb"]


def test_a_stop_string_is_found_within_a_token_of_several_characters() -> None:
    words = ["one ", "two; th", "ree"]
    transcript = Transcript(lambda ids: "".join(words[token] for token in ids), ("; ",))
    assert [transcript.push(token) for token in range(2)] == ["one ", "two"]
    assert transcript.stopped


def test_a_decoder_that_drops_a_leading_space_loses_none_in_between() -> None:
    words = [" word", " by", " word"] * 20
    transcript = Transcript(lambda ids: "".join(words[token] for token in ids).removeprefix(" "), ())
    for token in range(len(words)):
        transcript.push(token)
    transcript.finish()
    assert transcript.text == "".join(words).removeprefix(" ")


@given(st.lists(st.integers(3, 258), max_size=50))
def test_bytes_that_are_no_text_come_out_as_the_decoder_shows_them(ids: list[int]) -> None:
    transcript = Transcript(decode, ())
    for token in ids:
        transcript.push(token)
    transcript.finish()
    assert transcript.text == decode(ids)


def test_endless_bytes_that_are_no_text_are_decoded_in_bounded_windows() -> None:
    longest = 0

    def watched(ids: Sequence[int]) -> str:
        nonlocal longest
        longest = max(longest, len(ids))
        return "\ufffd" * len(ids)

    transcript = Transcript(watched, ())
    for _ in range(1_000):
        transcript.push(0)
    transcript.finish()
    assert transcript.text == "\ufffd" * 1_000
    assert longest <= 128
