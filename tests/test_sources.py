"""What `Router.fit` takes for a table and a library."""

import numpy as np
import pytest

from tryage import Expert, Library, Router, ScoreTable
from tryage.errors import LibraryError, ScoreTableError

ROWS = [
    {"prompt": f"Sum {n}" if n % 2 else f"Verse {n}", "scores": {"a": n % 2, "b": 1 - n % 2}}
    for n in range(40)
]
TABLE = ScoreTable.from_rows(ROWS)
LIBRARY = Library([Expert(name="a", model="org/a", parameters="1B"), Expert(name="b", model="b")])


def fit(table, library=LIBRARY):
    return Router.fit(table, library=library, predictor="clusters")


def test_tables_may_be_objects_paths_and_rows(tmp_path):
    TABLE.write(tmp_path / "scores.jsonl")
    expected = fit(TABLE).route("Sum 99").to_dict()
    for source in (tmp_path / "scores.jsonl", str(tmp_path / "scores.jsonl"), ROWS):
        assert fit(source).route("Sum 99").to_dict() == expected
    refitted = fit(TABLE).refit(ROWS, tmp_path / "scores.jsonl")
    assert refitted.provenance["prompts"] == 40
    with pytest.raises(ScoreTableError, match=r"nowhere\.jsonl"):
        fit(tmp_path / "nowhere.jsonl")


def test_libraries_may_be_objects_paths_experts_and_names(tmp_path):
    LIBRARY.write(tmp_path / "library.yaml")
    for source in (tmp_path / "library.yaml", str(tmp_path / "library.yaml"), LIBRARY.experts):
        assert fit(TABLE, source).library["a"].parameters == 1_000_000_000
    assert fit(TABLE, ["b", "a"]).library.names == ("b", "a")
    mixed = fit(TABLE, [LIBRARY["a"], "b"]).library
    assert (mixed["a"].model, mixed["b"].model) == ("org/a", "b")
    open7 = Router.from_pretrained("open7").library
    rows = [{"prompt": f"{n}", "scores": dict.fromkeys(open7.names, 0.5)} for n in range(3)]
    assert fit(rows, "open7").library == open7
    for wrong, problem in (("open8", "bundled router"), (tmp_path / "no.yaml", "not exist")):
        with pytest.raises(LibraryError, match=problem):
            fit(TABLE, wrong)


def test_without_a_library_the_experts_are_those_of_the_table():
    router = Router.fit(ROWS, predictor="clusters")
    assert router.library.names == ("a", "b")
    assert router.library.tasks == ("text-generation",)
    masked = [
        {"prompt": f"The [MASK] {n}", "task": "fill-mask", "scores": {"m": 1.0}} for n in range(5)
    ]
    several = Router.fit([*ROWS, *masked], predictor="best-single")
    assert several.library["m"].task == "fill-mask"
    assert several.library["a"].task == "text-generation"
    both = [*masked, {"prompt": "Say", "task": "text-generation", "scores": {"m": 0.1}}]
    with pytest.raises(LibraryError, match="'m' on prompts of several tasks"):
        Router.fit(both)


def test_probes_of_a_new_expert_may_be_rows():
    probes = [{**row, "scores": {**row["scores"], "c": 0.9}} for row in ROWS]
    new = Expert(name="c", model="org/c")
    by_rows, by_table = (
        fit(TABLE).add_expert(new, source) for source in (probes, ScoreTable.from_rows(probes))
    )
    prompts = ["Sum 4", "Verse 3"]
    np.testing.assert_array_equal(
        by_rows.predict(prompts, task="text-generation"),
        by_table.predict(prompts, task="text-generation"),
    )
