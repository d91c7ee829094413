"""Run the experiment, or one step of it: ``python -m paper [train|measure|choose|render]``."""

from __future__ import annotations

import argparse
import logging
import sys
from pathlib import Path

from data import data_folder

from paper.plan import Plan, smoke
from paper.training import train_all

WORK = Path.home() / ".cache" / "tryage" / "paper"


def main() -> None:
    """Read the arguments and walk through the steps asked for."""
    parser = argparse.ArgumentParser(description=str(__doc__).split("\n", 1)[0])
    parser.add_argument("step", nargs="?", choices=("train",), default="train")
    parser.add_argument("--work", type=Path, default=WORK, help="folder for weights and logs")
    parser.add_argument("--smoke", action="store_true", help="a minute's walk through everything")
    args = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    plan = smoke() if args.smoke else Plan()
    train_all(plan, args.work, data_folder() / "corpora", tiny=args.smoke)


if __name__ == "__main__":
    main()
