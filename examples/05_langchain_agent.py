"""An agent whose model is chosen for it: pip install "tryage[langchain]", no network, no key.

The models here are scripted, so that this runs anywhere: each calls the tool once and then answers
with what the tool said. Put ChatOpenAI(...) or "openai:gpt-..." strings in their place.
"""

from langchain.agents import create_agent
from langchain_core.language_models.fake_chat_models import FakeMessagesListChatModel
from langchain_core.messages import AIMessage
from langchain_core.tools import tool

from langchain_tryage import TryageMiddleware
from tryage import Router


class Scripted(FakeMessagesListChatModel):
    """Gives its messages one after the other, and takes tools."""

    def bind_tools(self, tools, **kwargs):
        return self.bind(tools=tools, **kwargs)


@tool
def departure(city: str) -> str:
    """When the train to a city leaves."""
    return f"The train to {city} leaves at 22:10."


def expert(name):
    call = {"name": "departure", "args": {"city": "Vienna"}, "id": "1"}
    answer = AIMessage(f"At 22:10, says {name}.")
    return Scripted(responses=[AIMessage("", tool_calls=[call]), answer])


router = Router.from_pretrained("open7")
experts = {name: expert(name) for name in router.library.names}
middleware = TryageMiddleware(router, experts, flags_from="last_message")
agent = create_agent(expert("nobody"), [departure], middleware=[middleware])

for flag in ("", " [Flag: newest model]"):
    user_message = {"role": "user", "content": f"When does the train to Vienna leave?{flag}"}
    state = agent.invoke({"messages": [user_message]})
    print([message.type for message in state["messages"]], state["messages"][-1].content)
    print("  chosen once for the run:", state["tryage"]["expert"])
