"""Distillation: fast students of slow teachers, on small models that the tests train themselves."""

import json
import warnings

import numpy as np
import pytest
from typer.testing import CliRunner

from tryage import Expert, Library, Policy, Router, ScoreTable
from tryage.checks import Check
from tryage.cli import app
from tryage.distilling import (
    Distillation,
    PredictionFile,
    distill_parts,
    teach,
    teacher_fingerprint,
)
from tryage.encoders import SentenceEncoder, StaticEncoder
from tryage.errors import (
    EncoderError,
    OptionError,
    OutputFolderError,
    PredictorError,
    PromptError,
    ScoreTableError,
    TryageWarning,
)
from tryage.predictors import TransformerPredictor
from tryage.training import Candidate

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")

FRUIT = "The quiet teacher follows the garden {}, and the winter remembers {}."
CODE = "def total_{}(x):\n    return x + {}\n"
LIBRARY = Library(
    [
        Expert(name="prose", model="org/prose", parameters="1B", license="mit"),
        Expert(name="code", model="org/code", parameters="7B", license="apache-2.0"),
    ]
)
QUICK = {"epochs": 4, "rate": 1e-3, "head_rate": 3e-2, "patience": 4, "batch": 16}


def prompt(number):
    return (FRUIT, CODE)[number % 2].format(number, number * 7 % 97)


def measured(first=0, n=120, kind="scores", **more):
    """`prose` is right on prose, `code` on code; every ninth row measures `prose` alone."""
    rows = []
    for number in range(first, first + n):
        values = {"prose": 0.9 - 0.7 * (number % 2), "code": 0.3 + 0.6 * (number % 2)}
        if number % 9 == 4:
            del values["code"]
        costs = {name: 0.001 * (1 + number % 2) for name in values}
        rows.append({"prompt": prompt(number), kind: values, "costs": costs, **more})
    return ScoreTable.from_rows(rows)


def unlabelled(n=160, first=1000):
    return [prompt(number) for number in range(first, first + n)]


@pytest.fixture(scope="module")
def table():
    return measured()


@pytest.fixture(scope="module")
def teacher(tiny_masked, table):
    predictor = TransformerPredictor(SentenceEncoder(tiny_masked), **QUICK)
    fast = Router.fit(table, library=LIBRARY, predictor="clusters")
    return fast.replace(
        predictors={"text-generation": predictor.fit(table.prompts, table)},
        policy=Policy(max_weights={"size": 0.5}),
        check_rates={"tests": {"prose": (0.9, 0.2), "code": (0.8, 0.1)}},
    )


@pytest.fixture(scope="module")
def student(teacher, table):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", TryageWarning)
        return teacher.distill(unlabelled(), table, student="linear")


def test_a_student_chooses_as_its_teacher_without_its_network(teacher, student):
    new = [prompt(number) for number in range(5000, 5060)]
    theirs = [decision.expert for decision in teacher.route_batch(new)]
    assert [decision.expert for decision in student.route_batch(new)] == theirs
    assert len(set(theirs)) == 2
    assert {one.kind for one in student.predictors.values()} == {"linear"}
    assert student.predictors["text-generation"].encoder is StaticEncoder.bundled()


def test_an_embedding_bag_learns_what_the_teacher_predicts_of_unlabelled_prompts(teacher):
    """Without a table, the teacher's predictions are all that there is."""
    student = teacher.distill(unlabelled())
    new = [prompt(number) for number in range(7000, 7040)]
    theirs = teacher.predict(new, task="text-generation")
    ours = student.predict(new, task="text-generation")
    assert (ours.argmin(axis=1) == theirs.argmin(axis=1)).mean() > 0.9
    assert student.predictors["text-generation"].kind == "embedding-bag"
    assert student.verdicts == {}
    assert student.provenance["distilled"]["agreement"]["text-generation"]["prompts"] == 8


def test_library_scales_policy_and_check_rates_are_the_teachers(teacher, student):
    assert student.library == teacher.library
    assert student.policy == teacher.policy
    assert student.check_rates == teacher.check_rates
    assert student.objective.to_dict() == teacher.objective.to_dict()
    check = Check(lambda prompt, answer: True, name="tests")
    assert student.route(prompt(4), check=check).plan is not None
    flagged = prompt(4) + " [Flag: smallest model]"
    assert student.route(flagged).weights["size"] == 0.5  # as the policy allows at most


def test_all_targets_of_the_teacher_are_learned(teacher, student):
    costs = student.forecast([prompt(2000), prompt(2001)], task="text-generation")
    assert student.predictors["text-generation"].targets_ == ("loss", "cost")
    assert costs.losses.shape == (2, 2)
    mean = student.predictors["text-generation"].predict([prompt(2000), prompt(2001)]).mean
    np.testing.assert_allclose(mean["cost"], [[0.001] * 2, [0.002] * 2], atol=2e-4)


