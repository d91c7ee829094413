"""LangChain's own standard tests, over scripted experts and over real local pipelines.

Four set-ups: experts that call tools, experts of which one does, one that cannot stream, and real
Hugging Face pipelines. What a set-up may skip is listed here and compared exactly.
"""

import importlib.util

import pytest
from langchain_tests.integration_tests import ChatModelIntegrationTests
from langchain_tests.unit_tests import ChatModelUnitTests

from langchain_tryage import ChatTryage
from langchain_tryage.pipelines import ChatTryagePipeline

FROM_THE_NETWORK = {
    # Their images, sounds and documents are fetched; their formats are the experts' business.
    "test_anthropic_inputs",
    "test_audio_inputs",
    "test_image_inputs",
    "test_image_tool_message",
    "test_pdf_inputs",
    "test_pdf_tool_message",
    # Replays recorded traffic.
    "test_stream_time",
}
NOT_SET_UP = {
    # Nothing here is read from the environment; what the experts read is their own business.
    "test_init_from_env",
    # Tracers keep a chat model's saved form with every run, so it names the experts and holds
    # nothing of them. `TryageRouter` can be saved, see test_saving.py.
    "test_serdes",
}
NO_TOOLS = {
    "test_agent_loop",
    "test_bind_runnables_as_tools",
    "test_structured_few_shot_examples",
    "test_structured_output",
    "test_structured_output_async",
    "test_structured_output_optional_param",
    "test_structured_output_pydantic_2_v1",
    "test_tool_calling",
    "test_tool_calling_async",
    "test_tool_calling_with_no_arguments",
    "test_tool_choice",
    "test_tool_message_error_status",
    "test_tool_message_histories_list_content",
    "test_tool_message_histories_string_content",
    "test_unicode_tool_call_integration",
    "test_json_mode",
}
SKIPS = {
    "TestUnitTools": NOT_SET_UP,
    "TestUnitMixed": NOT_SET_UP,
    "TestUnitWhole": NOT_SET_UP,
    "TestUnitPipelines": NOT_SET_UP,
    "TestUnitPipeline": NOT_SET_UP,
    "TestIntegrationTools": FROM_THE_NETWORK,
    "TestIntegrationMixed": FROM_THE_NETWORK,
    "TestIntegrationWhole": FROM_THE_NETWORK,
    "TestIntegrationPipelines": FROM_THE_NETWORK | NO_TOOLS,
}


def without(params, *names):
    """LangChain's usual arguments but those that a class refuses."""
    return {name: value for name, value in params.items() if name not in names}


class _Routed:
    """What every set-up says of itself."""

    @property
    def chat_model_class(self):
        return ChatTryage

    @property
    def chat_model_params(self):
        return self.params

    @property
    def standard_chat_model_params(self):
        # Each expert has its own.
        return without(super().standard_chat_model_params, "api_key", "max_retries")

    @property
    def model_override_value(self):
        return "giant"

    @property
    def supports_json_mode(self):
        return True


class _Tools(_Routed):
    """Two experts, both call tools."""

    @pytest.fixture(autouse=True)
    def _experts(self, router, kit):
        experts = {name: kit.Calling(label=name) for name in ("coder", "giant")}
        self.params = {"router": router, "experts": experts}


class _Mixed(_Routed):
    """The expert that prose goes to has no tools, and one cannot stream."""

    @pytest.fixture(autouse=True)
    def _experts(self, router, kit):
        kinds = {"coder": kit.CallingWhole, "writer": kit.Streaming, "giant": kit.Calling}
        experts = {name: kind(label=name) for name, kind in kinds.items()}
        self.params = {"router": router, "experts": experts}


class _Whole(_Routed):
    """No expert streams."""

    @pytest.fixture(autouse=True)
    def _experts(self, router, kit):
        self.params = {"router": router, "experts": kit.experts(kit.CallingWhole)}


class _Pipelines(_Routed):
    """Real small models, run here; they have neither tools nor options of a client."""

    @pytest.fixture(autouse=True)
    def _experts(self, tiny_router):
        self.params = {"router": tiny_router}

    @property
    def standard_chat_model_params(self):
        return {}

    @property
    def has_tool_calling(self):
        return False

    @property
    def has_structured_output(self):
        return False

    @property
    def supports_json_mode(self):
        return False

    @property
    def model_override_value(self):
        return "prose-gpt"


class TestUnitTools(_Tools, ChatModelUnitTests):
    pass


class TestUnitMixed(_Mixed, ChatModelUnitTests):
    pass


class TestUnitWhole(_Whole, ChatModelUnitTests):
    pass


class TestUnitPipelines(_Pipelines, ChatModelUnitTests):
    pass


class TestIntegrationTools(_Tools, ChatModelIntegrationTests):
    pass


class TestIntegrationMixed(_Mixed, ChatModelIntegrationTests):
    pass


class TestIntegrationWhole(_Whole, ChatModelIntegrationTests):
    pass


class TestIntegrationPipelines(_Pipelines, ChatModelIntegrationTests):
    pass


class TestUnitPipeline(ChatModelUnitTests):
    @pytest.fixture(autouse=True)
    def _runtime(self, tiny_library):
        from tryage import Library
        from tryage.runtime import Runtime

        self.params = {"runtime": Runtime(Library.read(tiny_library)), "expert": "prose-gpt"}

    @property
    def standard_chat_model_params(self):
        # It calls no service.
        params = super().standard_chat_model_params
        return without(params, "api_key", "max_retries", "timeout")

    @property
    def chat_model_class(self):
        return ChatTryagePipeline

    @property
    def chat_model_params(self):
        return self.params


def test_exactly_the_listed_tests_are_skipped(request, standard_skips):
    """Stands last in the file, so it runs after those it speaks of."""
    if request.config.getoption("keyword") or any("::" in arg for arg in request.config.args):
        pytest.skip("only a part of the standard tests was run")
    # Without torch there are no pipelines, so all of their tests are skipped.
    whole = importlib.util.find_spec("torch") is not None
    skipped, expected = (
        {name: tests for name, tests in skips.items() if whole or "Pipeline" not in name}
        for skips in (standard_skips, SKIPS)
    )
    assert skipped == expected
