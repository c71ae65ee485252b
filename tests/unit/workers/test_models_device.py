"""Whether a device computes."""

import pytest
import torch

from workers.broken import WorkerBroken
from workers.models.device import check_device


def test_a_device_that_computes_is_sound() -> None:
    check_device(torch.device("cpu"))


def test_a_device_that_computes_nothing_is_told_with_its_error() -> None:
    with pytest.raises(WorkerBroken, match=r"Device meta computes no more: .*meta tensors"):
        check_device(torch.device("meta"))
