"""``tryage`` and ``python -m tryage`` run the command line.

Its modules take a moment to import, in which Ctrl-C is to end the program as it does later. So
this one imports none of them at its top.
"""

from __future__ import annotations

import os
import signal
import sys
from types import FrameType


def _interrupted(_signal: int, _frame: FrameType | None) -> None:
    """End at once: an exception would become another one inside an import."""
    sys.stderr.write("error: interrupted\n")
    sys.stderr.flush()
    os._exit(130)


def main() -> None:
    """Run the command line."""
    # A program that was started in the background may have been told to ignore the signal.
    waits = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if waits:
        signal.signal(signal.SIGINT, _interrupted)
    from tryage.cli import main as run

    if waits:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    run()


if __name__ == "__main__":
    main()
