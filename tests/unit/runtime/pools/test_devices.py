"""The device pool, with plain numbers for devices and strings for streams."""

import asyncio
import gc
import random
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import NoReturn

import pytest

from runtime.pools import Device, DevicePool, PoolMisused, PoolOverloaded, PoolTimeout, ReservationTooLarge
from tests.unit.runtime.pools.test_forks import WELL, in_child

SOON_S = 20.0
CPU = Device(index=0, memory_bytes=100, kind="cpu")
GPUS = [Device(index=0, memory_bytes=80), Device(index=1, memory_bytes=40)]


def reserved(pool: DevicePool[str]) -> list[int]:
    return [each.reserved_bytes for each in pool.stats().devices]


def until_waiting(pool: DevicePool[str], count: int) -> None:
    end_s = time.monotonic() + SOON_S
    while pool.stats().waiting != count:
        assert time.monotonic() < end_s, "it never came"
        threading.Event().wait(0.001)


def test_a_reservation_holds_its_memory_until_its_block_ends() -> None:
    pool: DevicePool[str] = DevicePool([CPU])
    with pool.reserve(60) as reservation:
        assert (reservation.device, reservation.memory_bytes, reserved(pool)) == (CPU, 60, [60])
        with pytest.raises(PoolTimeout) as refused:
            pool.reserve(50, timeout_s=0.0)
    assert "cpu:0 has 40 of 100 bytes free" in str(refused.value)
    assert "thread 'MainThread' holds 60 bytes of cpu:0 for" in str(refused.value)
    assert reserved(pool) == [0]
    stats = pool.stats()
    assert (stats.granted, stats.timeouts, stats.waiting, stats.devices[0].peak_bytes) == (1, 1, 0, 60)


def test_the_tightest_device_is_taken_so_that_large_gaps_stay() -> None:
    pool: DevicePool[str] = DevicePool(GPUS)
    with pool.reserve(30), pool.reserve(80) as large:
        assert reserved(pool) == [80, 30]
        assert large.device.index == 0


def test_a_device_may_be_named_and_a_whole_one_is_for_nobody_else() -> None:
    pool: DevicePool[str] = DevicePool(GPUS)
    with pool.reserve(10, index=0), pool.reserve(None) as whole:
        assert (whole.device.index, whole.memory_bytes) == (1, 40)
        with pytest.raises(PoolTimeout):
            pool.reserve(1, index=1, timeout_s=0.0)


@pytest.mark.parametrize(("wanted", "index"), [(81, None), (41, 1), (1, 7), (None, 7)])
def test_what_fits_nowhere_is_said_at_once(wanted: int | None, index: int | None) -> None:
    pool: DevicePool[str] = DevicePool(GPUS)
    with pytest.raises(ReservationTooLarge, match="fits nowhere"):
        pool.reserve(wanted, index=index)


def test_a_large_reservation_is_not_overtaken_by_small_ones() -> None:
    pool: DevicePool[str] = DevicePool([CPU])
    first = pool.reserve(50)
    with ThreadPoolExecutor(2) as threads:
        large = threads.submit(pool.reserve, 100)
        until_waiting(pool, 1)
        small = threads.submit(pool.reserve, 10)  # it would fit
        until_waiting(pool, 2)
        first.release()
        large.result(SOON_S).release()
        small.result(SOON_S).release()
    assert reserved(pool) == [0]


def test_one_that_waits_for_one_device_does_not_hold_up_those_of_another() -> None:
    pool: DevicePool[str] = DevicePool(GPUS)
    held = pool.reserve(80, index=0)
    with ThreadPoolExecutor(1) as threads:
        waiting = threads.submit(pool.reserve, 60)  # only device 0 is large enough
        until_waiting(pool, 1)
        pool.reserve(20, timeout_s=0.0).release()
        held.release()
        waiting.result(SOON_S).release()


def test_a_waiter_that_gives_up_no_longer_holds_up_the_others() -> None:
    pool: DevicePool[str] = DevicePool([CPU])
    held = pool.reserve(50)
    with ThreadPoolExecutor(2) as threads:
        large = threads.submit(lambda: pool.reserve(100, timeout_s=1.0))
        until_waiting(pool, 1)
        small = threads.submit(pool.reserve, 10)
        assert isinstance(large.exception(SOON_S), PoolTimeout)
        small.result(SOON_S).release()
    held.release()


def test_more_than_may_wait_are_refused() -> None:
    pool: DevicePool[str] = DevicePool([CPU], waiting=0)
    with pool.reserve(100), pytest.raises(PoolOverloaded):
        pool.reserve(1)
    assert (pool.stats().refused, pool.stats().waiting) == (1, 0)


def test_each_reservation_has_a_stream_of_its_own_and_streams_are_used_again() -> None:
    made, finished = Counter[str](), list[str]()

    def open_stream(device: Device) -> str:
        made[str(device)] += 1
        return f"{device}/{made[str(device)]}"

    pool = DevicePool(GPUS, open_stream, finished.append)
    with pool.reserve(10, index=1) as one, pool.reserve(10, index=1) as other:
        assert (one.stream, other.stream) == ("cuda:1/1", "cuda:1/2")
    with pool.reserve(10, index=1) as again:
        assert again.stream == "cuda:1/1"
    assert finished == ["cuda:1/2", "cuda:1/1", "cuda:1/1"]


def test_memory_is_free_only_when_the_streams_work_is_done() -> None:
    seen = list[int]()
    pool = DevicePool([CPU], lambda _: "stream", lambda _: seen.extend(reserved(pool)))
    pool.reserve(60).release()
    assert (seen, reserved(pool)) == ([60], [0])


