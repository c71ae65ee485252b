"""Whether the device still computes."""

import torch

from workers.broken import WorkerBroken
from workers.models.room import is_out_of_memory


def check_device(device: torch.device) -> None:
    """Multiply two small matrices there. Blocking.

    After some errors (an illegal access, an assertion that failed in a kernel, memory that is beyond repair) nothing
    works on a CUDA device any more until the process ends; after others everything does.

    Raises:
        WorkerBroken: the device gave an error. That its memory is full is none.
    """
    try:
        ones = torch.ones(8, 8, device=device)
        (ones @ ones).sum().item()
    except Exception as error:
        if is_out_of_memory(error):
            return
        raise WorkerBroken(
            f"Device {device} computes no more: {error}. The worker ends; if the one that is started in its place "
            "says so too, look at the device and its driver."
        ) from error
