"""The ledger notices when tables take something back."""

from dataclasses import replace

from tests.acceptance.faults.evidence import JobRow
from tests.acceptance.faults.ledger import regressions

KEY = ("tenant", "job")
RUNNING = JobRow("running", 2, 3, None, None, None, 0, in_outbox=False)
ENDED = replace(RUNNING, state="succeeded", result_status="succeeded", result="event", usage_rows=1)


def test_progress_is_no_regression() -> None:
    assert list(regressions({}, {KEY: RUNNING})) == []
    assert list(regressions({KEY: RUNNING}, {KEY: replace(RUNNING, state="queued", attempt=3)})) == []
    assert list(regressions({KEY: RUNNING}, {KEY: ENDED})) == []
    assert list(regressions({KEY: replace(ENDED, in_outbox=True)}, {KEY: ENDED})) == []


def test_an_attempt_an_epoch_an_end_and_a_row_do_not_go_back() -> None:
    for after in (
        {},
        {KEY: replace(RUNNING, attempt=1)},
        {KEY: replace(RUNNING, epoch=2)},
    ):
        assert len(list(regressions({KEY: RUNNING}, after))) == 1
    for late in (RUNNING, replace(ENDED, result="another"), replace(ENDED, state="failed")):
        assert len(list(regressions({KEY: ENDED}, {KEY: late}))) == 1
