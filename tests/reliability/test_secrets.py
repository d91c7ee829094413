"""No secret in a text from elsewhere reaches a record, log, repr, traceback or file."""

import errno
import json
import logging
import traceback
from types import SimpleNamespace

import kit
import pytest
from pydantic import BaseModel, ConfigDict, ValidationError

from tryage.dispatch import (
    Breaker,
    DispatchOptions,
    Health,
    dispatch,
    dispatch_batch,
    dispatch_stream,
    hide_secrets,
    mask_error,
    record,
)
from tryage.errors import DispatchError
from tryage.labeling import label_answers

CORE = "hunter2Secret99"

FORMS = [
    *(
        f"{before}{CORE}"
        for before in (
            "sk-proj-",
            "sk-ant-api03-",
            "sk_live_",
            "rk_test_",
            "whsec_",
            "ghp_",
            "github_pat_11",
            "glpat-",
            "xoxb-1-",
            "hf_",
            "r8_",
            "nvapi-",
            "gsk_",
            "AIza",
            "xai-",
            "pplx-",
            "tvly-",
            "lsv2_pt_",
            "npm_",
            "pypi-AgEI",
            "dop_v1_",
            "shpat_",
            "ya29.",
            "SG.",
            "eyJ",
            "a1B2" * 8,
            "Bearer ",
            "Authorization: Bearer ",
            "Authorization: Token ",
            "Proxy-Authorization: Basic ",
            "?key=",
            "?x=1&token=",
            "https://h/v1#key=",
            "https://h/v1;key=",
            "api_key=",
            "api_key%3D",
            "api-key: ",
            "--api-key ",
            "--token ",
            "API key ",
            "API key is ",
            "Incorrect API key provided: ",
            "x-api-key ",
            "[api_key] ",
            "X-API-Key: ",
            "Ocp-Apim-Subscription-Key: ",
            "OPENAI_API_KEY=",
            "password: ",
            "PASSWORD ",
            "pwd=",
            "pass=",
            "passphrase=",
            "client_secret=",
            "aws_secret_access_key = ",
            "AccountKey=",
            "SharedAccessSignature=",
            "sig=",
            "jwt=",
            "session_id=",
            "credential=",
            "refresh_token\t",
            "token ",
            "Cookie: a=",
            "Set-Cookie: SID=",
        )
    ),
    "AKIAHUNTER2SECRET99",
    f"https://user:{CORE}@host/v1",
    f"https://{CORE}@host/v1",
    f"https://u:p@{CORE}@host",
    f"https://u:p/{CORE}@host",
    f"postgres://u:{CORE}@db:5432/x",
    f"u:{CORE}@proxy.example:3128",
    f"Basic {CORE}==",
    f'{{"apiKey": "{CORE}"}}',
    f'{{"key": "{CORE}"}}',
    f"{{'headers': {{'authorization': '{CORE}'}}}}",
    rf"{{\"api_key\": \"{CORE}\"}}",
    f"password='{CORE} and more'",
    f"Invalid token: '{CORE}'",
    f"-----BEGIN RSA PRIVATE KEY-----\n{CORE}\n-----END RSA PRIVATE KEY-----",
]

PLAIN = [
    "the token limit is 512",
    "max_tokens: 512; what? hf_hub_download",
    "unknown key: 'name'",
    "expert 'a': its key is not in the environment; set SERVED_KEY",
    "429 Too Many Requests for url 'https://api.example.com/v1/chat/completions'",
    "model meta-llama/Llama-3.1-8B-Instruct is not there",
    f"commit {'0123456789' * 4}, sha256 {'ab12' * 16}",
    "This model's maximum context length is 4096 tokens, you asked for 5000",
    f"/models/{'a1b2' * 9}/config.json is missing",
    "password is wrong",
    "mail me@example.org",
    "Basic authentication is off",
    "12:30:45 localhost:8000 refused the connection",
]


def leaks(text):
    return CORE.lower() in text.lower()


@pytest.mark.parametrize("form", FORMS)
def test_every_form_is_masked_wherever_it_stands(form):
    for text in (form, f"error: {form} is wrong", f"({form})", f"a\n{form}\nb", f'"{form}"'):
        assert not leaks(hide_secrets(text)), hide_secrets(text)
        assert "***" in hide_secrets(text)


@pytest.mark.parametrize("text", PLAIN)
def test_texts_without_a_secret_stay_as_they_are(text):
    assert hide_secrets(text) == text


class Client(Exception):
    """A vendor's error, which keeps what the server said."""

    def __init__(self, text):
        super().__init__(f"status 401: {text}")
        self.message = text
        self.body = {"error": {"message": text}, "headers": {"x-api-key": CORE}}
        self.status_code = 401


class Stubborn(Exception):
    """Its text is none of its arguments."""

    def __init__(self, text):
        super().__init__()
        self.inner = SimpleNamespace(text=text)

    def __str__(self):
        return f"refused: {self.inner.text}"


class Slotted(Exception):
    __slots__ = ("text",)

    def __init__(self, text):
        self.text = text

    def __str__(self):
        return str(self.text)


class Strict(BaseModel):
    model_config = ConfigDict(strict=True)
    number: int


def noted(text):
    error = ValueError("no")
    error.add_note(text)
    return error


def invalid(text):
    try:
        Strict(number=text)
    except ValidationError as error:
        return error


def chained(text):
    outer, middle, inner = RuntimeError("outer"), Client(text), KeyError(text)
    outer.__cause__, middle.__context__ = middle, inner
    return outer