def test_prompts_that_neither_knows_get_the_teachers_averages(teacher, student):
    strange = ["zzqx " * 40]
    averages = teacher.predictors["text-generation"].averages_["loss"]
    decision = student.route(strange[0])
    assert decision.out_of_distribution
    np.testing.assert_allclose(student.predict(strange, task="text-generation")[0], averages)


def test_prompts_unlike_all_that_the_teacher_knows_are_not_learned(teacher):
    strange = [f"zzqx {number} " * 40 for number in range(30)]
    flags = teacher.predictors["text-generation"].predict(strange).ood
    assert flags.any()
    student = teacher.distill([*unlabelled(60), *strange], student="linear")
    stated = student.provenance["distilled"]
    assert stated["unknown_to_teacher"] == flags.sum()
    assert stated["unlabelled"] == 90 - flags.sum()
    assert "left out" in str(student.summary())


def test_the_teachers_weight_mixes_measured_and_predicted_values(teacher):
    """The table says the contrary of what the teacher learned."""
    wrong = measured()
    turned = ScoreTable.from_rows(
        {"prompt": text, "scores": {"prose": float(number % 2), "code": 1.0 - number % 2}}
        for number, text in enumerate(wrong.prompts)
    )
    new = [prompt(number) for number in range(5000, 5040)]
    agrees = {}
    for weight in (0.0, 1.0):
        student = teacher.distill(
            unlabelled(20), turned, student="linear", teacher_weight=weight, holdout=None
        )
        chosen = [decision.expert for decision in student.route_batch(new)]
        theirs = [decision.expert for decision in teacher.route_batch(new)]
        agrees[weight] = np.mean([a == b for a, b in zip(chosen, theirs, strict=True)])
    assert agrees[1.0] == 1.0
    assert agrees[0.0] < 0.4


def test_the_weight_is_chosen_on_prompts_that_the_student_did_not_learn(teacher):
    """Measured results contradict the teacher, so that its weight must be 0."""
    turned = ScoreTable.from_rows(
        {"prompt": prompt(n), "scores": {"prose": float(n % 2), "code": 1.0 - n % 2}}
        for n in range(3000, 3300)
    )
    student = teacher.distill(unlabelled(40), turned, student="linear")
    stated = student.provenance["distilled"]
    assert stated["teacher_weight"] == {"text-generation": 0.0}
    regrets = stated["regret_by_weight"]["text-generation"]
    assert regrets.keys() == {"0", "0.5", "1"}
    assert regrets["0"] == min(regrets.values())
    assert student.verdict.held_out == "holdout"
    assert student.verdict.prompts == 60
    assert student.provenance["prompts"] == 240 + 40 - 2


def test_cells_that_nobody_measured_are_the_teachers(teacher):
    """With every cell of `code` missing but one, the student still knows when it is better."""
    rows = [{"prompt": prompt(n), "scores": {"prose": 0.9 - 0.7 * (n % 2)}} for n in range(80)]
    rows[1]["scores"]["code"] = 0.9
    student = teacher.distill(
        unlabelled(2), rows, student="linear", teacher_weight=0.0, holdout=None
    )
    new = [prompt(number) for number in range(5000, 5040)]
    chosen = [decision.expert for decision in student.route_batch(new)]
    assert chosen == [("prose", "code")[number % 2] for number in range(40)]


def test_measured_values_stay_where_the_teacher_knows_nothing_like_the_prompt(teacher):
    """Even with all the weight on the teacher, whose averages say something else."""
    strange = [f"zzqx {number} " * 40 for number in range(40)]
    flags = teacher.predictors["text-generation"].predict(strange).ood
    rows = [{"prompt": text, "scores": {"prose": 0.05, "code": 1.0}} for text in strange]
    student = teacher.distill(
        unlabelled(40), rows, student="nearest", teacher_weight=1.0, holdout=None
    )
    losses = student.predictors["text-generation"].predict(strange).mean["loss"]
    assert flags.mean() > 0.9
    assert (losses[flags][:, 1] < 0.2).all()
    assert (losses[flags][:, 0] > 0.7).all()


