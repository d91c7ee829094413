"""A labelling run on a local Ray, in a process of its own; writes the summary as JSON.

The first actor to begin the second expert of the library ends itself, once, where a file to say
so may be made: as a machine that goes away would.
"""

import json
import os
import sys
from pathlib import Path

import ray

from tryage import Library
from tryage.labeling import label
from tryage.labeling.likelihood import Likelihood


class Mortal(Likelihood):
    """A method that takes its first worker down in the middle."""

    def measure(self, runtime, name, pipeline, rows):
        """Measure rows, unless this process is to die."""
        marker = Path(os.environ["DEATH"])
        if name == runtime.library.names[1]:
            try:
                marker.touch(exist_ok=False)
            except FileExistsError:
                pass
            else:
                os._exit(1)
        yield from super().measure(runtime, name, pipeline, rows)


def main() -> None:
    """Run and report."""
    library, prompts, out, result_file = map(Path, sys.argv[1:])
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])
    if "DEATH" in os.environ:
        from tryage.labeling import api

        api.Likelihood = Mortal
    summary = label(Library.read(library), prompts, out, engine="ray", workers=2)
    result_file.write_text(json.dumps(summary.to_dict()))


if __name__ == "__main__":
    main()