KINDS = {
    "plain": ValueError,
    "client": Client,
    "stubborn": Stubborn,
    "slotted": Slotted,
    "key": KeyError,
    "system": lambda text: OSError(errno.EACCES, text, "/x", None, f"{text} z"),
    "nested": lambda text: ValueError({"headers": {"authorization": CORE}, "said": [text]}),
    "bytes": lambda text: ValueError(text.encode()),
    "noted": noted,
    "invalid": invalid,
    "chained": chained,
    "group": lambda text: ExceptionGroup("several", [ValueError(text), chained(text)]),
    "named group": lambda text: ExceptionGroup(text, [ValueError("no")]),
}


def raised(error):
    try:
        raise error
    except Exception as caught:  # noqa: BLE001 - what it raised itself
        return caught


def shown(error):
    """Everything that a log or a person sees of an exception."""
    texts = ["".join(traceback.format_exception(error))]
    link = error
    while link is not None:
        texts += [str(link), repr(link), str(vars(link)) if isinstance(link, Client) else ""]
        link = link.__cause__ or link.__context__
    return "\n".join(texts)


@pytest.mark.parametrize("kind", KINDS)
def test_an_exception_is_masked_with_all_that_led_to_it(kind):
    for form in FORMS:
        kit.TRIED[0] += 1
        masked = mask_error(raised(KINDS[kind](form)))
        assert not leaks(shown(masked)), form
        if kind not in ("invalid", "named group"):
            assert type(masked).__name__ == type(KINDS[kind](form)).__name__
    untouched = raised(KINDS[kind]("nothing of note"))
    arguments = untouched.args
    if kind == "invalid":  # what a model was given is masked whatever it is
        assert "nothing of note" not in str(mask_error(untouched))
        return
    assert mask_error(untouched) is untouched
    if kind != "nested":
        assert untouched.args is arguments


def test_who_catches_a_client_s_error_by_its_class_still_does():
    for kind in (Client, Stubborn, Slotted):
        masked = mask_error(raised(kind(f"api_key={CORE}")))
        assert isinstance(masked, kind)
        assert masked.__traceback__ is not None
    client = mask_error(raised(Client(f"api_key={CORE}")))
    assert client.status_code == 401
    assert client.body == {"error": {"message": "api_key=***"}, "headers": {"x-api-key": "***"}}


def test_an_endless_chain_ends():
    error = ValueError(f"api_key={CORE}")
    other = ValueError(f"api_key={CORE}")
    error.__context__, other.__context__ = other, error
    assert mask_error(error) is error
    assert not leaks(str(error) + str(other))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("way", ["call", "timeout", "batch", "stream", "cut stream"])
def test_nothing_that_dispatch_tells_holds_a_secret(kind, way, decide, caplog):
    caplog.set_level(logging.DEBUG)
    health = Health(Breaker(failures=2))
    options = DispatchOptions(timeout=30.0 if way == "timeout" else None)
    texts, raised_kinds = [], set()
    for form in FORMS[:: 4 if way != "call" else 1]:

        def fail(name, *_, text=form):
            raise KINDS[kind](text)

        def begin(name, text=form):
            yield "one"
            raise KINDS[kind](text)

        kit.TRIED[0] += 1
        decision = decide("a", "b")
        try:
            if way == "batch":
                [outcome] = dispatch_batch([decision], fail, options, health=health)
                raise outcome
            if way in ("stream", "cut stream"):
                call = begin if way == "cut stream" else fail
                list(dispatch_stream(decision, call, options, health=health))
            else:
                dispatch(decision, fail, options, health=health)
        except Exception as error:
            logging.getLogger("app").exception("it failed")
            texts.append(shown(error))
            raised_kinds.add(isinstance(error, DispatchError))
            if isinstance(error, DispatchError):
                texts += [repr(attempt) + str(attempt.to_dict()) for attempt in error.tried]
        outcome = dispatch(
            decision, lambda name: "yes" if name == "b" else fail(name), DispatchOptions()
        )
        whole = record(decision, outcome)
        texts += [whole.explain(), json.dumps(whole.to_dict()), repr(whole), repr(outcome)]
    # A stream that is cut raises its expert's own error, until the circuit is open.
    assert raised_kinds == ({True, False} if way == "cut stream" else {True})
    texts += [str(health.snapshot()), repr(health), caplog.text]
    assert not [text for text in texts if leaks(text)]


def test_no_file_of_measured_answers_holds_a_secret(tmp_path, capfd, caplog):
    pytest.importorskip("pyarrow")
    caplog.set_level(logging.DEBUG)

    def expert(text):
        raise Client(text)

    rows = [{"prompt": f"question {n}", "reference": "x"} for n in range(len(FORMS))]
    forms = iter(FORMS)
    calls = {"a": lambda _: expert(next(forms))}
    label_answers(calls, rows, "exact", tmp_path / "out", give_up_after=None, retries=0)
    files = [path for path in (tmp_path / "out").rglob("*") if path.is_file()]
    assert len(files) >= 2
    import pyarrow.parquet

    for path in files:
        assert not leaks(path.read_bytes().decode("latin-1")), path
        if path.suffix == ".parquet":
            errors = pyarrow.parquet.read_table(path).column("error").to_pylist()
            assert all("Client" in error for error in errors)
    captured = capfd.readouterr()
    assert not leaks(captured.out + captured.err + caplog.text)


def test_no_adapter_tells_a_secret(router, caplog):
    caplog.set_level(logging.DEBUG)
    langchain = pytest.importorskip("langchain_tryage")
    from langchain_core.runnables import RunnableLambda

    for form in FORMS[::3]:

        def fail(_, text=form):
            raise Client(text)

        experts = {name: RunnableLambda(fail) for name in router.library.names}
        with pytest.raises(DispatchError) as caught:
            langchain.TryageRouter(router, experts).invoke("def f(x):")
        assert not leaks(shown(caught.value))
    assert not leaks(caplog.text)
