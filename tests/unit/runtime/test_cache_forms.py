"""Values as bytes: what comes back is what went in, and what was damaged does not come back."""

from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import Struct

from runtime.cache import BytesCodec, MsgspecCodec, NotCacheable, UnreadableValue
from runtime.cache.envelope import Damaged, Header, Kind, seal, unseal
from runtime.cache.tensors import TensorsCodec

HEADER = Header(b"schema", 1.0, 2.0, 3.0, 0.5, Kind.VALUE, (b"v1", b"v2"))


class Answer(Struct, frozen=True):
    text: str
    tokens: tuple[int, ...]


@settings(deadline=None, max_examples=50)
@given(st.text(min_size=1), st.binary(max_size=300))
def test_what_was_sealed_is_unsealed(name: str, payload: bytes) -> None:
    header, found = unseal(name, seal(name, HEADER, payload))
    assert header == HEADER
    assert bytes(found) == payload


@settings(deadline=None, max_examples=50)
@given(st.data())
def test_a_single_changed_bit_is_damage(data: st.DataObject) -> None:
    sealed = bytearray(seal("name", HEADER, b"payload"))
    place = data.draw(st.integers(0, 8 * len(sealed) - 1))
    sealed[place // 8] ^= 1 << place % 8
    with pytest.raises(Damaged):
        unseal("name", bytes(sealed))


@settings(deadline=None, max_examples=50)
@given(st.binary(max_size=100))
def test_any_bytes_are_damage_and_nothing_worse(data: bytes) -> None:
    with pytest.raises(Damaged):
        unseal("name", data)
    with pytest.raises(Damaged):
        unseal("name", seal("name", HEADER, b"payload")[: len(data)])


def test_an_entry_under_the_name_of_another_is_damage() -> None:
    with pytest.raises(Damaged):
        unseal("mine", seal("yours", HEADER, b"payload"))


def test_a_typed_value_comes_back_as_its_type() -> None:
    codec = MsgspecCodec[Answer](Answer)
    assert codec.decode(memoryview(codec.encode(Answer("a", (1, 2))))) == Answer("a", (1, 2))


def test_bytes_of_another_type_are_not_read() -> None:
    with pytest.raises(UnreadableValue):
        MsgspecCodec[Answer](Answer).decode(memoryview(msgspec.msgpack.encode({"text": 1})))


def test_the_schema_changes_with_the_type() -> None:
    class Answer(Struct, frozen=True):
        text: str

    schemas = {MsgspecCodec[Any](type).schema for type in (Answer, globals()["Answer"], int, str, Any, list[int])}
    assert len(schemas) == 6


@pytest.mark.parametrize("value", [(1, 2), {1, 2}, [(1,)], Answer("a", ()), {"a": bytearray()}, object()])
def test_without_a_type_what_would_come_back_as_something_else_is_refused(value: object) -> None:
    with pytest.raises(NotCacheable):
        MsgspecCodec[Any](Any).encode(value)


@settings(deadline=None, max_examples=50)
@given(st.recursive(st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.text() | st.binary(),
                    lambda each: st.lists(each) | st.dictionaries(st.text(), each), max_leaves=8))  # fmt: skip
def test_without_a_type_plain_values_come_back_as_they_were(value: object) -> None:
    codec = MsgspecCodec[Any](Any)
    assert codec.decode(memoryview(codec.encode(value))) == value


def test_bytes_are_kept_as_they_are() -> None:
    assert BytesCodec().decode(memoryview(BytesCodec().encode(b"\x00\xff"))) == b"\x00\xff"
    with pytest.raises(NotCacheable):
        BytesCodec().encode("text")  # type: ignore[arg-type]


def test_tensors_come_back_with_their_types_and_shapes_and_memory_of_their_own() -> None:
    tensors: dict[str, Any] = {"a": np.arange(6, dtype=np.float16).reshape(2, 3).T, "b": np.array([], dtype=np.int64)}
    data = bytearray(TensorsCodec().encode(tensors))
    found = TensorsCodec().decode(memoryview(data))
    data[:] = bytes(len(data))
    assert {name: (array.dtype, array.shape) for name, array in found.items()} == {
        name: (array.dtype, array.shape) for name, array in tensors.items()
    }
    assert all((found[name] == tensors[name]).all() for name in tensors)


def test_what_are_no_tensors_is_refused() -> None:
    with pytest.raises(NotCacheable):
        TensorsCodec().encode({"a": np.array([object()])})
    with pytest.raises(UnreadableValue):
        TensorsCodec().decode(memoryview(b"\xff" * 32))
