"""An agent whose model is chosen by prompt, with failover: no network, no key."""

import asyncio
import warnings

from llama_index.core.agent.workflow import FunctionAgent
from llama_index.core.llms.mock import MockFunctionCallingLLM
from llama_index.core.memory import ChatMemoryBuffer
from llama_index_instrumentation import get_dispatcher
from llama_index_instrumentation.event_handlers import BaseEventHandler
from pydantic.warnings import PydanticDeprecationWarning

from llama_index_tryage import TryageDecisionEvent, TryageFunctionCallingLLM
from tryage import Router

# LlamaIndex's workflows look at deprecated attributes of pydantic.
warnings.filterwarnings("ignore", category=PydanticDeprecationWarning)


class Decisions(BaseEventHandler):
    """Prints every decision."""

    def handle(self, event, **kwargs):
        """Take an event of LlamaIndex's instrumentation."""
        if isinstance(event, TryageDecisionEvent):
            print("decided:", event.expert)


class Down(MockFunctionCallingLLM):
    """A model whose service is down."""

    async def astream_chat(self, messages, **kwargs):
        """Fail."""
        raise ConnectionError("service down")


def half_life() -> str:
    """Look up the half-life of carbon-14."""
    return "about 5,730 years"


async def main():
    """Run an agent whose best model is down."""
    router = Router.from_pretrained("open7")
    question = "How long is the half-life of carbon-14?"
    # Put your own function-calling LLMs here; this one calls every tool it is given.
    experts = {name: MockFunctionCallingLLM() for name in router.library.names}
    experts[router.route(question).expert] = Down()
    agent = FunctionAgent(tools=[half_life], llm=TryageFunctionCallingLLM(router, experts))
    result = await agent.run(question, memory=ChatMemoryBuffer.from_defaults())
    for call in result.tool_calls:
        print(call.tool_name, "→", call.tool_output)
    print(result)


get_dispatcher().add_event_handler(Decisions())
asyncio.run(main())
