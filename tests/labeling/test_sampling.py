from collections import Counter

import pytest

from tryage.errors import OptionError
from tryage.labeling.prompts import read_rows
from tryage.labeling.sampling import Sample

PROMPTS = [
    {"prompt": f"prompt {i}", "id": f"p{i}", "group": "large" if i % 10 else "small"}
    for i in range(100)
]


def taken(*sample, prompts=PROMPTS):
    rows = read_rows(prompts, ("text-generation",), mask_share=0.15, sample=Sample.of(*sample))
    return [row.id for row in rows]


def test_a_sample_is_the_same_in_any_order_and_grows() -> None:
    some = taken(20, None, 0)
    assert len(some) == 20
    assert set(some) == set(taken(20, None, 0, prompts=PROMPTS[::-1]))
    assert set(some) < set(taken(30, None, 0))
    assert some == [row for row in (p["id"] for p in PROMPTS) if row in set(some)]
    assert set(some) != set(taken(20, None, 1))
    assert len(taken(1000, None, 0)) == 100


def test_strata_get_as_much_each_as_they_have() -> None:
    groups = {p["id"]: p["group"] for p in PROMPTS}
    assert Counter(groups[i] for i in taken(12, "group", 0)) == {"large": 6, "small": 6}
    assert Counter(groups[i] for i in taken(40, "group", 0)) == {"large": 30, "small": 10}
    assert set(taken(12, "group", 0)) < set(taken(40, "group", 0))


@pytest.mark.parametrize(
    ("sample", "reason"),
    [
        ((0, None, 0), "sample is 0; it is at least 1"),
        ((5, "colour", 0), "stratify is 'colour'; it is 'group' or 'task'"),
        ((None, "group", 0), "no sample is taken; give its size"),
    ],
)
def test_a_wrong_sample_is_told(sample, reason) -> None:
    with pytest.raises(OptionError, match=reason):
        taken(*sample)
