"""What both adapters share: a router bound to callables, and what is read of their inputs."""

from tryage.binding.binding import Binding
from tryage.binding.checking import (
    check_arguments,
    check_kinds,
    check_options,
    checked_names,
    each_expert,
    wrong_expert,
)
from tryage.binding.fields import (
    CallOptions,
    DecidingModel,
    DispatchingModel,
    RouterOptions,
    bind,
    made_like,
)
from tryage.binding.goals import joined_goals
from tryage.binding.inputs import (
    LAST_MESSAGE,
    TOP,
    Change,
    FlagsFrom,
    check_flags_from,
    check_text_from,
    own_text,
    strip_own,
)
from tryage.binding.local import LocalModel, tells_logprobs
from tryage.binding.media import is_text_type, text_of, type_of_name
from tryage.binding.off_loop import off_loop
from tryage.binding.passing import (
    astream_passing_on,
    flag_mode,
    known_query,
    passed_query,
    passing_on,
    stream_passing_on,
)
from tryage.binding.sent import text_tokens
from tryage.binding.staying import Conversation, Sticky, holds_encrypted, stay
from tryage.binding.turns import with_limiter
from tryage.binding.views import Views

__all__ = [
    "LAST_MESSAGE",
    "TOP",
    "Binding",
    "CallOptions",
    "Change",
    "Conversation",
    "DecidingModel",
    "DispatchingModel",
    "FlagsFrom",
    "LocalModel",
    "RouterOptions",
    "Sticky",
    "Views",
    "astream_passing_on",
    "bind",
    "check_arguments",
    "check_flags_from",
    "check_kinds",
    "check_options",
    "check_text_from",
    "checked_names",
    "each_expert",
    "flag_mode",
    "holds_encrypted",
    "is_text_type",
    "joined_goals",
    "known_query",
    "made_like",
    "off_loop",
    "own_text",
    "passed_query",
    "passing_on",
    "stay",
    "stream_passing_on",
    "strip_own",
    "tells_logprobs",
    "text_of",
    "text_tokens",
    "type_of_name",
    "with_limiter",
    "wrong_expert",
]
