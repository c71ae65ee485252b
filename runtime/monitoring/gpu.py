"""GPUs by NVIDIA's management library (NVML): there are none where it has no driver."""

import logging
from collections.abc import Callable
from typing import Final, Protocol, TypeVar

import pynvml  # type: ignore[import-untyped]
from msgspec import Struct

log = logging.getLogger(__name__)

Value = TypeVar("Value")
MILLI: Final = 1_000
PERCENT: Final = 100


class GpuReading(Struct, frozen=True, kw_only=True):
    """One GPU at one moment; None where it does not tell. ``used_ratio``: the share of time in which a kernel ran."""

    index: int
    uuid: str
    name: str
    memory_used_bytes: int | None
    memory_total_bytes: int | None
    used_ratio: float | None
    temperature_celsius: float | None
    power_watts: float | None


class Gpus(Protocol):
    """Reads GPUs."""

    def read(self) -> tuple[GpuReading, ...]:
        """All of them now."""


class NvmlGpus:
    """The machine's GPUs. NVML counts who has it open, so torch's use and this one do not touch each other."""

    def __init__(self) -> None:
        self._open = False
        try:
            pynvml.nvmlInit()
            self._open = True
        except pynvml.NVMLError as error:
            log.debug("There are no GPU metrics: %s.", error)

    def read(self) -> tuple[GpuReading, ...]:
        """All GPUs now; none without a driver, and none that has fallen off the bus."""
        if not self._open:
            return ()
        count = _told(pynvml.nvmlDeviceGetCount) or 0
        readings = (self._read(index) for index in range(count))
        return tuple(one for one in readings if one is not None)

    def close(self) -> None:
        """Give the library back."""
        if self._open:
            self._open = False
            _told(pynvml.nvmlShutdown)

    def _read(self, index: int) -> GpuReading | None:
        device = _told(lambda: pynvml.nvmlDeviceGetHandleByIndex(index))
        if device is None:
            return None
        memory = _told(lambda: pynvml.nvmlDeviceGetMemoryInfo(device))
        rates = _told(lambda: pynvml.nvmlDeviceGetUtilizationRates(device))
        power = _told(lambda: pynvml.nvmlDeviceGetPowerUsage(device))
        return GpuReading(
            index=index,
            uuid=_told(lambda: pynvml.nvmlDeviceGetUUID(device)) or "",
            name=_told(lambda: pynvml.nvmlDeviceGetName(device)) or "",
            memory_used_bytes=None if memory is None else int(memory.used),
            memory_total_bytes=None if memory is None else int(memory.total),
            used_ratio=None if rates is None else rates.gpu / PERCENT,
            temperature_celsius=_told(
                lambda: float(pynvml.nvmlDeviceGetTemperature(device, pynvml.NVML_TEMPERATURE_GPU))
            ),
            power_watts=None if power is None else power / MILLI,
        )


def _told(ask: Callable[[], Value]) -> Value | None:
    """What NVML answers, if it does: a GPU in slices (MIG), say, tells no utilisation."""
    try:
        return ask()
    except pynvml.NVMLError:
        return None
