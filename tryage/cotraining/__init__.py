"""Co-training: router and experts trained together on a stream of unlabelled prompts.

- `api` checks the arguments; `options` holds them; `parts` splits the prompts.
- `rounds` does the rounds: `assigning` says which expert gets which prompt, `fine_tuning` trains
  one, `measuring` measures it, `guarding` judges its update, `results` sums a round up. `joint`
  trains all experts by one gradient instead.
- `folder` keeps everything, so that a run can be continued.
"""

from tryage.cotraining.api import cotrain
from tryage.cotraining.options import CotrainingOptions
from tryage.cotraining.results import CotrainingRun, Round

__all__ = ["CotrainingOptions", "CotrainingRun", "Round", "cotrain"]
