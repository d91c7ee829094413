"""``tryage`` and ``python -m tryage`` run the command line.

Its modules take a moment to import, in which Ctrl-C is to end the program as it does later. So
this one imports none of them at its top.
"""

from __future__ import annotations

import _thread
import os
import signal
import sys
import threading
from types import FrameType

_AGAIN = 0.02
"""Seconds after which an interrupt that nothing could catch is raised again."""


def _interrupted(_signal: int, _frame: FrameType | None) -> None:
    """End at once: an exception would become another one inside an import."""
    sys.stderr.write("error: interrupted\n")
    sys.stderr.flush()
    os._exit(130)


def _interrupt() -> None:
    """Interrupt the main thread, also while it sleeps or waits, where the platform can."""
    if hasattr(signal, "pthread_kill"):
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
    else:
        _thread.interrupt_main()


def _raise_interrupts_again() -> None:
    """Make an interrupt last that comes inside a destructor or a weak reference's callback.

    Python prints exceptions from there and drops them, so that Ctrl-C would do nothing.
    """
    report = sys.unraisablehook
    coming = threading.Event()

    def interrupt() -> None:
        coming.clear()
        _interrupt()

    def hook(dropped: sys.UnraisableHookArgs) -> None:
        if not issubclass(dropped.exc_type, KeyboardInterrupt):
            report(dropped)
            return
        if coming.is_set():
            return
        coming.set()
        # From another thread and later, so that it does not come inside this hook.
        again = threading.Timer(_AGAIN, interrupt)
        again.daemon = True
        again.start()

    sys.unraisablehook = hook


def main() -> None:
    """Run the command line."""
    # A program that was started in the background may have been told to ignore the signal.
    waits = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if waits:
        signal.signal(signal.SIGINT, _interrupted)
    from tryage.cli import main as run

    if waits:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        _raise_interrupts_again()
    run()


if __name__ == "__main__":
    main()
