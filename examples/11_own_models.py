"""A router over models of your own: pip install "tryage[parquet]", no network, no key.

The experts here are two programs, one that does sums and one that explains Python; put your own
in their place: any function of a prompt that returns text. `langchain_tryage.label` and
`llama_index_tryage.label` take those frameworks' models in the same way.
"""

import inspect
import pydoc
import re
import tempfile
from pathlib import Path

from tryage import Expert, Library, Router, ScoreTable
from tryage.labeling import PairwiseJudge, label_answers


def calculator(prompt):
    match = re.search(r"(\d+) (plus|times) (\d+)", prompt)
    if match is None:
        return "I can only do sums."
    one, other = int(match[1]), int(match[3])
    return f"It is {one + other if match[2] == 'plus' else one * other}."


def handbook(prompt):
    match = re.search(r"`([\w.]+)`", prompt)
    thing = pydoc.locate(match[1]) if match else None
    return (inspect.getdoc(thing) or "Nothing is written about it.").splitlines()[0]


def judge(text):
    """Prefers the answer that says something; a language model in its place reads the same."""
    bad = [any(word in part for word in ("only", "Nothing")) for part in text.split("[Answer ")[1:]]
    return "Winner: tie" if bad[0] == bad[1] else f"Winner: {'B' if bad[0] else 'A'}"


sums = [f"What is {n} {how} {n + 3}?" for n in range(10) for how in ("plus", "times")]
names = "heapq.heappush json.loads math.gcd os.getcwd re.split shutil.copy time.sleep zlib.crc32"
questions = [f"What does `{name}` do in Python?" for name in names.split()]
experts = {"calculator": calculator, "handbook": handbook}
library = Library([Expert(name=name, model=name) for name in experts])

with tempfile.TemporaryDirectory() as folder:
    scores = Path(folder) / "scores"
    comparing = PairwiseJudge(judge)
    print("cells:", label_answers(experts, sums + questions, comparing, scores).measured)
    print("verdicts that changed with the order:", comparing.counts.flipped)
    table = ScoreTable.read(scores)
    router = Router.fit(table, library=library).with_feedback(
        Path(folder) / "feedback.jsonl", store_prompts=True
    )
    for prompt in ("What is 25 times 4?", "What does `bisect.insort` do in Python?"):
        decision = router.route(prompt)
        print(decision.expert, "→", experts[decision.expert](prompt))
        router.feedback(decision, 1.0)  # what a user said of the answer
    again = router.refit(table, ScoreTable.read(router.feedback_file.path))
    print("prompts learned from:", again.provenance["prompts"])
