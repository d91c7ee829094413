"""A process that labels callables, to be killed: FOLDER, then how many prompts."""

import sys
import time

from tryage.labeling import label_answers


def small(prompt: str) -> str:
    """Answer at once."""
    return prompt


def large(prompt: str) -> str:
    """Answer a little later."""
    time.sleep(0.002)
    return prompt.upper()


def prompts(n: int) -> list[dict[str, str]]:
    """Return prompts that the small expert answers rightly."""
    return [{"prompt": f"word {i}", "id": str(i), "reference": f"word {i}"} for i in range(n)]


if __name__ == "__main__":
    experts = {"small": small, "large": large}
    print(label_answers(experts, prompts(int(sys.argv[2])), "exact", sys.argv[1]))  # noqa: T201
