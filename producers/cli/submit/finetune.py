"""``headrace submit finetune``."""

import click

from producers.cli.submit.options import Submission, submits
from schemas.topics import Kind


@click.command()
@click.option("--dataset", metavar="URI", help="JSONL with prompt and completion, or messages.")
@click.option("--validation", metavar="URI", help="Examples to measure the loss on that are not trained on.")
@click.option("--method", type=click.Choice(["lora", "full"]))
@click.option("--rank", type=int, help="Of the LoRA matrices.")
@click.option("--alpha", type=float, help="LoRA's scale.  [default: twice the rank]")
@click.option("--epochs", type=float)
@click.option("--max-steps", type=int)
@click.option("--batch-size", type=int, help="Examples of one step.")
@click.option("--learning-rate", type=float)
@click.option("--max-length", type=int, help="Tokens of one example at most.")
@click.option("--suffix", help="A part of the tuned model's id.")
@click.option("--seed", type=int)
@submits
def finetune(
    submission: Submission,
    dataset: str | None,
    validation: str | None,
    method: str | None,
    rank: int | None,
    alpha: float | None,
    epochs: float | None,
    max_steps: int | None,
    batch_size: int | None,
    learning_rate: float | None,
    max_length: int | None,
    suffix: str | None,
    seed: int | None,
) -> int:
    """Tune a model on a dataset; the result names the tuned model's id."""
    fields = {
        "dataset": {"uri": dataset},
        "validation": {"uri": validation},
        "method": {"type": method, "rank": rank, "alpha": alpha},
        "hyperparameters": {
            "epochs": epochs,
            "max_steps": max_steps,
            "batch_size": batch_size,
            "learning_rate": learning_rate,
            "max_length": max_length,
        },
        "suffix": suffix,
        "seed": seed,
    }
    return submission.send(Kind.FINETUNE, fields)
