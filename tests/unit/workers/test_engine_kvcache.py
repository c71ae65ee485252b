"""The cache against a plain list of rows."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from workers.engine.kvcache import NEEDED, KvLayer, RowCache, capacity

HEADS, SIZE = 2, 3

operations = st.lists(
    st.one_of(
        st.tuples(st.just("append"), st.integers(1, 70)),
        st.tuples(st.just("join"), st.lists(st.integers(1, 40), min_size=1, max_size=4)),
        st.tuples(st.just("leave"), st.sets(st.integers(0, 12), max_size=4)),
    ),
    max_size=12,
)


def fresh(rows: int, tokens: int, counter: list[int]) -> torch.Tensor:
    """Keys with a number of their own each, [rows, heads, tokens, size]."""
    count = rows * HEADS * tokens * SIZE
    counter[0] += count
    return torch.arange(counter[0] - count, counter[0], dtype=torch.double).reshape(rows, HEADS, tokens, SIZE)


@settings(max_examples=60, deadline=None)
@given(operations)
def test_every_row_keeps_its_tokens_however_others_come_and_go(steps: list[tuple[str, object]]) -> None:
    counter = [0]
    cache, rows = RowCache(), list[torch.Tensor]()  # each [heads, tokens, size]
    most, widest = 1, 1
    for name, argument in steps:
        if name == "append" and rows:
            assert isinstance(argument, int)
            new = fresh(len(rows), argument, counter)
            cache.update(new, -new, 0)
            rows = [torch.cat([row, added], dim=1) for row, added in zip(rows, new, strict=True)]
        elif name == "join":
            assert isinstance(argument, list)
            arriving, width = RowCache(), max(argument)
            new = fresh(len(argument), width, counter)
            arriving.update(new, -new, 0)
            cache.join(arriving, range(len(argument)))
            rows += [new[index, :, width - tokens :] for index, tokens in enumerate(argument)]
        elif name == "leave" and rows:
            assert isinstance(argument, set)
            gone = {index for index in argument if index < len(rows)}
            count = len(rows) - len(gone)
            if not count:
                cache, rows = RowCache(), []
                continue
            movers = [index for index in range(count, len(rows)) if index not in gone]
            moves = list(zip(sorted(index for index in gone if index < count), movers, strict=True))
            cache.fill(moves, count)
            for hole, mover in moves:
                rows[hole] = rows[mover]
            rows = rows[:count]
            cache.trim(cache.width - max(row.shape[1] for row in rows))
        check(cache, rows)
        if rows:
            most, widest = max(most, len(rows)), max(widest, cache.width)
            assert cache.allocated <= capacity(most, widest)
            assert NEEDED * cache.allocated <= capacity(len(rows), cache.width)


def check(cache: RowCache, rows: list[torch.Tensor]) -> None:
    if not rows:
        return
    layer = cache.layers[0]
    keys = layer.keys[: layer.rows, :, layer.start : layer.end]
    values = layer.values[: layer.rows, :, layer.start : layer.end]
    assert len(keys) == len(rows)
    assert cache.width >= max(row.shape[1] for row in rows)
    for index, row in enumerate(rows):
        assert torch.equal(keys[index, :, cache.width - row.shape[1] :], row)
        assert torch.equal(values[index, :, cache.width - row.shape[1] :], -row)


def test_a_row_that_was_not_a_number_leaves_nothing_behind() -> None:
    broken, sound = RowCache(), RowCache()
    for cache, value in ((broken, torch.nan), (sound, 1.0)):
        layer_input = torch.full((2, HEADS, 5, SIZE), value)
        cache.update(layer_input, layer_input, 0)
    broken.join(sound, [0])
    broken.fill([(0, 2)], 1)  # the broken rows leave
    tiny = RowCache()
    tiny.update(torch.ones(2, HEADS, 2, SIZE), torch.ones(2, HEADS, 2, SIZE), 0)
    broken.join(tiny, [0, 1])
    layer = broken.layers[0]
    assert torch.isfinite(layer.keys[: layer.rows, :, layer.start : layer.end]).all()
    assert torch.isfinite(layer.values[: layer.rows, :, layer.start : layer.end]).all()


def test_a_token_is_written_without_moving_the_others() -> None:
    layer = KvLayer()
    first = torch.zeros(4, HEADS, 10, SIZE)
    layer.update(first, first)
    memory = layer.keys.data_ptr()
    for _ in range(60):
        layer.update(first[:, :, :1], first[:, :, :1])
    assert layer.keys.data_ptr() == memory
    assert layer.get_mask_sizes(1) == (71, 0)
