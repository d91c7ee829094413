"""Tables that other programs write, each in a small example of its public format."""

import json
import warnings

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from tryage import ScoreTable
from tryage.cli import app
from tryage.errors import ScoreTableError, TryageWarning

runner = CliRunner()


def read(source, **options):
    """Return the table and what was said about it."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        table = ScoreTable.read(source, **options)
    assert all(warning.category is TryageWarning for warning in caught)
    assert len(caught) <= 1
    return table, str(caught[0].message) if caught else ""


def scores(table):
    return {
        prompt: {
            expert: pytest.approx(1.0 - loss)
            for expert, loss in zip(table.experts, row, strict=True)
            if loss == loss
        }
        for prompt, row in zip(table.prompts, table.losses.tolist(), strict=True)
    }


def of(table, target):
    return table.targets[target].tolist()


WIDE = "id,prompt,category,atlas,brook\n1,Two plus two?,math,0.5,1\n2,A poem,verse,,0.25\n"
WIDE_SCORES = {"Two plus two?": {"atlas": 0.5, "brook": 1.0}, "A poem": {"brook": 0.25}}


def write(tmp_path, name, text, encoding="utf-8"):
    path = tmp_path / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding=encoding)
    return path


def write_lines(path, entries):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(entry) + "\n" for entry in entries))
    return path


# Rows


@pytest.mark.parametrize(
    ("name", "text", "part"),
    [
        ("t.csv", WIDE, ""),
        ("t.csv", "\ufeff" + WIDE, ""),
        ("t.tsv", WIDE.replace(",", "\t"), ""),
        ("t.csv", WIDE.replace(",", "\t"), "separated by a tab"),
        ("t.csv", WIDE.replace(",", ";"), "separated by a semicolon"),
        (
            "t.csv",
            WIDE.replace(",", ";").replace("0.", "0,"),
            "separated by a semicolon; decimal commas",
        ),
        ("t.csv", WIDE.replace("0.5,1", "50,100").replace("0.25", "25"), "from 0 to 100"),
        ("t.csv", WIDE.replace("0.5,1", "50%,100%").replace("0.25", "25%"), ""),
    ],
)
def test_a_column_per_expert_in_text(tmp_path, name, text, part):
    table, note = read(write(tmp_path, name, text))
    assert scores(table) == WIDE_SCORES
    assert table.ids == ("1", "2")
    assert table.groups == ("math", "verse")
    assert part in note
    assert "experts atlas, brook" in note
    assert "group = category" in note
    assert ("separated" in note, "decimal" in note, "100" in note) == (
        "separated" in part,
        "decimal" in part,
        "100" in part,
    )


def test_a_file_of_a_windows_spreadsheet_in_utf_16(tmp_path):
    table, _ = read(write(tmp_path, "t.tsv", WIDE.replace(",", "\t"), encoding="utf-16"))
    assert scores(table) == WIDE_SCORES


def test_what_the_caller_says_is_not_said_again(tmp_path):
    path = write(tmp_path, "t.csv", WIDE.replace("category", "group"))
    table, note = read(path, experts=["atlas", "brook"])
    assert scores(table) == WIDE_SCORES
    assert note == ""


def test_other_names_and_costs_by_name(tmp_path):
    text = (
        "Frage,A acc,A $,B acc,B $,year\nWas?,0.5,0.001,1,0.01,2024\nWer?,0,0.002,0.5,0.02,2024\n"
    )
    columns = {
        "prompt": "Frage",
        "scores.a": "A acc",
        "costs.a": "A $",
        "scores.b": "B acc",
        "costs.b": "B $",
    }
    table, note = read(write(tmp_path, "t.csv", text), columns=columns)
    assert scores(table) == {"Was?": {"a": 0.5, "b": 1.0}, "Wer?": {"a": 0.0, "b": 0.5}}
    assert of(table, "cost") == [[0.001, 0.01], [0.002, 0.02]]
    assert note.endswith("left out: year")


@pytest.mark.parametrize("cost", ["{}_cost", "cost_{}", "{}|total_cost", "{} cost", "costs.{}"])
def test_costs_are_recognized_beside_the_experts(tmp_path, cost):
    text = f"prompt,gpt-4,{cost.format('gpt-4')},small,answer\nWhy?,1,0.02,0.5,Because\n"
    table, note = read(write(tmp_path, "t.csv", text))
    assert table.experts == ("gpt-4", "small")
    assert table.targets["cost"][0, 0] == 0.02
    assert np.isnan(table.targets["cost"][0, 1])
    assert "costs of gpt-4" in note
    assert "left out: answer" in note


@pytest.mark.parametrize("key", ["costs", "cost", "Cost", "COSTS "])
def test_costs_of_a_list_of_lines_whatever_their_name(tmp_path, key):
    lines = [{"prompt": "Why?", "scores": {"a": 1, "b": 0.5}, key: {"a": 0.02, "b": 0.1}}]
    table, note = read(write(tmp_path, "t.json", json.dumps(lines)))
    assert of(table, "cost") == [[0.02, 0.1]]
    assert (f"costs = {key}" in note) == (key != "costs")


def test_costs_under_two_names_are_not_mixed(tmp_path):
    lines = [{"prompt": "Why?", "scores": {"a": 1}, "Cost": {"a": 9.0}, "costs": {"a": 0.02}}]
    table, note = read(write(tmp_path, "t.json", json.dumps(lines)))
    assert of(table, "cost") == [[0.02]]
    assert note.endswith("left out: Cost")


def test_one_cell_that_is_no_number_does_not_leave_an_expert_out(tmp_path):
    path = write(tmp_path, "t.csv", "prompt,a,b,why\nOne,1,0,7\nTwo,foo,1,no\nThree,0,1,so\n")
    with pytest.raises(ScoreTableError, match=r"line 3: a: 'foo' is not a number"):
        read(path)
    path = write(tmp_path, "t.csv", "prompt,a,b,why\nOne,1,0,7\nTwo,,1,no\n")
    table, note = read(path)
    assert table.experts == ("a", "b")
    assert note.endswith("left out: why")


def test_losses_by_name_and_by_word(tmp_path):
    named, _ = read(write(tmp_path, "n.csv", "prompt,a_loss,b_loss\nWhy?,1.5,0.5\n"))
    assert (named.kind, named.experts) == ("losses", ("a", "b"))
    stated, _ = read(write(tmp_path, "s.csv", "prompt,a,b\nWhy?,1.5,0.5\n"), kind="losses")
    assert stated.losses.tolist() == named.losses.tolist() == [[1.5, 0.5]]


LONG = [
    {"question": "Two plus two?", "model": "atlas", "accuracy": 0.5, "cost": 0.001},
    {"question": "Two plus two?", "model": "brook", "accuracy": 1, "cost": 0.002},
    {"question": "A poem", "model": "brook", "accuracy": 0.25, "cost": None},
    {"question": "A poem", "model": "atlas", "accuracy": None, "cost": None},
]


@pytest.mark.parametrize("form", ["frame", "rows", "json", "jsonl", "csv", "parquet", "data set"])
def test_a_row_per_prompt_and_expert(tmp_path, form):
    frame = pd.DataFrame(LONG)
    source = {"frame": frame, "rows": LONG}.get(form, tmp_path / f"t.{form}")
    if form == "json":
        source.write_text(json.dumps(LONG, indent=1))
    elif form == "jsonl":
        write_lines(source, LONG)
    elif form == "csv":
        frame.to_csv(source, index=False)
    elif form == "parquet":
        frame.to_parquet(source)
    elif form == "data set":
        datasets = pytest.importorskip("datasets")
        source = datasets.Dataset.from_list(LONG)
    table, note = read(source)
    assert scores(table) == WIDE_SCORES
    assert of(table, "cost")[0] == [0.001, 0.002]
    for guess in ("prompt = question", "expert = model", "score = accuracy", "1 rows without"):
        assert guess in note


def test_a_frame_with_a_column_per_expert():
    frame = pd.DataFrame(
        {"prompt": ["Two plus two?", "A poem"], "atlas": [0.5, np.nan], "brook": [1.0, 0.25]}
    )
    table, note = read(frame)
    assert scores(table) == WIDE_SCORES
    assert note == "the frame: read with a column per expert: experts atlas, brook"
    with pytest.raises(ScoreTableError, match=r"the frame, row 2: brook: 7 is outside \[0, 1\]"):
        read(frame.assign(brook=[1.0, 7.0]))


def test_prompts_that_are_chat_messages():
    messages = [{"role": "system", "content": "Be short."}, {"role": "user", "content": "Why?"}]
    table, note = read([{"prompt": messages, "model": "a", "score": True}])
    assert scores(table) == {"Why?": {"a": 1.0}}
    assert "lists of messages" in note


def test_tables_of_tryage_are_read_without_a_word(tmp_path):
    table, _ = read(write(tmp_path, "t.csv", WIDE))
    for name in ("a.jsonl", "a.jsonl.gz", "a.csv", "a.parquet"):
        table.write(tmp_path / name)
        again, note = read(tmp_path / name)
        assert (again.hash, note) == (table.hash, "")


@pytest.mark.parametrize(
    ("text", "options", "message"),
    [
        ("input,question,a\nx,y,1\n", {}, r"question and input .*: .*columns=|input and question"),
        ("prompt,a\nx,1\ny,much\n", {"experts": ["a"]}, r"line 3: a: 'much' is not a number"),
        ("prompt,a\nx,1\ny,7\n", {}, r"line 3: a: 7 is outside \[0, 1\].*scale="),
        ("prompt,a\nx,1\ny,-1\n", {}, r"line 3: a: -1 is outside"),
        ("prompt,a,a\nx,1,1\n", {}, "column 'a' stands twice"),
        ("prompt,b\nx,hello\n", {}, "no column holds the scores of an expert; there are prompt, b"),
        ("text,a\nx,1\n", {}, "no column holds the prompt; there are text, a.*--columns prompt="),
        ("prompt,a\nx,1\n", {"columns": {"prompt": "promt"}}, "'promt'.*Did you mean 'prompt'"),
        ("prompt,a\nx,1\n", {"columns": {"promt": "prompt"}}, "'promt' is no part.*Did you mean"),
        ("prompt,a\nx,1\n", {"experts": ["b"]}, "an expert is in 'b', but there are only prompt"),
        ("prompt,a\nx,1\n", {"format": "wid"}, "format 'wid' is unknown.*Did you mean 'wide'"),
        ("prompt,a\nx,1,2\n", {"delimiter": ","}, "line 2: 3 values for 2 columns; quote"),
        ("prompt;a,b\nx;1,2\n", {}, "the delimiter is not clear.*--delimiter"),
        ("prompt;a\nx;1,234\n", {}, r"'1,234' and '1.234'.*--decimal"),
        ("prompt;a;b\nx;0,5;0.5\n", {}, r"'0,5' and '0.5'.*--decimal"),
        ('prompt,a\n"x,1\n', {}, "line 2: not delimited text"),
        ("prompt,a\n,1\n", {}, "line 2: prompt: '' is empty"),
        ("prompt,model,score,loss\nx,a,1,1\n", {}, "score holds scores and loss losses"),
        ("prompt,model\nx,a\n", {"format": "long"}, "no column holds the score"),
        ("prompt,model,accuracy\nx,a,1\nx,a,0\n", {}, r"line 3: model: 'a' is measured .* line 2"),
        ("prompt,model,accuracy\nx,a,1\ny,a,x\n", {}, "line 3: accuracy: 'x' is not a number"),
        ("prompt,model,accuracy\nx,a,1\ny,a,3\n", {}, "line 3: accuracy: expert 'a': 3 is outside"),
    ],
)
def test_a_bad_or_ambiguous_table_is_named_with_the_way_out(tmp_path, text, options, message):
    with pytest.raises(ScoreTableError, match=message):
        read(write(tmp_path, "t.csv", text), **options)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ("80,100", [0.8, 1.0]),
        ("80,0", [0.8, 0.0]),
        ("4,5", None),  # perhaps a rating
        ("0.5,50", [0.005, 0.5]),
    ],
)
def test_scores_up_to_100_are_recognized_only_where_that_is_clear(tmp_path, values, expected):
    path = write(tmp_path, "t.csv", f"prompt,a,b\nx,{values}\n")
    if expected is None:
        with pytest.raises(ScoreTableError, match="scale="):
            read(path)
        assert (1.0 - read(path, scale=5)[0].losses).tolist() == [[0.8, 1.0]]
    else:
        assert (1.0 - read(path)[0].losses) == pytest.approx(np.array([expected]))


def test_a_slip_among_fractions_is_no_scale(tmp_path):
    with pytest.raises(ScoreTableError, match="line 3: b: 50 is outside"):
        read(write(tmp_path, "t.csv", "prompt,a,b\nx,0.5,0.25\ny,1,50\n"))


def test_json_names_the_line_of_a_bad_entry(tmp_path):
    entries = [
        {"prompt": "x", "model": "a", "score": 1},
        {"prompt": "y", "model": "a", "score": "?"},
    ]
    path = write(tmp_path, "t.json", json.dumps(entries, indent=1))
    with pytest.raises(ScoreTableError, match=r"t.json, line 7: score: '\?' is not a number"):
        read(path)
    with pytest.raises(ScoreTableError, match="line 3, character 3: not JSON"):
        read(write(tmp_path, "broken.json", '[\n{"prompt": "x"},\n  }]'))
    with pytest.raises(ScoreTableError, match="line 1, character 1: key 'a' stands twice"):
        read(write(tmp_path, "twice.json", '{"a": 1, "a": 2}'))
    with pytest.raises(ScoreTableError, match="a pickle runs code"):
        read(write(tmp_path, "t.pkl", ""))


def test_a_hundred_thousand_cells_pass_through_numbers_not_objects(tmp_path):
    experts = [f"m{i}" for i in range(50)]
    row = ",".join(["0.5"] * 50)
    lines = [f"Prompt number {i},{row}" for i in range(2000)]
    path = write(tmp_path, "t.csv", "\n".join([",".join(["prompt", *experts]), *lines, ""]))
    table, _ = read(path, experts=experts)
    assert table.losses.shape == (2000, 50)
    assert (table.losses == 0.5).all()


OWN = [
    {"id": "1", "prompt": "Why?", "scores": {"a": 50, "b": 100}, "costs": {"a": 0.5}},
    {"id": "2", "prompt": "How?", "scores": {"b": 25}, "costs": {"b": 2}},
]


@pytest.mark.parametrize("form", ["json", "jsonl", "rows", "data set"])
def test_lines_of_tryage_with_another_scale(tmp_path, form):
    source = {"rows": OWN}.get(form, tmp_path / f"t.{form}")
    if form == "json":
        source.write_text(json.dumps(OWN))
    elif form == "jsonl":
        write_lines(source, OWN)
    elif form == "data set":
        source = pytest.importorskip("datasets").Dataset.from_list(OWN)
    table, _ = read(source, scale=100)
    assert scores(table) == {"Why?": {"a": 0.5, "b": 1.0}, "How?": {"b": 0.25}}
    assert np.nan_to_num(table.targets["cost"]).tolist() == [[0.5, 0.0], [0.0, 2.0]]


# Programs


def sample(doc_id, question, *, filter_="none", **metrics):
    return {
        "doc_id": doc_id,
        "doc": {"question": question},
        "target": "4",
        "arguments": {"gen_args_0": {"arg_0": f"Q: {question}\nA:", "arg_1": {"until": ["\n"]}}},
        "resps": [["four"]],
        "filtered_resps": ["four"],
        "filter": filter_,
        "metrics": list(metrics),
        **metrics,
    }


def harness(tmp_path):
    folder = tmp_path / "out"
    arith = "samples_arith_2025-01-02T03-04-05.678901.jsonl"
    for model, right in (("lab__small", 0.0), ("lab__large", 1.0)):
        write_lines(
            folder / model / arith,
            [sample(0, "2+2?", acc=right), sample(1, "2+3?", acc=1.0)],
        )
    write_lines(
        folder / "lab__large" / "samples_arith_2024-01-02T03-04-05.678901.jsonl",
        [sample(0, "2+2?", acc=0.5)],
    )
    write(
        folder / "lab__small",
        "results_2025-01-02T03-04-05.678901.json",
        '{"model_name": "lab/tiny"}',
    )
    return folder


def test_samples_of_lm_evaluation_harness(tmp_path):
    folder = harness(tmp_path)
    table, note = read(folder)
    assert scores(table) == {
        "Q: 2+2?\nA:": {"lab/large": 1.0, "lab/tiny": 0.0},
        "Q: 2+3?\nA:": {"lab/large": 1.0, "lab/tiny": 1.0},
    }
    assert table.ids == ("arith/0", "arith/1")
    assert table.groups == ("arith", "arith")
    assert table.references == ("4", "4")
    assert of(table, "response_chars") == [[4, 4], [4, 4]]
    for guess in ("score = arith: acc", "experts lab/large, lab/tiny", "1 files left out"):
        assert guess in note
    by_question, _ = read(folder, columns={"prompt": "doc.question"})
    assert by_question.prompts == ("2+2?", "2+3?")


def test_metrics_and_filters_of_lm_evaluation_harness_are_chosen_not_guessed(tmp_path):
    path = tmp_path / "m" / "samples_t.jsonl"
    write_lines(path, [sample(0, "x", acc=0.0, acc_norm=1.0)])
    with pytest.raises(ScoreTableError, match=r"metrics acc, acc_norm; .*--metric acc"):
        read(path)
    assert read(path, metrics=["exact_match", "acc_norm"])[0].losses.tolist() == [[0.0]]
    lines = [
        sample(0, "x", filter_=name, exact_match=float(name == "loose"))
        for name in ("loose", "strict")
    ]
    write_lines(path, lines)
    with pytest.raises(
        ScoreTableError, match=r"filters loose, strict; .*--metric exact_match,loose"
    ):
        read(path)
    assert read(path, metrics=["exact_match,strict"])[0].losses.tolist() == [[1.0]]
    assert read(path, metrics=["exact_match,loose"])[0].losses.tolist() == [[0.0]]


def test_prompts_of_lm_evaluation_harness_must_agree_between_models(tmp_path):
    folder = harness(tmp_path)
    [path] = (folder / "lab__small").glob("samples_*")
    other = [sample(0, "2 and 2?", acc=0.0), sample(1, "2+3?", acc=1.0)]
    write_lines(path, other)
    with pytest.raises(ScoreTableError, match=r"line 1: arguments: 'Q: 2 and 2.*has 'Q: 2\+2"):
        read(folder)


def annotation(instruction, model, preference, **more):
    return {
        "instruction": instruction,
        "dataset": "chat",
        "generator_1": "baseline",
        "output_1": "Hm.",
        "generator_2": model,
        "output_2": "Because.",
        "annotator": "judge",
        "preference": preference,
    } | more


def test_annotations_of_alpaca_eval(tmp_path):
    for model, preferences in (("atlas", (1.9, 1, 0)), ("brook", (None, 1.5, 2))):
        texts = ("Why?", "How?", "When?")
        entries = [annotation(t, model, p) for t, p in zip(texts, preferences, strict=True)]
        write(tmp_path, f"results/{model}/judge/annotations.json", json.dumps(entries))
    table, note = read(tmp_path / "results")
    assert scores(table) == {
        "Why?": {"baseline": 0.5, "atlas": 0.9},
        "How?": {"baseline": 0.5, "atlas": 0.0, "brook": 0.5},
        "When?": {"baseline": 0.5, "atlas": 0.5, "brook": 1.0},
    }
    assert set(table.groups) == {"chat"}
    assert table.targets["response_chars"][0, :2].tolist() == [3, 8]
    assert "probability of beating baseline, whose own score is 0.5" in note
    assert "1 results without a score" in note


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"generator_1": "other"}, r"line 1: generator_1: 'other', but .* has 'baseline'"),
        ({"preference": 3}, "preference: 3 is not 0 or from 1 to 2"),
        ({"annotator": "second"}, "judged by judge, second; .*--metric judge"),
        ({"instruction": 5}, "instruction: 5 is not text"),
    ],
)
def test_wrong_annotations_are_named(tmp_path, changed, message):
    entries = [annotation("Why?", "atlas", 1), annotation("How?", "atlas", 2) | changed]
    with pytest.raises(ScoreTableError, match=message):
        read(write(tmp_path, "annotations.json", json.dumps(entries)))


def test_wide_results_of_routerbench(tmp_path):
    frame = pd.DataFrame(
        {
            "sample_id": ["a.1", "a.2"],
            "prompt": ["['Be brief.', 'Why?']", "['How?']"],
            "eval_name": ["a", "a"],
            "lab/model-1": [1.0, 0.25],
            "lab/model-1|model_response": ["x", "y"],
            "lab/model-1|total_cost": [0.01, 0.02],
            "small": [0.0, 0.5],
            "small|model_response": ["x", "y"],
            "small|total_cost": [0.001, 0.002],
            "oracle_model_to_route_to": ["lab/model-1", "small"],
        }
    )
    table, note = read(frame)
    assert scores(table) == {
        "Be brief.\nWhy?": {"lab/model-1": 1.0, "small": 0.0},
        "How?": {"lab/model-1": 0.25, "small": 0.5},
    }
    assert table.ids == ("a.1", "a.2")
    assert table.groups == ("a", "a")
    assert of(table, "cost") == [[0.01, 0.001], [0.02, 0.002]]
    assert "left out: lab/model-1|model_response" in note


def result(provider, question, score, test, **more):
    return {
        "provider": {"id": provider, "label": ""},
        "prompt": {"raw": f"Answer: {question}", "label": "p"},
        "vars": {"question": question, "topic": "math"},
        "testIdx": test,
        "promptIdx": 0,
        "score": score,
        "success": score > 0,
        "namedScores": {"brief": 1 - score},
        "cost": 0.01,
        "latencyMs": 500,
        "failureReason": 0,
        "response": {"output": "four"},
    } | more


def promptfoo(results, version=3):
    return json.dumps({"evalId": "e", "results": {"version": version, "results": results}})


def test_results_of_promptfoo(tmp_path):
    results = [
        result("openai:a", "2+2?", 1, 0),
        result("b", "2+2?", 0.25, 0, response={"output": "4", "cached": True}),
        result("openai:a", "2+3?", 0, 1, failureReason=2, error="429"),
        result("b", "2+3?", 0.5, 1),
        result("b", "2+3?", 1, 1),
    ]
    path = write(tmp_path, "out.json", promptfoo(results))
    table, note = read(path)
    assert scores(table) == {
        "Answer: 2+2?": {"openai:a": 1.0, "b": 0.25},
        "Answer: 2+3?": {"b": 0.75},
    }
    assert of(table, "cost")[0] == [0.01, 0.01]
    assert table.targets["latency"][0, 0] == 0.5
    assert np.isnan(table.targets["latency"][0, 1])
    for guess in ("experts openai:a, b", "1 repeated results averaged", "1 results without"):
        assert guess in note
    lines, _ = read(write_lines(tmp_path / "out.jsonl", results))
    assert lines.hash == table.hash
    named, _ = read(
        path, metrics=["brief"], columns={"prompt": "vars.question", "group": "vars.topic"}
    )
    assert scores(named)["2+2?"] == {"openai:a": 0.0, "b": 0.75}
    assert set(named.groups) == {"math"}
    with pytest.raises(ScoreTableError, match=r"no named score long; there are brief, score"):
        read(path, metrics=["long"])
    wrong = result("b", "2+3?", 1, 2) | {"score": "x"}
    bad = write(tmp_path, "bad.json", promptfoo([*results, wrong]))
    with pytest.raises(ScoreTableError, match=r"bad\.json, result 6: score: 'x' is no number"):
        read(bad)


FRAME = """inputs.question,outputs.answer,error,reference.answer,feedback.correct,\
execution_time,example_id
2+2?,four,,4,True,0.5,e1
2+3?,six,,5,False,1.5,e2
2+4?,,429,6,1,,e3
"""


def test_experiments_of_langsmith_as_frames(tmp_path):
    write(tmp_path, "runs/atlas.csv", FRAME)
    write(tmp_path, "runs/brook.csv", FRAME.replace("True", "0.25"))
    table, note = read(tmp_path / "runs")
    assert scores(table) == {
        "2+2?": {"atlas": 1.0, "brook": 0.25},
        "2+3?": {"atlas": 0.0, "brook": 0.0},
        "2+4?": {},
    }
    assert table.ids == ("e1", "e2", "e3")
    assert table.references == ("4", "5", "6")
    assert of(table, "latency")[0] == [0.5, 0.5]
    for guess in ("experts atlas, brook", "prompt = inputs.question", "score = feedback.correct"):
        assert guess in note
    one, _ = read(tmp_path / "runs" / "atlas.csv", experts=["gpt-4"])
    assert one.experts == ("gpt-4",)
    two = FRAME.replace("example_id", "feedback.brief").replace(",e1", ",1").replace(",e2", ",1")
    with pytest.raises(ScoreTableError, match=r"feedback.brief, feedback.correct: .*--metric corr"):
        read(write(tmp_path, "two.csv", two))


def test_experiments_of_langsmith_as_examples_with_runs(tmp_path):
    example = {
        "id": "e1",
        "inputs": {"messages": [{"type": "human", "content": "2+2?"}]},
        "outputs": {"answer": "4"},
        "runs": [
            {
                "outputs": {"answer": "four"},
                "error": None,
                "start_time": "2025-01-01T00:00:00",
                "end_time": "2025-01-01T00:00:02",
                "total_cost": "0.25",
                "feedback_stats": {"correct": {"n": 1, "avg": score}},
            }
            for score in (1.0, 0.5)
        ],
    }
    path = write(tmp_path, "atlas.json", json.dumps([example]))
    table, note = read(path)
    assert scores(table) == {"2+2?": {"atlas": 0.75}}
    assert of(table, "latency") == [[2.0]]
    assert of(table, "cost") == [[0.25]]
    assert "1 repeated results averaged" in note
    lines, _ = read(write_lines(tmp_path / "lines" / "atlas.jsonl", [example]))
    assert lines.hash == table.hash


# Command line


def test_convert_and_show(tmp_path):
    path = write(tmp_path, "t.csv", WIDE.replace(",", ";").replace("prompt", "input"))
    out = tmp_path / "scores.jsonl"
    done = runner.invoke(app, ["table", "convert", str(path), "--out", str(out)])
    assert done.exit_code == 0, done.output
    assert "2 prompts, 2 experts, 3 of 4 cells measured" in done.stdout
    assert "separated by a semicolon" in done.stderr
    assert scores(ScoreTable.read(out)) == WIDE_SCORES
    shown = runner.invoke(app, ["table", "show", str(out), "--json"])
    summary = json.loads(shown.stdout)
    assert summary["prompts"] == summary["texts"] == 2
    assert summary["prompts_with_every_expert"] == 1
    assert summary["groups"] == {"math": 1, "verse": 1}
    assert summary["experts"]["brook"] == {"prompts": 2, "score": 0.625}
    assert "atlas" in runner.invoke(app, ["table", "show", str(out)]).stdout


def test_show_counts_costs_per_thousand_prompts(tmp_path):
    path = write(tmp_path, "t.csv", "prompt,a,a_cost\nWhy?,1,0.002\nHow?,0,0.004\n")
    printed = runner.invoke(app, ["table", "show", str(path)]).stdout
    assert "USD per 1,000" in printed
    [row] = [line for line in printed.splitlines() if " a " in line]
    assert [cell.strip() for cell in row.strip("│").split("│")] == ["a", "2", "0.5", "3"]


def test_convert_prints_the_table_where_that_is_asked(tmp_path):
    path = write(tmp_path, "t.csv", WIDE)
    done = runner.invoke(app, ["table", "convert", str(path), "--out", "-"])
    assert done.exit_code == 0, done.output
    entries = [json.loads(line) for line in done.stdout.splitlines()]
    assert [entry["scores"] for entry in entries] == [{"atlas": 0.5, "brook": 1.0}, {"brook": 0.25}]
    assert "3 of 4 cells measured" in done.stderr


def test_convert_with_every_option(tmp_path):
    path = write(tmp_path, "t.txt", "q|m|s\nWhy?|a|7,5\nWhy?|b|10\n")
    out = tmp_path / "scores.csv"
    arguments = ["--from", "long", "--columns", "prompt=q,expert=m", "--columns", "score=s"]
    arguments += ["--scale", "10", "--delimiter", "|", "--decimal", ","]
    done = runner.invoke(app, ["table", "convert", str(path), "--out", str(out), *arguments])
    assert done.exit_code == 0, done.output
    assert done.stderr == ""
    assert scores(ScoreTable.read(out)) == {"Why?": {"a": 0.75, "b": 1.0}}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--out", "x.xls"], "known endings are"),
        (["--out", "x.csv", "--columns", "prompt"], "write PART=COLUMN"),
        (["--out", "x.csv", "--columns", "prompt=a,prompt=b"], "prompt is both 'a' and 'b'"),
        (["--out", "x.csv", "--delimiter", ";;"], "is not one character"),
        (["--out", "x.csv", "--kind", "points"], "'scores' or 'losses'"),
        (["--out", "x.csv", "--scale", "-1"], "is not above 0"),
    ],
)
def test_wrong_options_are_refused_in_one_line(tmp_path, arguments, message):
    path = write(tmp_path, "t.csv", WIDE)
    done = runner.invoke(app, ["table", "convert", str(path), *arguments])
    assert done.exit_code == 2
    assert message in done.stderr
    assert done.stderr.count("\n") == 1
