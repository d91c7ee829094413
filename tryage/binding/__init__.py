"""What both adapters share: a router bound to callables, and what is read of their inputs."""

from tryage.binding.bound import Binding, flag_mode, passing_on
from tryage.binding.fields import BOUND, Bound
from tryage.binding.inputs import (
    LAST_MESSAGE,
    TOP,
    Change,
    FlagsFrom,
    check_arguments,
    own_text,
    strip_own,
)

__all__ = [
    "BOUND",
    "LAST_MESSAGE",
    "TOP",
    "Binding",
    "Bound",
    "Change",
    "FlagsFrom",
    "check_arguments",
    "flag_mode",
    "own_text",
    "passing_on",
    "strip_own",
]
