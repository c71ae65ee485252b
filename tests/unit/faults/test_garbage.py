"""The garbage of the fault schedules has everything that JSON decoders stumble over."""

import msgspec
import pytest

from schemas.events import ControlEvent, Heartbeat, MetricsEvent, WorkEvent
from tests.acceptance.faults.bodies import GARBAGE


@pytest.mark.parametrize("event_type", [Heartbeat, WorkEvent, ControlEvent, MetricsEvent])
def test_it_raises_each_error_that_a_decoder_has_for_bytes_that_are_no_event(event_type: type[msgspec.Struct]) -> None:
    raised: set[type[Exception]] = set()
    for value in GARBAGE:
        with pytest.raises((msgspec.DecodeError, UnicodeDecodeError, RecursionError)) as error:
            msgspec.json.decode(value or b"", type=event_type)
        raised.add(error.type)
    refuses_unknown_fields = event_type.__struct_config__.forbid_unknown_fields
    deep = set() if refuses_unknown_fields else {RecursionError}
    assert raised == {msgspec.DecodeError, msgspec.ValidationError, UnicodeDecodeError, *deep}
