"""Lets the tests of this folder, and `benchmarks/`, import `kit` and `victims`."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture(autouse=True)
def _counted(record_property):
    """Tell the long form (`benchmarks/reliability_run.py`) how many cases a test tried."""
    import kit

    kit.TRIED[0] = 0
    yield
    record_property("cases", max(1, kit.TRIED[0]))


@pytest.fixture(scope="session")
def victims():
    """Runs jobs in processes that are killed, or refused the disk, at any moment."""
    if sys.platform != "linux":
        pytest.skip("needs fork, limits on file sizes and audit events as Linux has them")
    from victims import Victims

    running = Victims()
    yield running
    running.close()


@pytest.fixture(scope="session")
def routers(router, table, table_library, tmp_path_factory):
    """Folders of two routers that differ in every file: their provenances tell them apart."""
    from tryage import Router

    root = tmp_path_factory.mktemp("routers")
    other = Router.fit(table.select(range(40)), library=table_library, predictor="nearest")
    folders = []
    for number, one in enumerate((router, other)):
        one.save_pretrained(root / str(number))
        folders.append((root / str(number), one.provenance))
    return folders
