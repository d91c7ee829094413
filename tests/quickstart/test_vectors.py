import numpy as np

from tryage.encoders import load_encoder
from tryage.quickstart.vectors import train_encoder

CODE = ["for (int i = 0; i < count; ++i) { total += values[i]; }\n" * 40]
PROSE = ["The license grants every person the right to copy the work freely. " * 40]


def test_texts_of_a_kind_lie_close():
    encoder = train_encoder([CODE, PROSE], dim=4, vocabulary=300)
    code, also_code, prose = encoder.encode(
        ["for (int i = 0; i < 3; ++i)", "total += values[i];", "the right to copy the work"]
    )
    assert code @ also_code > code @ prose
    assert np.allclose(np.linalg.norm([code, prose], axis=1), 1.0, atol=1e-5)


def test_marks_say_nothing():
    encoder = train_encoder([CODE, PROSE], dim=4, vocabulary=300)
    marked, plain = encoder.encode(["[MASK]total", "total"])
    assert np.array_equal(marked, plain)
    assert not encoder.encode(["[MASK]"]).any()


def test_it_is_saved_and_loaded_as_the_bundled_one_is(tmp_path):
    encoder = train_encoder([CODE, PROSE], dim=4, vocabulary=300)
    loaded = load_encoder(encoder.save(tmp_path), tmp_path)
    assert np.array_equal(loaded.encode(PROSE), encoder.encode(PROSE))
    assert loaded.name == "quickstart"


def test_the_same_text_gives_the_same_vectors():
    one, two = (train_encoder([CODE, PROSE], dim=4, vocabulary=300) for _ in range(2))
    assert np.allclose(one.encode(CODE + PROSE), two.encode(CODE + PROSE), atol=1e-3)
