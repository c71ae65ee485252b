"""How a file and options make one request."""

import io
import json

import pytest

from producers.cli.submit.body import merged, pruned, read_request
from schemas.errors import InvalidRequest, MalformedRequest
from schemas.requests import FineTuneRequest
from schemas.topics import Kind


def body(**fields: object) -> io.BytesIO:
    return io.BytesIO(json.dumps(fields).encode())


def test_options_that_were_not_given_are_left_out() -> None:
    assert pruned({"a": None, "b": {"c": None}, "d": (), "e": 0, "f": False}) == {"e": 0, "f": False}


def test_options_go_over_the_file_field_by_field() -> None:
    assert merged({"a": {"x": 1, "y": 2}, "b": 3}, {"a": {"y": 4}, "c": 5}) == {"a": {"x": 1, "y": 4}, "b": 3, "c": 5}


def test_a_file_with_options_becomes_one_request() -> None:
    file = body(model="m", dataset={"uri": "d"}, hyperparameters={"epochs": 2})
    request = read_request(Kind.FINETUNE, file, {"hyperparameters": {"batch_size": 4}, "suffix": None})

    assert isinstance(request, FineTuneRequest)
    assert (request.hyperparameters.epochs, request.hyperparameters.batch_size) == (2, 4)


@pytest.mark.parametrize("fields", [{}, {"model": "m"}])
@pytest.mark.parametrize("value", [b"", b"{", b"\xff\xfe", b"[" * 100_000])
def test_a_file_that_is_not_json_is_refused_with_the_intakes_words(value: bytes, fields: dict[str, object]) -> None:
    with pytest.raises((MalformedRequest, InvalidRequest)):
        read_request(Kind.GENERATE, io.BytesIO(value), fields)


def test_a_wrong_field_is_refused_with_the_intakes_words() -> None:
    with pytest.raises(InvalidRequest, match=r"Expected `int` >= 1 - at `\$.max_tokens` \(got 0\)"):
        read_request(Kind.GENERATE, None, {"model": "m", "prompt": "p", "max_tokens": 0})


def test_a_body_of_another_kind_is_refused() -> None:
    with pytest.raises(InvalidRequest, match="kind"):
        read_request(Kind.GENERATE, body(kind="finetune", model="m", dataset={"uri": "d"}), {})
