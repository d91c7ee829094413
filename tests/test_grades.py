import pytest

from tryage.scores import readability


def test_the_index_is_that_of_the_formula():
    # 9 words of 35 letters in 2 sentences.
    text = "The quick brown fox jumps. Over the lazy dog!"
    letters = sum(c.isalpha() for c in text)
    assert readability(text) == pytest.approx(4.71 * letters / 9 + 0.5 * 9 / 2 - 21.43)


def test_harder_text_has_a_higher_grade():
    hard = (
        "Notwithstanding considerable methodological heterogeneity, epidemiological investigations "
        "consistently demonstrate statistically significant associations."
    )
    assert readability(hard) > 20 > 3 > readability("The cat sat. It was fat. It ran.")


@pytest.mark.parametrize("text", ["", "...", " \n "])
def test_text_without_words_has_grade_zero(text):
    assert readability(text) == 0.0
