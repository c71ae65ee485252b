"""The example keeps what the README says of it: the base cannot do the task, the tuned model can."""

import pytest

from producers import Headrace
from schemas.codec import decode_request
from schemas.requests import Dataset, EvaluateRequest, Metric
from schemas.results import EvaluateResult, FineTuneResult
from schemas.topics import Kind
from tests.acceptance.processes import ROOT

WAIT_S = 480.0
BASE_AT_MOST, TUNED_AT_LEAST, EXAMPLES_AT_LEAST = 0.2, 0.9, 500


@pytest.mark.timeout(600)
def test_the_example_s_fine_tune_reaches_its_bar_on_held_out_dates(client: Headrace) -> None:
    """Its time, at most 120 s on two cores, is the demo's to show: here other tests have one of them."""
    request = decode_request(Kind.FINETUNE, (ROOT / "examples" / "dates" / "finetune.json").read_bytes(), {})
    tuned = client.result(client.submit(request), WAIT_S)
    assert isinstance(tuned.result, FineTuneResult), tuned.error
    compared = client.result(
        client.submit(
            EvaluateRequest(
                model=tuned.result.model,
                baseline="example-base",
                dataset=Dataset(uri="dates/test.jsonl"),
                metrics=(Metric.EXACT_MATCH,),
                max_tokens=16,
            )
        ),
        WAIT_S,
    )
    assert isinstance(compared.result, EvaluateResult), compared.error
    (score,) = compared.result.scores
    assert compared.result.examples >= EXAMPLES_AT_LEAST
    assert score.model.mean >= TUNED_AT_LEAST
    assert score.comparison is not None
    assert score.comparison.baseline.mean <= BASE_AT_MOST
