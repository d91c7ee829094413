"""Routers that are saved over and over while others read them, and by two at once."""

import threading

import kit
import pytest
from kit import cases

from tryage import Router
from tryage.errors import TryageError


@pytest.mark.parametrize("way", ["exchange", "step aside"])
def test_readers_during_saves_get_a_whole_router(way, victims, routers, tmp_path):
    """Two processes save two routers into one folder; every load is one of the two."""
    target = tmp_path / "r"
    victims.run("save", routers[0][0], target)
    times = cases(60, counted=False)
    writers = [victims.start("save", folder, target, times, way) for folder, _ in routers]
    reads = [0, 0]
    loads = 0
    while any(writer.poll() is None for writer in writers):
        provenance = Router.from_pretrained(target).provenance
        [number] = [n for n, (_, whole) in enumerate(routers) if provenance == whole]
        reads[number] += 1
        loads += 1
        kit.TRIED[0] += 1
    assert [writer.communicate(timeout=60) and writer.returncode for writer in writers] == [0, 0]
    assert min(reads) > 0, loads
    victims.run("save", routers[1][0], target)
    assert Router.from_pretrained(target).provenance == routers[1][1]
    assert [path.name for path in tmp_path.iterdir()] == ["r"]


def test_threads_save_and_load_one_folder(routers, tmp_path):
    loaded = [Router.from_pretrained(folder) for folder, _ in routers]
    loaded[0].save_pretrained(tmp_path / "r")
    errors = []
    end = threading.Event()

    def save(router):
        for _ in range(cases(15)):
            try:
                router.save_pretrained(tmp_path / "r")
            except (OSError, TryageError) as error:
                errors.append(error)

    def load():
        while not end.is_set():
            try:
                provenance = Router.from_pretrained(tmp_path / "r").provenance
            except (OSError, TryageError) as error:
                errors.append(error)
            else:
                errors.extend([] if provenance in [whole for _, whole in routers] else ["mixed"])

    reader = threading.Thread(target=load)
    writers = [threading.Thread(target=save, args=(router,)) for router in loaded]
    for thread in (reader, *writers):
        thread.start()
    for writer in writers:
        writer.join()
    end.set()
    reader.join()
    assert errors == []
    assert [path.name for path in tmp_path.iterdir()] == ["r"]


def test_feedback_of_two_processes_is_kept_to_the_last_line(victims, tmp_path):
    from tryage import ScoreTable

    path = tmp_path / "feedback.jsonl"
    prompts = [[f"{name} {n} {'x' * 500}" for n in range(cases(60))] for name in ("one", "two")]
    writers = [victims.start("feedback", path, *part) for part in prompts]
    acknowledged = [writer.communicate(timeout=120)[0].count("\n") for writer in writers]
    assert acknowledged == [len(part) for part in prompts]
    table = ScoreTable.read(path)
    assert sorted(table.prompts) == sorted(prompts[0] + prompts[1])
