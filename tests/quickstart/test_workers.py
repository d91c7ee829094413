import pytest

from tryage.errors import ExpertError
from tryage.quickstart import Recipe
from tryage.quickstart.workers import Job, run_jobs


def test_a_failing_training_is_named_with_its_reason(tmp_path):
    recipe = Recipe("writer", "nowhere", "text-generation", 32, 1, 5)
    with pytest.raises(ExpertError, match=r"making 'writer' failed: .*nowhere\.jsonl"):
        run_jobs([Job(recipe, tmp_path, 0.3)], lambda *_: None)


def test_nothing_to_do_starts_nothing(tmp_path):
    run_jobs([], lambda *_: pytest.fail("there is nothing to tell"))
