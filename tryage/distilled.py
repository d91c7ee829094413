"""Says of a distilled router which teacher it learned from, and how well."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tryage.fingerprints import LEAST_SHARE

_SHOWN = 16
"""Characters of a fingerprint that a sentence shows."""


def distilled_from(provenance: Mapping[str, Any]) -> list[str]:
    """Return sentences on the teacher of a distilled router; none for any other.

    Args:
        provenance: the router's, or the part of it that a summary holds.
    """
    stated: Mapping[str, Any] | None = provenance.get("distilled")
    if stated is None:
        return []
    several = len(stated["teacher"]) > 1
    date = f", fitted on {stated['fitted_on']}" if stated.get("fitted_on") else ""
    unknown = stated["unknown_to_teacher"]
    left_out = f"; {unknown:,} that the teacher knows nothing like were left out" if unknown else ""
    sentences = []
    for task, fingerprint in stated["teacher"].items():
        of_task = f"{task}: distilled" if several else "Distilled"
        weight = stated["teacher_weight"][task]
        sentences.append(
            f"{of_task} from the predictor {stated['predictors'][task]} of a teacher (SHA-256 "
            f"{fingerprint[:_SHOWN]}{date}), which weighs {weight:g} beside a measured value."
        )
        agreement = stated["agreement"][task]
        if agreement is not None:
            sentences.append(
                f"On {agreement['prompts']:,} other prompts it chooses as the teacher on "
                f"{agreement['same_choice']:.1%}, and loses {agreement['regret']:.4f} by the "
                "teacher's predictions."
            )
    sentences.append(f"Unlabelled prompts: {stated['unlabelled']:,}{left_out}.")
    share = stated.get("seen_by_teacher")
    if share is not None and share >= LEAST_SHARE:
        sentences.append(
            f"The teacher was fitted on {share:.0%} of the held-out prompts, so figures on them "
            "are better than on new ones."
        )
    return sentences
