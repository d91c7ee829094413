import gc
import traceback

import pytest
import yaml
from pydantic import ValidationError

from tryage import Expert, Library
from tryage.errors import LibraryError
from tryage.experts import Endpoint
from tryage.units import format_count, parse_count


def write(path, data):
    path.write_text(yaml.safe_dump(data))
    return path


def expert(**changes):
    return {"name": "a", "model": "org/a"} | changes


def test_a_library_reads_back_as_it_was_written(tmp_path):
    library = Library(
        [
            Expert(
                name="a",
                model="org/a",
                parameters="7.24B",
                released="2024-01-31",
                languages=["en"],
                security={"vendor": "x", "safetensors": True},
                price={"input": 0.5, "output": 1.5},
            ),
            Expert(name="b", model="./b", task="fill-mask"),
        ],
        name="two",
    )
    library.write(tmp_path / "library.yaml")
    read = Library.read(tmp_path / "library.yaml")
    assert read == library
    assert read.root == tmp_path
    assert read["a"].parameters == 7_240_000_000
    assert read.tasks == ("text-generation", "fill-mask")
    assert read.of_task("fill-mask").names == ("b",)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"experts": [expert(modle="x")]}, r"expert 1 \(a\): unknown key 'modle'.*'model'"),
        ({"experts": [expert(security={"vender": "x"})]}, "security.vender.*'vendor'"),
        ({"experts": [expert(), expert()]}, "'a' occurs twice"),
        ({"experts": []}, "at least one expert"),
        ({"experts": [{"name": "a"}]}, "model: Field required"),
        ({"experts": [expert(parameters="7X")]}, "units K, M, B, T"),
        ({"experts": [expert(parameters=-1)]}, "parameters.*-1"),
        ({"experts": [expert(released="soon")]}, "released"),
        ({"experts": [expert(endpoint={"url": "https://h.example/?api_key=1"})]}, "key_env"),
        ({"experts": [expert()], "expert": []}, "unknown key 'expert'.*'experts'"),
        (["a"], "expected a mapping"),
    ],
)
def test_a_wrong_library_names_file_expert_and_key(tmp_path, data, message):
    path = write(tmp_path / "wrong.yaml", data)
    with pytest.raises(LibraryError, match=message) as caught:
        Library.read(path)
    assert str(path) in str(caught.value)


def test_a_file_that_is_missing_or_no_yaml(tmp_path):
    with pytest.raises(LibraryError, match="does not exist"):
        Library.read(tmp_path / "none.yaml")
    (tmp_path / "bad.yaml").write_text("a: [1")
    with pytest.raises(LibraryError, match="not a YAML file"):
        Library.read(tmp_path / "bad.yaml")


def test_a_date_that_does_not_exist(tmp_path):
    (tmp_path / "l.yaml").write_text("experts:\n- {name: a, model: m, released: 2024-02-30}")
    with pytest.raises(LibraryError, match=r"l\.yaml"):
        Library.read(tmp_path / "l.yaml")


def test_what_stands_in_an_endpoint_is_not_repeated(tmp_path):
    for endpoint in (
        "https://user:hunter2@host",
        {"url": "https://user:hunter2@host"},
        {"url": "https://@hunter2"},
        {"url": "https://host/v1#key=hunter2"},
        {"url": "https://host/v1;key=hunter2"},
        {"url": "https://host;key=hunter2"},
        {"url": "https://host/sk-hunter2hunter2/v1"},
        {"url": "https://host/\thunter2"},
        {"url": "https://[hunter2"},
        {"url": "https://hunter2\u2100host"},
        {"url": "ftp://hunter2"},
        {"url": "https://host", "key_env": "hf_hunter2" + "x" * 20},
        {"url": "https://host", "key_env": "sk_live_hunter2" + "x" * 20},
    ):
        path = write(tmp_path / "l.yaml", {"experts": [expert(endpoint=endpoint)]})
        with pytest.raises(LibraryError) as caught:
            Library.read(path)
        shown = "".join(traceback.format_exception(caught.value))
        assert "hunter2" not in shown + repr(caught.value)
        if isinstance(endpoint, dict):
            with pytest.raises(ValidationError) as caught:
                Expert(name="a", model="m", endpoint=endpoint)
            shown = "".join(traceback.format_exception(caught.value))
            assert "hunter2" not in shown + repr(caught.value)
    for model in ("https://u:hunter2@host/m", "https://host/m?token=hunter2"):
        path = write(tmp_path / "l.yaml", {"experts": [expert(model=model)]})
        with pytest.raises(LibraryError, match="model") as caught:
            Library.read(path)
        assert "hunter2" not in str(caught.value)
    for name in ("HF_TOKEN", "hf_token", "my_productionopenaikey", "sk_for_production_of_openai"):
        assert Endpoint(url="https://host", key_env=name).key_env == name


