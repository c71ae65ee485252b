"""GPUs by NVIDIA's management library (NVML): there are none where it has no driver."""

import ctypes
import logging
from collections.abc import Callable
from typing import Any, Final, Protocol

from msgspec import Struct

log = logging.getLogger(__name__)

MILLI: Final = 1_000
PERCENT: Final = 100
#: The sensor in the middle of the chip (``NVML_TEMPERATURE_GPU``).
CORE: Final = 0


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

    def __init__(self, load: Callable[[], Any] | None = None) -> None:
        self._nvml = (load or load_nvml)()
        if self._nvml is None:
            return
        try:
            self._nvml.nvmlInit()
        except self._nvml.NVMLError as error:
            log.warning("There are no GPU metrics: %s.", error)
            self._nvml = None

    def read(self) -> tuple[GpuReading, ...]:
        """All GPUs now; none without a driver, and none that has fallen off the bus."""
        if self._nvml is None:
            return ()
        count = self._told("nvmlDeviceGetCount") or 0
        readings = (self._read(index) for index in range(count))
        return tuple(one for one in readings if one is not None)

    def close(self) -> None:
        """Give the library back."""
        if self._nvml is not None:
            self._told("nvmlShutdown")
            self._nvml = None

    def _read(self, index: int) -> GpuReading | None:
        device = self._told("nvmlDeviceGetHandleByIndex", index)
        if device is None:
            return None
        memory = self._told("nvmlDeviceGetMemoryInfo", device)
        rates = self._told("nvmlDeviceGetUtilizationRates", device)
        power = self._told("nvmlDeviceGetPowerUsage", device)
        celsius = self._told("nvmlDeviceGetTemperature", device, CORE)
        return GpuReading(
            index=index,
            uuid=self._told("nvmlDeviceGetUUID", device) or "",
            name=self._told("nvmlDeviceGetName", device) or "",
            memory_used_bytes=None if memory is None else int(memory.used),
            memory_total_bytes=None if memory is None else int(memory.total),
            used_ratio=None if rates is None else rates.gpu / PERCENT,
            temperature_celsius=None if celsius is None else float(celsius),
            power_watts=None if power is None else power / MILLI,
        )

    def _told(self, question: str, *given: Any) -> Any:
        """What NVML answers, or None: a GPU in slices (MIG), say, tells no utilisation."""
        try:
            return getattr(self._nvml, question)(*given)
        except self._nvml.NVMLError:
            return None


def load_nvml() -> Any:
    """The binding of NVML; None on a machine without its library."""
    try:
        ctypes.CDLL("libnvidia-ml.so.1")
    except OSError:
        return None
    # Not above: it takes 16 MB of memory, for nothing where there is no driver.
    import pynvml  # type: ignore[import-untyped]

    return pynvml
