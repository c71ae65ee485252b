"""``headrace submit generate``."""

import click

from producers.cli.submit.options import Submission, submits
from schemas.topics import Kind


@click.command()
@click.option("--prompt", "prompts", multiple=True, help="Text to continue; may be repeated.")
@click.option("--max-tokens", type=int, help="New tokens of one answer at most.")
@click.option("--temperature", type=float, help="0 always takes the likeliest token.")
@click.option("--top-p", type=float)
@click.option("--seed", type=int, help="The same seed draws the same answers.")
@click.option("--stop", multiple=True, help="Text that ends an answer; may be repeated.")
@click.option("-n", "n", type=int, help="Answers to each prompt.")
@click.option("--stream", is_flag=True, default=None, help="Publish the text as it comes; see it with --watch.")
@click.option("--adapter", help="A tuned model's id, over its base.")
@submits
def generate(
    submission: Submission,
    prompts: tuple[str, ...],
    max_tokens: int | None,
    temperature: float | None,
    top_p: float | None,
    seed: int | None,
    stop: tuple[str, ...],
    n: int | None,
    stream: bool | None,
    adapter: str | None,
) -> int:
    """Continue prompts."""
    several = len(prompts) > 1
    fields = {
        "prompt": prompts[0] if prompts and not several else None,
        "prompts": prompts if several else None,
        "max_tokens": max_tokens,
        "temperature": temperature,
        "top_p": top_p,
        "seed": seed,
        "stop": stop,
        "n": n,
        "stream": stream,
        "adapter": adapter,
    }
    return submission.send(Kind.GENERATE, fields)
