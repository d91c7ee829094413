"""What the headers of safetensors files say about a model's weights."""

import numpy as np
import pytest
from safetensors import SafetensorError
from safetensors.numpy import save_file

from tryage.checkpoints import (
    TensorHeader,
    is_complete,
    missing_shards,
    parameter_count,
    tensor_headers,
    weight_bytes,
)


@pytest.fixture
def folder(tmp_path):
    save_file(
        {"x": np.zeros((3, 5), np.float32), "n": np.zeros(2, np.int64)}, tmp_path / "a.safetensors"
    )
    save_file(
        {"y": np.zeros(7, np.float16), "s": np.zeros((), np.float32)}, tmp_path / "b.safetensors"
    )
    return tmp_path


def test_tensors_and_parameters_of_a_file(folder):
    headers = sorted(tensor_headers(folder / "a.safetensors"))
    assert headers == [TensorHeader("F32", 15), TensorHeader("I64", 2)]
    assert parameter_count(folder / "a.safetensors") == 17
    assert parameter_count(folder / "b.safetensors") == 8


@pytest.mark.parametrize(
    ("dtype", "size"),
    [
        ("auto", 15 * 4 + 2 * 8 + 7 * 2 + 4),
        ("bfloat16", 15 * 2 + 2 * 8 + 7 * 2 + 2),
        ("float32", 15 * 4 + 2 * 8 + 7 * 4 + 4),
        ("float64", 15 * 8 + 2 * 8 + 7 * 8 + 8),
    ],
)
def test_floats_are_read_as_the_dtype_says_and_integers_stay(folder, dtype, size):
    assert weight_bytes(folder, dtype) == size


@pytest.mark.parametrize("damage", [lambda data: data[:-1], lambda data: b"\xff" * 64])
def test_damaged_files_count_nothing_for_memory_and_are_an_error_else(folder, damage):
    path = folder / "a.safetensors"
    path.write_bytes(damage(path.read_bytes()))
    assert weight_bytes(folder) == 7 * 2 + 4
    with pytest.raises(SafetensorError):
        parameter_count(path)


def test_a_folder_is_complete_with_all_shards_and_a_configuration(tmp_path):
    assert not is_complete(tmp_path)
    (tmp_path / "config.json").write_text("{}")
    assert not is_complete(tmp_path)
    for number in (1, 2, 3):
        assert missing_shards(tmp_path) == (None if number == 1 else f"{number - 1} of 3")
        (tmp_path / f"model-0000{number}-of-00003.safetensors").touch()
    assert missing_shards(tmp_path) is None
    assert is_complete(tmp_path)
    (tmp_path / "config.json").unlink()
    assert not is_complete(tmp_path)
