"""LangChain's own standard tests, over scripted experts and over real local pipelines."""

import pytest
from langchain_tests.integration_tests import ChatModelIntegrationTests
from langchain_tests.unit_tests import ChatModelUnitTests

from langchain_tryage import ChatTryage
from langchain_tryage.pipelines import ChatTryagePipeline


class _Scripted:
    """Everything but tools, which `ChatTryage` does not pass on."""

    kind: str

    @pytest.fixture(autouse=True)
    def _experts(self, router, kit):
        self.params = {"router": router, "experts": kit.experts(getattr(kit, self.kind))}

    @property
    def chat_model_class(self):
        return ChatTryage

    @property
    def chat_model_params(self):
        return self.params

    @property
    def model_override_value(self):
        return "giant"

    @property
    def returns_usage_metadata(self):
        return True


class TestUnitStreaming(_Scripted, ChatModelUnitTests):
    kind = "Streaming"


class TestUnitWhole(_Scripted, ChatModelUnitTests):
    kind = "Whole"


class TestIntegrationStreaming(_Scripted, ChatModelIntegrationTests):
    kind = "Streaming"


class TestIntegrationWhole(_Scripted, ChatModelIntegrationTests):
    kind = "Whole"


class TestIntegrationPipelines(ChatModelIntegrationTests):
    @pytest.fixture(autouse=True)
    def _experts(self, tiny_router):
        self.params = {"router": tiny_router}

    @property
    def chat_model_class(self):
        return ChatTryage

    @property
    def chat_model_params(self):
        return self.params

    @property
    def standard_chat_model_params(self):
        return {}

    @property
    def model_override_value(self):
        return "prose-gpt"


class TestUnitPipeline(ChatModelUnitTests):
    @pytest.fixture(autouse=True)
    def _runtime(self, tiny_library):
        from tryage import Library
        from tryage.runtime import Runtime

        self.params = {"runtime": Runtime(Library.read(tiny_library)), "expert": "prose-gpt"}

    @property
    def chat_model_class(self):
        return ChatTryagePipeline

    @property
    def chat_model_params(self):
        return self.params
