"""Routes a file on a local Ray, in a process of its own: a folder holds router, prompts, output.

The first worker to get the third block ends itself, once: as a machine that goes away would.
"""

import os
import sys
from pathlib import Path

from ray import cloudpickle

from tryage.cli import app, route_file
from tryage.cli.route_lines import Order

FOLDER = Path(sys.argv[1]).resolve()


class Mortal(Order):
    """An order that takes its first worker down in the middle."""

    def lines(self, router, block):
        """Decide a block, unless this process is to die."""
        if "river 205" in block[-1].prompt:
            try:
                (FOLDER / "dead").touch(exist_ok=False)
            except FileExistsError:
                pass
            else:
                os._exit(1)
        return super().lines(router, block)


def main() -> None:
    """Run the command."""
    route_file.BLOCK = 66
    sys.modules["tryage.cli.route"].Order = Mortal
    cloudpickle.register_pickle_by_value(sys.modules[__name__])
    paths = ("--input", "p.jsonl", "--router", "r", "--output", "d.jsonl")
    os.chdir(FOLDER)
    app(["route", *paths, "--engine", "ray", "--workers", "2"])


if __name__ == "__main__":
    main()