def test_it_says_which_teacher_it_learned_from(teacher, student, tmp_path):
    fingerprint = teacher_fingerprint(teacher.predictors["text-generation"])
    stated = student.provenance["distilled"]
    assert stated["teacher"] == {"text-generation": fingerprint}
    student.save_pretrained(tmp_path / "student")
    card = (tmp_path / "student" / "README.md").read_text(encoding="utf-8")
    for text in (str(student.summary()), card):
        assert f"predictor transformer of a teacher (SHA-256 {fingerprint[:16]}" in text
        assert "Unlabelled prompts: 160." in text
    again = Router.from_pretrained(tmp_path / "student")
    assert again.provenance["distilled"] == stated
    new = [prompt(number) for number in range(5000, 5020)]
    np.testing.assert_array_equal(
        again.predict(new, task="text-generation"), student.predict(new, task="text-generation")
    )


def test_it_warns_that_the_teacher_was_fitted_on_what_judges_the_student(teacher, table):
    with pytest.warns(TryageWarning, match=r"fitted on 100% of the prompts that judge"):
        student = teacher.distill(unlabelled(20), table, student="linear")
    assert student.provenance["distilled"]["seen_by_teacher"] == 1.0
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        other = teacher.distill(unlabelled(20), measured(3000), student="linear")
    with pytest.warns(TryageWarning, match="fitted on"):
        other.evaluate(table)  # prompts that only the teacher was fitted on


def test_a_prompt_of_the_table_is_not_learned_as_an_unlabelled_one_as_well(teacher):
    scored = measured(3000, 60)
    student = teacher.distill(
        [*unlabelled(20), *scored.prompts, *unlabelled(20)], scored, student="linear"
    )
    assert student.provenance["prompts"] == 48 + 20


def test_it_is_evaluated_like_any_router(student):
    test = measured(9000, 60)
    figures = student.evaluate(test).to_dict()
    assert figures["router"]["selection_accuracy"] > 0.95
    assert figures["references"]["best_single"]["selection_accuracy"] < 0.7


def test_a_seed_gives_the_same_student(teacher, table):
    new = [prompt(number) for number in range(5000, 5020)]
    losses = [
        teacher.distill(unlabelled(60), measured(3000, 40), student="hybrid", seed=seed).predict(
            new, task="text-generation"
        )
        for seed in (3, 3)
    ]
    np.testing.assert_array_equal(*losses)


def test_only_tasks_with_a_slow_predictor_are_distilled(teacher, tiny_masked):
    library = Library([*LIBRARY, Expert(name="filler", model="org/filler", task="fill-mask")])
    filled = ScoreTable.from_rows(
        [
            {"prompt": f"The [MASK] is {n}.", "task": "fill-mask", "scores": {"filler": n % 3 / 3}}
            for n in range(20)
        ]
    )
    other = Router.fit(filled, library=Library([library["filler"]]), predictor="clusters")
    both = teacher.replace(
        library=library,
        predictors={**teacher.predictors, **other.predictors},
        objective=Router.from_library(library).objective,
        policy=Policy(),
        check_rates={},
        joint={},
    )
    mixed = [*unlabelled(40), "A [MASK] of its own."]
    student = both.distill(mixed, student="linear")
    assert student.predictors["fill-mask"] is both.predictors["fill-mask"]
    assert student.predictors["text-generation"].kind == "linear"
    assert list(student.provenance["distilled"]["teacher"]) == ["text-generation"]
    with pytest.raises(PromptError, match="no prompt is of task 'text-generation'"):
        both.distill(["A [MASK] of its own."], student="linear")
    with pytest.raises(PromptError, match="prompt 1"):
        both.distill([{"prompt": "x", "task": "summarization"}], student="linear")


def test_two_slow_tasks_get_a_student_each(teacher, tiny_masked):
    encoder = SentenceEncoder(tiny_masked)
    library = Library(
        [*LIBRARY, *(Expert(name=n, model=n, task="fill-mask") for n in ("short", "long"))]
    )
    rows = [
        {
            "prompt": ("A [MASK] {}." if n % 2 else "def f_{}(x): return [MASK] + x").format(n),
            "task": "fill-mask",
            "scores": {"short": float(n % 2), "long": 1.0 - n % 2},
        }
        for n in range(60)
    ]
    names = Library([library["short"], library["long"]])
    filler = Router.fit(
        ScoreTable.from_rows(rows), library=names, predictor="clusters", encoder=encoder
    )
    both = teacher.replace(
        library=library,
        predictors={**teacher.predictors, **filler.predictors},
        objective=Router.from_library(library).objective,
        policy=Policy(),
        check_rates={},
        joint={},
    )
    masked = [{"prompt": row["prompt"].replace("[MASK]", "[MASK] [MASK]")} for row in rows]
    student = both.distill(
        [*unlabelled(40), *masked], [*rows, *_rows_of(measured(3000, 40))], student="linear"
    )
    assert set(student.verdicts) == {"text-generation", "fill-mask"}
    stated = student.provenance["distilled"]
    assert stated["predictors"] == {"text-generation": "transformer", "fill-mask": "clusters"}
    assert len(set(stated["teacher"].values())) == 2
    assert str(student.summary()).count("distilled from the predictor") == 2


