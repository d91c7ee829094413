"""Flags: directives in a prompt, such as ``[Flag: smallest model]``.

`parse` takes the flags off a prompt and says which weights and limits they ask for. What they may
do is the policy's business (`tryage.policy`). The words that act are data, in `lexicon.json`.
"""

from tryage.flags.parser import Flags, parse

__all__ = ["Flags", "parse"]
