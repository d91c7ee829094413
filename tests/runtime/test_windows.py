import pytest
from hypothesis import given
from hypothesis import strategies as st

from tryage.runtime.windows import windows


@given(st.integers(0, 300), st.integers(1, 60), st.lists(st.integers(0, 300), max_size=20))
def test_windows_cover_everything_once_and_fit(n: int, size: int, cuts: list[int]) -> None:
    edges = sorted({min(cut, n) for cut in cuts})
    joined = [(a, b) for a, b in zip(edges[::2], edges[1::2], strict=False) if a < b]
    ranges = windows(n, size, joined)
    assert [i for low, high in ranges for i in range(low, high)] == list(range(n))
    assert all(0 < high - low <= size for low, high in ranges)
    ends = {high for _, high in ranges}
    for low, high in joined:
        if high - low <= size:
            assert not any(low < end < high for end in ends)


def test_windows_are_even() -> None:
    assert windows(10, 6) == [(0, 5), (5, 10)]
    assert windows(0, 6) == []


def test_a_window_without_room_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one token"):
        windows(3, 0)
