import pytest

from tryage import Library
from tryage.errors import ExpertError, PromptError, TaskError
from tryage.runtime import Runtime
from tryage.runtime.fill_mask import fitting_word


@pytest.fixture(scope="module")
def runtime(tiny_library) -> Runtime:
    return Runtime(Library.read(tiny_library))


@pytest.mark.parametrize(
    ("expert", "prompt", "parts"),
    [
        (
            "prose-bert",
            "The quiet [MASK] follows the river.",
            ("The quiet ", " follows the river."),
        ),
        ("prose-bert", "[MASK] quiet river", ("", " quiet river")),
        ("code-bert", "    return [MASK] - count\n", ("    return ", " - count\n")),
        ("code-bert", "def a([MASK], b):", ("def a(", ", b):")),
    ],
)
def test_a_mark_becomes_one_word_and_the_rest_stays(runtime, expert, prompt, parts) -> None:
    answer = runtime.run(expert, prompt)
    assert answer.text.startswith(parts[0])
    assert answer.text.endswith(parts[1])
    word = answer.text[len(parts[0]) : len(answer.text) - len(parts[1])]
    assert word.strip() == word != ""
    assert answer.completion_tokens == 1


def test_all_marks_are_filled(runtime) -> None:
    answer = runtime.run("prose-bert", "The [MASK] river [MASK] the [MASK].")
    assert "[MASK]" not in answer.text
    assert answer.completion_tokens == 3
    assert answer.text.startswith("The ")


def test_the_expert_agrees_with_its_own_pipeline(runtime) -> None:
    import transformers

    pipeline = runtime.load("prose-bert")
    own = transformers.pipeline(
        "fill-mask", model=pipeline.model, tokenizer=pipeline.tokenizer, device="cpu"
    )
    best = own("The quiet [MASK] follows the river.", top_k=1)[0]["token_str"]
    text = runtime.run("prose-bert", "The quiet [MASK] follows the river.").text
    assert text == f"The quiet {best} follows the river."


def test_a_mask_token_of_the_experts_own_is_a_mark_too(runtime) -> None:
    neutral = runtime.run("code-bert", "def [MASK]([MASK]):")
    assert runtime.run("code-bert", "def <mask>([MASK]):").text == neutral.text


def test_a_long_prompt_is_read_in_windows(runtime) -> None:
    text = "The old river follows the garden. " * 60
    answer = runtime.run("prose-bert", "[MASK] " + text + "The [MASK] river.")
    assert not answer.truncated
    assert answer.completion_tokens == 2
    assert text in answer.text
    assert "[MASK]" not in answer.text


@pytest.mark.parametrize("prompt", ["", "no mark here"])
def test_a_prompt_without_marks_is_refused(runtime, prompt) -> None:
    with pytest.raises(PromptError):
        runtime.run("prose-bert", prompt)


def test_messages_are_not_for_fill_mask(runtime) -> None:
    with pytest.raises(TaskError, match="takes text, not messages"):
        runtime.run("prose-bert", [{"role": "user", "content": "[MASK]"}])


def test_a_tokenizer_without_a_mask_token_is_a_named_error(tiny_library, monkeypatch) -> None:
    pipeline = Runtime(Library.read(tiny_library)).load("prose-bert")
    pipeline.tokenizer.mask_token = None
    with pytest.raises(ExpertError, match="has no mask token"):
        pipeline.fill("a [MASK]")


async def test_async_answers_are_the_same(runtime) -> None:
    prompt = "The [MASK] river."
    assert (await runtime.arun("prose-bert", prompt)).text == runtime.run("prose-bert", prompt).text
    answer = await runtime.arun("code-gpt", "def", max_new_tokens=4)
    assert answer.text == runtime.run("code-gpt", "def", max_new_tokens=4).text


def test_guesses_that_cannot_stand_alone_are_passed_over() -> None:
    assert fitting_word(["##ing", "river"], before=" ") == "river"
    assert fitting_word(["##ing", "river"], before="k") == "ing"
    assert fitting_word([" river"], before=" ") == "river"
    assert fitting_word([" river"], before=",") == " river"
    assert fitting_word(["", "\ufffd", "x"], before="") == "x"
    assert fitting_word(["##s", " "], before="") == "##s"