def test_a_stream_that_can_not_be_made_or_finished_holds_no_memory() -> None:
    def fail(_: object) -> NoReturn:
        raise RuntimeError("a sticky CUDA error")

    pool: DevicePool[str] = DevicePool([CPU], fail)
    with pytest.raises(RuntimeError):
        pool.reserve(60)
    other = DevicePool([CPU], lambda _: "stream", fail)
    reservation = other.reserve(60)
    with pytest.raises(RuntimeError):
        reservation.release()
    assert reserved(pool) == reserved(other) == [0]


def test_a_dropped_reservation_comes_free_also_for_one_that_waits(caplog: pytest.LogCaptureFixture) -> None:
    pool: DevicePool[str] = DevicePool([CPU])
    dropped = [pool.reserve(60)]
    with ThreadPoolExecutor(1) as threads:
        waiting = threads.submit(pool.reserve, 60)
        until_waiting(pool, 1)
        dropped.clear()
        gc.collect()
        waiting.result(SOON_S).release()
    assert pool.stats().abandoned == 1
    assert "dropped a reservation on cpu:0" in caplog.text


def test_tasks_and_threads_wait_in_one_line() -> None:
    pool, served = DevicePool[str]([CPU]), list[str]()
    held = pool.reserve(100)

    def in_thread() -> None:
        with pool.reserve(100):
            served.append("thread")

    async def in_task() -> None:
        with await pool.reserve_async(100):
            served.append("task")

    async def scene() -> None:
        first = asyncio.create_task(asyncio.to_thread(in_thread))
        await asyncio.to_thread(until_waiting, pool, 1)
        second = asyncio.create_task(in_task())
        await asyncio.to_thread(until_waiting, pool, 2)
        third = asyncio.create_task(asyncio.to_thread(in_thread))
        await asyncio.to_thread(until_waiting, pool, 3)
        held.release()
        await asyncio.wait_for(asyncio.gather(first, second, third), SOON_S)

    asyncio.run(scene())
    assert served == ["thread", "task", "thread"]


def test_a_task_that_is_cancelled_as_it_is_granted_its_memory_holds_none() -> None:
    pool: DevicePool[str] = DevicePool([CPU])

    async def scene() -> None:
        held = pool.reserve(100)
        waiting, gone = (asyncio.create_task(pool.reserve_async(100)) for _ in range(2))
        await asyncio.sleep(0)
        gone.cancel()
        await asyncio.sleep(0)
        assert pool.stats().waiting == 1
        held.release()  # granted, and it has not run since
        waiting.cancel()
        await asyncio.wait([waiting, gone])
        with pool.reserve(100, timeout_s=0.0), pytest.raises(PoolTimeout):
            await pool.reserve_async(1, timeout_s=0.01)

    asyncio.run(scene())
    assert reserved(pool) == [0]


def test_a_grant_to_a_closed_event_loop_goes_to_the_next() -> None:
    pool: DevicePool[str] = DevicePool([CPU])
    held = pool.reserve(100)
    loop = asyncio.new_event_loop()
    task = loop.create_task(pool.reserve_async(100))
    loop.run_until_complete(asyncio.sleep(0))
    loop.close()  # with the task still in it
    with ThreadPoolExecutor(1) as threads:
        waiting = threads.submit(pool.reserve, 100)
        until_waiting(pool, 2)
        held.release()
        waiting.result(SOON_S).release()
    assert reserved(pool) == [0]
    task._log_destroy_pending = False  # type: ignore[attr-defined]


def test_a_crowd_is_never_promised_more_than_there_is() -> None:
    pool: DevicePool[str] = DevicePool(GPUS)
    used, lock = Counter[int](), threading.Lock()

    def job(number: int) -> None:
        draw = random.Random(number)
        for _ in range(40):
            wanted = draw.choice([None, 5, 20, 60, 80])
            with pool.reserve(wanted) as reservation:
                index = reservation.device.index
                with lock:
                    used[index] += reservation.memory_bytes
                    assert used[index] <= GPUS[index].memory_bytes
                with lock:
                    used[index] -= reservation.memory_bytes

    with ThreadPoolExecutor(8) as threads:
        for done in [threads.submit(job, number) for number in range(8)]:
            done.result()
    stats = pool.stats()
    assert (reserved(pool), stats.waiting, stats.granted) == ([0, 0], 0, 320)


def test_a_forked_child_reserves_nothing() -> None:
    pool: DevicePool[str] = DevicePool([CPU])

    def scenario() -> None:
        try:
            pool.reserve(1)
        except PoolMisused:
            return
        raise AssertionError

    assert in_child(scenario) == WELL


def test_a_forked_child_leaves_the_parents_streams_alone() -> None:
    finished = list[str]()
    pool = DevicePool([CPU], lambda _: "stream", finished.append)
    reservation = pool.reserve(1)

    def scenario() -> None:
        reservation.release()
        assert not finished

    assert in_child(scenario) == WELL
    reservation.release()
    assert (finished, reserved(pool)) == (["stream"], [0])


def test_a_device_that_is_named_twice_is_a_mistake() -> None:
    with pytest.raises(ValueError, match="named twice"):
        DevicePool([CPU, CPU])


def test_a_negative_reservation_is_a_mistake() -> None:
    with pytest.raises(ValueError, match="at least 0"):
        DevicePool[str]([CPU]).reserve(-1)