def _rows_of(table):
    for row, text in enumerate(table.prompts):
        scores = {
            name: 1.0 - value
            for name, value in zip(table.experts, table.losses[row].tolist(), strict=True)
            if value == value
        }
        yield {"prompt": text, "task": "text-generation", "scores": scores}


def test_predictions_in_a_file_are_not_made_again(teacher, tmp_path, monkeypatch):
    predictor = teacher.predictors["text-generation"]
    file = PredictionFile(tmp_path / "predictions.jsonl")
    texts = unlabelled(600)
    whole = teach(predictor, texts, "text-generation")

    def cut(name, done, total):
        if done >= 256:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        teach(predictor, texts, "text-generation", file=file, progress=cut)
    lines = file.path.read_bytes().splitlines(keepends=True)
    assert len(lines) == 256
    assert b"garden" not in b"".join(lines)
    file.path.write_bytes(b"".join(lines[:-1]) + lines[-1][:20])  # as a killed process leaves it
    calls = []
    predict = TransformerPredictor.predict

    def counted(self, prompts):
        calls.extend(prompts)
        return predict(self, prompts)

    monkeypatch.setattr(TransformerPredictor, "predict", counted)
    steps = []
    again = teach(
        predictor, texts, "text-generation", file=file, progress=lambda *step: steps.append(step)
    )
    assert len(calls) == 600 - 255
    assert steps[0] == ("teacher: text-generation", 255, 600)
    assert steps[-1][1] == 600
    np.testing.assert_allclose(again.mean["loss"], whole.mean["loss"], atol=1e-4)
    assert again.prompts == whole.prompts == tuple(texts)


def test_a_file_of_another_teacher_or_kind_is_refused(teacher, tmp_path):
    predictor = teacher.predictors["text-generation"]
    file = PredictionFile(tmp_path / "predictions.jsonl")
    lessons = teach(predictor, unlabelled(2), "text-generation")
    file.add("f" * 64, "text-generation", lessons)
    with pytest.raises(OptionError, match=r"of the teacher ffffffffffff, and this one is [0-9a-f]"):
        teacher.distill(unlabelled(4), student="linear", predictions=file.path)
    prompts = tmp_path / "prompts.jsonl"
    prompts.write_text(json.dumps({"prompt": "x"}) + "\n")
    with pytest.raises(OptionError, match="no file of a teacher's predictions"):
        teacher.distill(unlabelled(4), student="linear", predictions=prompts)
    assert prompts.read_text() == '{"prompt": "x"}\n'


def test_what_cannot_be_distilled_is_said(teacher, table):
    fast = Router.fit(table, library=LIBRARY, predictor="clusters")
    with pytest.raises(PredictorError, match=r"fast already \(clusters for text-generation\)"):
        fast.distill(unlabelled(3))
    with pytest.raises(PredictorError, match="fitted on no results"):
        Router.from_library(LIBRARY).distill(unlabelled(3))
    with pytest.raises(PromptError, match="no prompts for the teacher"):
        teacher.distill([])
    with pytest.raises(PromptError, match="prompt 2"):
        teacher.distill(["x", " "])
    with pytest.raises(ScoreTableError, match="'stranger', which the library"):
        teacher.distill(["x"], [{"prompt": "y", "scores": {"stranger": 1.0, "code": 0.0}}])
    with pytest.raises(ScoreTableError, match="'prose'"):
        teacher.distill(["x"], [{"prompt": "y", "scores": {"code": 0.0}}])
    with pytest.raises(ScoreTableError, match="holds losses, and the teacher was fitted on scores"):
        teacher.distill(["x"], measured(kind="losses"))
    with pytest.raises(OptionError, match=r"weight of 1\.5"):
        teacher.distill(["x"], teacher_weight=1.5)
    for kind in ("transformer", "auto", "random"):
        with pytest.raises(OptionError, match=f"student of kind '{kind}'"):
            teacher.distill(["x"], student=kind)
    with pytest.raises(PredictorError, match="unknown predictor 'linaer'"):
        teacher.distill(["x"], student="linaer")
    strange = [f"zzqx {number} " * 40 for number in range(5)]
    with pytest.raises(PromptError, match=r"all 5 prompts .* out of distribution"):
        teacher.distill(strange, student="linear")


