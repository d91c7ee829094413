"""What both adapters share: a router bound to callables, and what is read of their inputs."""

from tryage.binding.binding import Binding, joined_goals
from tryage.binding.checking import (
    check_arguments,
    check_kinds,
    checked_names,
    each_expert,
    wrong_expert,
)
from tryage.binding.fields import BOUND, Bound, options_of
from tryage.binding.inputs import (
    LAST_MESSAGE,
    TOP,
    Change,
    FlagsFrom,
    check_flags_from,
    own_text,
    strip_own,
)
from tryage.binding.passing import flag_mode, passing_on

__all__ = [
    "BOUND",
    "LAST_MESSAGE",
    "TOP",
    "Binding",
    "Bound",
    "Change",
    "FlagsFrom",
    "check_arguments",
    "check_flags_from",
    "check_kinds",
    "checked_names",
    "each_expert",
    "flag_mode",
    "joined_goals",
    "options_of",
    "own_text",
    "passing_on",
    "strip_own",
    "wrong_expert",
]