def test_a_folder_beside_the_file_is_a_model_and_anything_else_a_hub_id(tmp_path):
    (tmp_path / "models" / "a").mkdir(parents=True)
    library = Library([Expert(name="a", model="models/a")], root=tmp_path)
    where = {
        "models/a": tmp_path / "models" / "a",
        "org/model": "org/model",
        "./gone": tmp_path / "gone",
        "models/gone": tmp_path / "models" / "gone",
        "a/b/c": tmp_path / "a/b/c",
    }
    for model, expected in where.items():
        assert library.model_path(Expert(name="x", model=model)) == expected


def test_an_unknown_name_gets_a_hint():
    with pytest.raises(LibraryError, match="Did you mean 'mistral'"):
        Library([Expert(name="mistral", model="m")]).index("mistrl")


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("7.24B", 7_240_000_000),
        ("350m", 350_000_000),
        ("8,192", 8192),
        ("32K", 32_000),
        ("1e9", 10**9),
    ],
)
def test_counts(text, count):
    assert parse_count(text) == count
    assert parse_count(format_count(parse_count(text))) == pytest.approx(count, rel=0.01)


PLACES = [
    ("name: a\nname: b\nexperts: []", "line 2, column 1", "the key 'name' stands twice, first on"),
    (
        "experts:\n- {name: a, model: m,\n   name: b}",
        "line 3, column 4",
        "the key 'name' stands twice",
    ),
    (
        "experts:\n- name: a\n  model: m\n  price: {input: .inf, output: 1}",
        "line 4, column 18",
        "price.input: Input should be a finite number, found inf",
    ),
    (
        "experts:\n- name: a\n  model: m\n  price: {input: 1, output: .nan}",
        "line 4, column 29",
        "price.output: Input should be a finite number",
    ),
    (
        "experts:\n- name: a\n  model: m\n  languages: [en, no, 3]",
        "line 4, column 19",
        "languages.1: Input should be a valid string, found False",
    ),
    (
        "experts:\n- name: a\n  model: m\n  licence: mit",
        "line 4, column 12",
        "unknown key 'licence'. Did you mean 'license'",
    ),
    ("experts:\n- name: a\n- 3", "line 2, column 3", r"model: Field required"),
    ("experts:\n- 3", "line 2, column 3", "expert 1: expected a mapping, found 3"),
    ("experts: &e\n- *e", "line 2, column 3", "the alias *e is not read; write out"),
    ("name: [a]\nexperts:\n- {name: a, model: m}", "line 1, column 7", "'name' is ['a'], not text"),
    ("experts:\n- {[a]: b}", "line 2, column 4", "a key is a list or a mapping"),
    ("name: " + "1:" * 80 + "1\nexperts: 1", "line 1, column 7", "a number of 161 characters"),
    ("experts: 3", "line 1, column 10", "'experts' must be a list"),
    ("experts:\n- name: a\n  model: 'm", "line 3, column 12", "not a YAML file"),
]


