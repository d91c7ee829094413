import pytest

from tryage import Expert, Library, Router, ScoreTable
from tryage.errors import TryageWarning
from tryage.scripts import in_other_scripts, scripts_in

THAI = "เขียนฟังก์ชันที่เรียงลำดับรายการตัวเลข"
CHINESE = "请写一个对数字列表进行排序的函数。"
JAPANESE = "数字のリストを並べ替える関数を書いてください。"
ENGLISH = "Write a function that sorts a list of numbers."


@pytest.mark.parametrize(
    ("prompts", "scripts"),
    [
        ([], ()),
        (["1 + 2 = 3?"], ()),
        ([ENGLISH], ("Latin",)),
        (["Où est l'été ?"], ("Latin",)),
        ([ENGLISH, CHINESE], ("Latin", "Han")),
        ([JAPANESE], ("Kana", "Han")),
        ([ENGLISH * 30 + "α"], ("Latin",)),  # one letter in 1,100
        ([ENGLISH * 20 + "α"], ("Latin", "Greek")),
        (["한국어", "Иди", "አማርኛ"], ("Cyrillic", "Hangul", "Ethiopic")),
    ],
)
def test_scripts_are_found_by_their_letters(prompts, scripts):
    assert scripts_in(prompts) == scripts


@pytest.mark.parametrize(
    ("prompt", "scripts", "is_foreign"),
    [
        (ENGLISH, ("Latin",), False),
        (ENGLISH, ("Han",), True),
        (THAI, ("Latin",), True),
        (THAI, ("Latin", "Thai"), False),
        (JAPANESE, ("Latin", "Han"), True),
        (CHINESE, ("Latin",), True),
        ("abcd αβγ", ("Latin",), False),
        ("abc αβγ", ("Latin",), False),
        ("abc  αβγδ", ("Latin",), True),
        ("12 + 34 = 46 🙂 … 。", ("Latin",), False),
        ("", ("Latin",), False),
        (f"{ENGLISH} {ENGLISH} {THAI} " * 40, ("Latin",), False),
        (f"{ENGLISH} {THAI} {THAI} " * 40, ("Latin",), True),
    ],
)
def test_a_prompt_is_foreign_if_most_of_it_is_in_other_scripts(prompt, scripts, is_foreign):
    expected = [0] * ("Latin" not in scripts) + [1] * is_foreign
    assert in_other_scripts([ENGLISH, prompt], scripts) == expected


@pytest.fixture(scope="module")
def router(table, table_library):
    return Router.fit(table, library=table_library, predictor="clusters")


def test_a_prompt_in_a_new_script_is_out_of_distribution(router, table, tmp_path):
    assert router.provenance["scripts"] == ["Latin"]
    # To the bundled encoder each of these is a few unknown tokens.
    decision = router.route(THAI)
    assert decision.out_of_distribution
    assert decision.question is None
    assert not router.route(table.prompts[0]).out_of_distribution
    router.save_pretrained(tmp_path / "saved")
    assert Router.from_pretrained(tmp_path / "saved").route(THAI).out_of_distribution


def test_a_router_that_does_not_know_its_scripts_flags_none(router):
    old = {name: value for name, value in router.provenance.items() if name != "scripts"}
    flags = [
        r.forecast([THAI], task="text-generation").ood[0]
        for r in (router, router.replace(provenance=old))
    ]
    assert flags[0]
    assert flags[1] == (router.predictors["text-generation"].predict([THAI]).ood[0])


def rows(prompts):
    return [
        {"prompt": prompt, "scores": {"a": float(number % 2), "b": float(number % 3 == 0)}}
        for number, prompt in enumerate(prompts)
    ]


def fit(prompts):
    library = Library([Expert(name=name, model=name) for name in "ab"])
    return Router.fit(ScoreTable.from_rows(rows(prompts)), library=library, predictor="clusters")


WORDS = "river garden list sorted winter value index letter count merge total doctor".split()


def test_fitting_on_prompts_that_the_encoder_cannot_read_warns():
    english = [f"Write about {one} and {two}" for one in WORDS[:5] for two in WORDS[6:10]]
    fit([*english, THAI])  # one of 21
    with pytest.warns(TryageWarning, match="fewer than half of the tokens of 2 of 22 prompts"):
        fit([*english, THAI, THAI[:20]])


@pytest.mark.parametrize(
    ("before", "after"), [("Answer the question: ", ""), ("", " Be short and be kind.")]
)
def test_fitting_on_prompts_that_share_a_template_warns(before, after):
    prompts = [f"{before}{word}{after}" for word in WORDS]
    place, shared = ("begin", before) if before else ("end", after)
    with pytest.warns(TryageWarning) as caught:
        fit(prompts)
    (message,) = {str(warning.message) for warning in caught}
    assert f"all 12 prompts {place} with the same {len(shared)} characters" in message


def test_a_few_shared_words_are_no_template():
    fit([f"Please write of {word} {number}." for number, word in enumerate(WORDS)])
