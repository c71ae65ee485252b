"""Any Hugging Face causal language model runs through the same requests."""

import pytest

from producers import Headrace
from schemas.requests import Dataset, EvaluateRequest, FineTuneRequest, GenerateRequest, Hyperparameters, Method, Metric
from schemas.requests import Record as Example
from schemas.results import EvaluateResult, FineTuneResult, GenerateResult

WAIT_S = 120.0
EXAMPLES = tuple(Example(prompt=f"{number}+1=", completion=str(number + 1)) for number in range(24))


@pytest.mark.parametrize("architecture", ["gpt2", "qwen2", "gemma"])
@pytest.mark.parametrize("method", ["lora", "full"])
def test_a_model_of_another_architecture_is_tuned_asked_and_scored(
    client: Headrace, architecture: str, method: str
) -> None:
    base = f"tiny-{architecture}"
    tuned = client.result(
        client.submit(
            FineTuneRequest(
                model=base,
                dataset=Dataset(records=EXAMPLES),
                method=Method(type="lora", rank=4) if method == "lora" else Method(type="full"),
                hyperparameters=Hyperparameters(max_steps=4, batch_size=8, learning_rate=1e-2),
                suffix=method,
            )
        ),
        WAIT_S,
    )
    assert isinstance(tuned.result, FineTuneResult), tuned.error
    assert tuned.result.steps == 4
    for model in (base, tuned.result.model):
        request = GenerateRequest(model=model, prompts=("1+1=", "22+1="), max_tokens=3, temperature=0)
        answer = client.result(client.submit(request), WAIT_S)
        assert isinstance(answer.result, GenerateResult), answer.error
        assert [choice.prompt for choice in answer.result.choices] == [0, 1]
    scores = client.result(
        client.submit(
            EvaluateRequest(
                model=tuned.result.model,
                baseline=base,
                dataset=Dataset(records=EXAMPLES[:8]),
                metrics=(Metric.EXACT_MATCH, Metric.PERPLEXITY, Metric.CHRF),
                max_tokens=4,
            )
        ),
        WAIT_S,
    )
    assert isinstance(scores.result, EvaluateResult), scores.error
    assert [score.metric for score in scores.result.scores] == ["exact_match", "perplexity", "chrf"]
    assert all(score.comparison for score in scores.result.scores)