@pytest.mark.parametrize(("text", "place", "problem"), PLACES)
def test_a_wrong_value_is_named_with_its_line_and_column(tmp_path, text, place, problem):
    path = tmp_path / "library.yaml"
    path.write_text(text)
    with pytest.raises(LibraryError) as caught:
        Library.read(path)
    assert str(caught.value).startswith(f"{path}, {place}: ")
    assert problem in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "experts:\n- {name: a, model: m, parameters: 1B,\n   parameters: 2B}",
            "line 3, column 4: the key 'parameters' stands twice, first on line 2, column 23; "
            "keep one of '1B' and '2B'",
        ),
        (
            "experts:\n- {name: a, model: m, released: 2024-02-30}",
            "line 2, column 33: '2024-02-30': day is out of range for month",
        ),
        (
            "experts:\n- name: a\n  model: 'm\n",
            "line 4, column 1: not a YAML file: found unexpected end of stream, while scanning a "
            "quoted scalar on line 3, column 10",
        ),
        (
            "a: 1\nb: \x07",
            "line 2, column 4: not a YAML file: the character '\\x07' is not allowed",
        ),
        (
            "experts:\n- {name: a, modle: m, price: {input: -1}}\n- {model: 3}",
            "line 2, column 3: expert 1 (a): model: Field required; line 2, column 38: expert 1 "
            "(a): price.input: Input should be greater than or equal to 0, found -1; line 2, "
            "column 30: expert 1 (a): price.output: Field required; line 2, column 20: expert 1 "
            "(a): unknown key 'modle'. Did you mean 'model'?; line 3, column 3: expert 2: name: "
            "Field required; line 3, column 11: expert 2: model: Input should be a valid string, "
            "found 3",
        ),
        (
            "exprts: []\nname: [b]",
            "line 1, column 9: unknown key 'exprts'. Did you mean 'experts'?; line 2, column 7: "
            "'name' is ['b'], not text; line 1, column 1: 'experts' must be a list with at least "
            "one expert",
        ),
    ],
)
def test_an_error_names_the_cause_and_every_problem(tmp_path, text, message):
    path = tmp_path / "l.yaml"
    path.write_text(text)
    with pytest.raises(LibraryError) as caught:
        Library.read(path)
    assert str(caught.value) == f"{path}, {message}"


def test_a_file_of_many_problems_names_ten(tmp_path):
    path = tmp_path / "l.yaml"
    path.write_text("experts:\n" + "- 3\n" * 12)
    with pytest.raises(LibraryError, match=r"expert 10: expected .*; and 2 more$"):
        Library.read(path)


def test_a_key_that_stands_twice_in_an_endpoint_is_named_without_its_values(tmp_path):
    path = tmp_path / "l.yaml"
    path.write_text(
        "experts:\n- {name: a, model: m, endpoint: {url: http://h, url: http://hunter2}}"
    )
    with pytest.raises(LibraryError, match="the key 'url' stands twice") as caught:
        Library.read(path)
    assert "hunter2" not in str(caught.value)


def test_a_file_that_is_not_utf8_names_the_line(tmp_path):
    path = tmp_path / "l.yaml"
    path.write_bytes("experts:\n- {name: café, model: m}".encode("latin-1"))
    with pytest.raises(LibraryError, match="line 2: not a YAML file: not UTF-8"):
        Library.read(path)


BOMB = "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"{b}: &{b} [{','.join([f'*{a}'] * 9)}]\n" for a, b in zip("abcdefgh", "bcdefghi", strict=True)
)


def test_a_small_file_that_stands_for_a_large_one_is_refused(tmp_path):
    assert len(BOMB) < 500
    path = tmp_path / "library.yaml"
    path.write_text(BOMB)
    with pytest.raises(LibraryError, match=r"line 2, column 8: .*the alias \*a is not read"):
        Library.read(path)
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "README.md").write_text(f"---\n{BOMB}---\n")
    with pytest.raises(LibraryError, match=r"front matter is not YAML: line 2.*\*a is not read"):
        Library.from_models([str(tmp_path)])


@pytest.mark.parametrize("opening", ["[", "{a: ", "- "])
def test_deep_yaml_is_an_error_of_the_file(tmp_path, opening):
    path = tmp_path / "library.yaml"
    path.write_text(opening * 5000)
    with pytest.raises(LibraryError, match=r"line \d+, column \d+: not a YAML file: nested"):
        Library.read(path)
    path.write_text(f"name: a\nexperts: {'[' * 200}{']' * 200}\n")
    with pytest.raises(LibraryError, match=r"line 2, column 1\d\d: not a YAML file: nested deeper"):
        Library.read(path)


def test_front_matter_of_many_blank_lines_is_read(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "README.md").write_text(
        "---  \n" + "\n" * 1000 + "license: MIT\n--- \nMore.\n---\n"
    )
    (expert,) = Library.from_models([str(tmp_path)])
    assert expert.license == "mit"
    (tmp_path / "README.md").write_text("---\nlicense: MIT\n")
    (expert,) = Library.from_models([str(tmp_path)])
    assert expert.license is None


