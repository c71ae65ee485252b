"""The machine's metrics: a container's limits where they are tighter, GPUs where there is a driver."""

import importlib
import inspect
import re
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest

from runtime.monitoring import GpuReading, Limits, NvmlGpus, System, container_limits
from runtime.monitoring import gpu as gpu_module

GB = 10**9


def group(mount: Path, path: str, **files: str) -> Path:
    """A control group with these files, whose dots are written as underscores."""
    folder = mount / path
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name.replace("_", ".", 1)).write_text(f"{text}\n")
    return folder


def member(tmp_path: Path, path: str) -> Path:
    file = tmp_path / "membership"
    file.write_text(f"4:memory:/old\n0::{path}\n")
    return file


def test_the_limits_are_the_tightest_of_all_groups_above(tmp_path: Path) -> None:
    mount = tmp_path / "cgroup"
    group(mount, "pods", cpu_max="150000 100000", memory_max=str(8 * GB), memory_current=str(5 * GB))
    group(mount, "pods/worker", cpu_max="max 100000", memory_max=str(2 * GB), memory_current=str(GB))
    (mount / "pods/worker/memory.stat").write_text(f"anon 5\ninactive_file {GB // 4}\n")
    found = container_limits(mount, member(tmp_path, "/pods/worker"))
    assert found == Limits(1.5, 2 * GB, GB - GB // 4)


def test_within_a_container_its_own_group_is_the_mount(tmp_path: Path) -> None:
    mount = group(tmp_path, "cgroup", cpu_max="50000 100000", memory_max=str(GB), memory_current="7")
    assert container_limits(mount, member(tmp_path, "/")) == Limits(0.5, GB, 7)


@pytest.mark.parametrize("cpu_max", ["max 100000", "", "what", "5 0x"])
def test_without_a_limit_there_is_none(tmp_path: Path, cpu_max: str) -> None:
    mount = group(tmp_path, "cgroup", cpu_max=cpu_max, memory_max="max")
    assert container_limits(mount, member(tmp_path, "/")) == Limits()


def test_a_machine_without_control_groups_has_no_limits(tmp_path: Path) -> None:
    assert container_limits(tmp_path / "none", tmp_path / "neither") == Limits()


def test_a_container_that_has_less_is_told_of_instead_of_its_machine(tmp_path: Path) -> None:
    reading = System([tmp_path], limits=lambda: Limits(0.5, 1_000_000, 250_000)).read()
    assert (reading.cpu_cores, reading.memory_total_bytes, reading.memory_used_bytes) == (0.5, 1_000_000, 250_000)
    assert reading.in_container


def test_a_limit_above_the_machine_is_none(tmp_path: Path) -> None:
    reading = System([tmp_path], limits=lambda: Limits(1e6, 2**60, 1)).read()
    assert reading.memory_total_bytes == psutil.virtual_memory().total
    assert 0 < reading.memory_used_bytes < reading.memory_total_bytes
    assert not reading.in_container


def test_the_share_of_processor_time_is_of_the_time_between_two_readings() -> None:
    system = System()
    assert system.read().cpu_used_ratio is None
    # The kernel counts in hundredths of a second; a few of them pass.
    until_s = time.process_time() + 0.05
    while time.process_time() < until_s:
        pass
    ratio = system.read().cpu_used_ratio
    assert ratio is not None
    assert 0 < ratio <= 1


def test_a_disk_that_is_not_there_yet_is_left_out(tmp_path: Path) -> None:
    disks = System([tmp_path, tmp_path / "none"]).read().disks
    assert [disk.path for disk in disks] == [str(tmp_path)]
    assert disks[0].free_bytes > 0


class FakeNvml:
    """NVML with one whole GPU, one that tells nothing, and one that has fallen off the bus."""

    class NVMLError(Exception):
        """What it raises."""

    def __init__(self, *, driver: bool = True) -> None:
        self.driver = driver
        self.opened = 0

    def nvmlInit(self) -> None:  # noqa: N802
        if not self.driver:
            raise self.NVMLError("no driver")
        self.opened += 1

    def nvmlShutdown(self) -> None:  # noqa: N802
        self.opened -= 1

    def nvmlDeviceGetCount(self) -> int:  # noqa: N802
        return 3

    def nvmlDeviceGetHandleByIndex(self, index: int) -> int:  # noqa: N802
        if index == 2:
            raise self.NVMLError("lost")
        return index

    def nvmlDeviceGetUUID(self, device: int) -> str:  # noqa: N802
        return f"GPU-{device}"

    def nvmlDeviceGetName(self, _device: int) -> str:  # noqa: N802
        return "H100"

    def __getattr__(self, name: str) -> Any:
        answers: dict[str, Any] = {
            "nvmlDeviceGetMemoryInfo": SimpleNamespace(used=GB, total=80 * GB),
            "nvmlDeviceGetUtilizationRates": SimpleNamespace(gpu=75, memory=10),
            "nvmlDeviceGetPowerUsage": 350_500,
            "nvmlDeviceGetTemperature": 61,
        }

        def answer(device: int, *_: object) -> Any:
            if device:
                raise self.NVMLError("not supported")
            return answers[name]

        return answer


def test_gpus_tell_what_they_can() -> None:
    nvml = FakeNvml()
    gpus = NvmlGpus(lambda: nvml)
    assert gpus.read() == (
        GpuReading(
            index=0,
            uuid="GPU-0",
            name="H100",
            memory_used_bytes=GB,
            memory_total_bytes=80 * GB,
            used_ratio=0.75,
            temperature_celsius=61.0,
            power_watts=350.5,
        ),
        GpuReading(
            index=1,
            uuid="GPU-1",
            name="H100",
            memory_used_bytes=None,
            memory_total_bytes=None,
            used_ratio=None,
            temperature_celsius=None,
            power_watts=None,
        ),
    )
    gpus.close()
    gpus.close()
    assert nvml.opened == 0
    assert gpus.read() == ()


@pytest.mark.parametrize("nvml", [None, FakeNvml(driver=False)])
def test_without_a_library_or_a_driver_there_are_no_gpus(nvml: FakeNvml | None) -> None:
    gpus = NvmlGpus(lambda: nvml)
    assert gpus.read() == ()
    gpus.close()


def test_the_questions_are_those_that_the_real_binding_has() -> None:
    pynvml = importlib.import_module("pynvml")
    source = inspect.getsource(gpu_module)
    questions = set(re.findall(r'"(nvml\w+)"', source)) | {"nvmlInit"}
    assert len(questions) == 10
    assert all(callable(getattr(pynvml, question)) for question in questions)
    assert issubclass(pynvml.NVMLError, Exception)
    assert pynvml.NVML_TEMPERATURE_GPU == gpu_module.CORE


def test_a_machine_without_the_library_does_not_import_the_binding() -> None:
    gpus = NvmlGpus()
    assert isinstance(gpus.read(), tuple)
    gpus.close()
    code = "import sys, runtime.monitoring; sys.exit('pynvml' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