def test_a_student_on_a_language_model_is_refused(teacher, tiny_masked):
    with pytest.raises(OptionError, match="is to be fast"):
        teacher.distill(["x"], encoder=tiny_masked)


def test_a_teacher_without_its_encoder_is_said(table, tiny_masked, tmp_path):
    encoder = SentenceEncoder(tiny_masked)
    slow = Router.fit(table, library=LIBRARY, predictor="clusters", encoder=encoder)
    slow.predictors["text-generation"].encoder = SentenceEncoder(tmp_path / "gone")
    with pytest.raises(EncoderError, match="gone"):
        slow.distill(unlabelled(3), student="linear")


def test_a_benchmark_may_set_the_student(teacher):
    how = Distillation(Candidate("linear", {"features": 32}), StaticEncoder.bundled())
    parts = distill_parts(teacher, unlabelled(40), None, how)
    assert parts["predictors"]["text-generation"].features == 32


@pytest.fixture(scope="module")
def files(teacher, tmp_path_factory):
    folder = tmp_path_factory.mktemp("distilling")
    teacher.save_pretrained(folder / "teacher")
    lines = [json.dumps({"prompt": text}) + "\n" for text in unlabelled(60)]
    (folder / "prompts.jsonl").write_text("".join(lines), encoding="utf-8")
    measured(3000, 60).write(folder / "scores.jsonl")
    return folder


def run(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def test_the_command_writes_a_router(files):
    done = run(
        "distill", files / "teacher", files / "prompts.jsonl", "--table", files / "scores.jsonl",
        "--student", "linear", "--out", files / "student", "--json",
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    printed = json.loads(done.stdout)
    assert printed["predictor"] == "linear"
    assert printed["distilled"]["unlabelled"] == 60
    assert printed["verdicts"]["text-generation"]["held_out"] == "holdout"
    made = Router.from_pretrained(files / "student")
    assert made.provenance["distilled"] == printed["distilled"]
    assert not list(files.glob("*.predictions.jsonl"))


def test_the_command_prints_progress_and_teacher_for_people(files):
    done = run(
        "distill", files / "teacher", files / "prompts.jsonl", "--student", "linear",
        "--out", files / "student-2", "--predictions", files / "kept.jsonl",
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    assert "Distilled from the predictor transformer of a teacher (SHA-256 " in done.stdout
    assert "teacher: text-generation: 60 of 60" in done.stderr
    assert "student: text-generation: 1 of 1" in done.stderr
    assert len((files / "kept.jsonl").read_bytes().splitlines()) == 60


def test_an_interrupted_command_keeps_predictions_and_leaves_no_router(files, monkeypatch):
    from tryage.distilling import distilling

    def interrupted(*_, **__):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(distilling, "train_student", interrupted)
        done = run(
            "distill", files / "teacher", files / "prompts.jsonl", "--student", "linear",
            "--out", files / "third",
        )  # fmt: skip
    assert done.exit_code == 130
    assert "finished work is kept" in done.stderr
    assert not (files / "third").exists()
    store = files / "third.predictions.jsonl"
    assert len(store.read_bytes().splitlines()) == 60
    before = store.read_bytes()
    assert run(
        "distill", files / "teacher", files / "prompts.jsonl", "--student", "linear",
        "--out", files / "third", "--predictions", store,
    ).exit_code == 0  # fmt: skip
    assert store.read_bytes() == before


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["open7", "prompts.jsonl"], "fast already"),
        (["teacher", "missing.jsonl"], "does not exist"),
        (["teacher", "prompts.jsonl", "--student", "transformer"], "does not decide fast"),
        (["teacher", "prompts.jsonl", "--teacher-weight", "2"], "weight of 2"),
        (["teacher", "prompts.jsonl", "--predictions", "teacher"], "is a folder"),
    ],
)
def test_wrong_input_is_one_line(files, monkeypatch, arguments, message):
    monkeypatch.chdir(files)
    done = run("distill", *arguments, "--out", "none")
    assert done.exit_code == 2
    assert message in " ".join(done.stderr.split())
    assert "Traceback" not in done.stderr
    assert not (files / "none").exists()


def test_a_folder_that_is_no_router_is_refused_before_the_teacher_predicts(files):
    (files / "other").mkdir(exist_ok=True)
    (files / "other" / "notes.txt").write_text("mine")
    done = run("distill", files / "teacher", files / "prompts.jsonl", "--out", files / "other")
    assert done.exit_code == 2
    assert (files / "other" / "notes.txt").read_text() == "mine"
    assert not (files / "other.predictions.jsonl").exists()


def test_a_full_folder_is_named(teacher, files):
    with pytest.raises(OutputFolderError):
        teacher.save_pretrained(files / "other")