@pytest.mark.parametrize("ending", ["jsonl", "parquet", "JSONL"])
def test_many_experts_stand_in_lines_or_rows(tmp_path, ending):
    pytest.importorskip("pyarrow")
    library = Library(
        (
            Expert(
                name="a",
                model="org/a",
                parameters=7 * 10**9,
                released="2024-05-01",
                languages=("de", "en"),
                security={"safetensors": True, "vendor": "org"},
                price={"input": 0.5, "output": 1.5},
                endpoint={"url": "https://models.example.com/v1", "key_env": "SOME_KEY"},
            ),
            Expert(name="ü", model="./models/b", task="fill-mask", gated=False),
        ),
        name="many",
    )
    path = tmp_path / f"many.{ending}"
    library.write(path)
    again = Library.read(path)
    assert again.experts == library.experts
    assert again.name == "many"
    assert again.root == tmp_path
    assert again["a"].origin == Library.read(path)["a"].origin is not None


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ('{"name": "b"}', ["many.jsonl, line 3", "expert 2 (b)", "model"]),
        ('{"name": "b", "model": "m", "licence": "mit"}', ["line 3", "Did you mean 'license'"]),
        ('{"name": "b", "model": "m", "model": "n"}', ["line 3", "model", "stands twice"]),
        ("[1]", ["line 3", "expected a mapping"]),
        ("{", ["line 3", "not JSON"]),
        ('{"name": "a", "model": "m"}', ["'a' occurs twice"]),
    ],
)
def test_a_wrong_line_of_a_library_is_named(tmp_path, line, words):
    path = tmp_path / "many.jsonl"
    path.write_text(f'{{"name": "a", "model": "m"}}\n\n{line}\n')
    with pytest.raises(LibraryError) as error:
        Library.read(path)
    for word in words:
        assert word in str(error.value)


def test_wrong_library_files_of_these_kinds_are_named(tmp_path):
    arrow = pytest.importorskip("pyarrow")

    with pytest.raises(LibraryError, match=r"'.*none\.jsonl' does not exist"):
        Library.read(tmp_path / "none.jsonl")
    (tmp_path / "empty.jsonl").write_text("")
    with pytest.raises(LibraryError, match="at least one expert"):
        Library.read(tmp_path / "empty.jsonl")
    (tmp_path / "text.parquet").write_text("no parquet")
    with pytest.raises(LibraryError, match=r"text\.parquet: not a Parquet file"):
        Library.read(tmp_path / "text.parquet")
    columns = {"name": ["a", "b"], "model": ["m", "n"], "price": [None, "{"]}
    arrow.parquet.write_table(arrow.table(columns), tmp_path / "price.parquet")
    with pytest.raises(LibraryError, match=r"price\.parquet, row 2: price: .* JSON text"):
        Library.read(tmp_path / "price.parquet")
    columns = {"name": ["a"], "model": ["m"], "licence": ["mit"]}
    arrow.parquet.write_table(arrow.table(columns), tmp_path / "key.parquet")
    with pytest.raises(LibraryError, match=r"row 1: .*unknown key 'licence'. Did you mean"):
        Library.read(tmp_path / "key.parquet")


def test_yaml_that_could_not_be_read_again_is_not_written(tmp_path):
    long = Library([Expert(name=f"e{i}", model="m" * 20_000) for i in range(1000)])
    with pytest.raises(LibraryError, match=r"l\.yaml: 1,000 experts take more .*\.jsonl") as caught:
        long.write(tmp_path / "l.yaml")
    assert "16,777,216 characters" in str(caught.value)
    assert list(tmp_path.iterdir()) == []
    long.write(tmp_path / "l.jsonl")
    assert Library.read(tmp_path / "l.jsonl") == Library(long.experts, name="l")


def test_reading_many_experts_leaves_the_search_for_cycles_as_it_was(tmp_path):
    Library([Expert(name="a", model="m")]).write(tmp_path / "l.jsonl")
    (tmp_path / "bad.jsonl").write_text("[")
    for is_on in (True, False):
        (gc.enable if is_on else gc.disable)()
        try:
            Library.read(tmp_path / "l.jsonl")
            with pytest.raises(LibraryError):
                Library.read(tmp_path / "bad.jsonl")
            assert gc.isenabled() == is_on
        finally:
            gc.enable()


def test_yaml_of_many_experts_is_that_of_one_dump(tmp_path):
    library = Library(
        [Expert(name=f"é: {i}", model="m", languages=["en"]) for i in range(1001)], name="a: b"
    )
    library.write(tmp_path / "l.yaml")
    whole = yaml.safe_dump(library.to_dict(), sort_keys=False, allow_unicode=True)
    assert (tmp_path / "l.yaml").read_text(encoding="utf-8") == whole
