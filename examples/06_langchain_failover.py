"""What happens when experts fail: pip install "tryage[langchain]", no network, no key."""

from langchain_core.language_models import FakeListChatModel
from langchain_core.language_models.fake_chat_models import FakeListChatModelError

from langchain_tryage import ChatTryage
from tryage import Router
from tryage.errors import DispatchError

router = Router.from_pretrained("open7")
question = "A train covers 210 km at 84 km/h. How long does it take?"
first, second = router.route(question).order[:2]


class Down(FakeListChatModel):
    """Fails before its first word."""

    def _call(self, *args, **kwargs):
        raise ConnectionError("nobody there")

    def _stream(self, *args, **kwargs):
        raise ConnectionError("nobody there")


experts = {name: FakeListChatModel(responses=["2.5 hours"]) for name in router.library.names}

# The best expert is down: the next in the ranking answers, and the record says so.
model = ChatTryage(router, experts | {first: Down(responses=[])})
record = model.invoke(question).response_metadata["tryage"]
for attempt in record["tried"]:
    print(attempt["expert"], "->", attempt["error"] or "answered")

# A stream fails over too, until its first chunk.
print("".join(chunk.content for chunk in model.stream(question)))

# After the first chunk nothing can be taken back: the error is the reader's.
model = ChatTryage(
    router, experts | {first: FakeListChatModel(responses=["2.5"], error_on_chunk_number=2)}
)
try:
    for chunk in model.stream(question):
        print(chunk.content, end=" ")
except FakeListChatModelError:
    print("... cut off")

# All down: one error that lists what was tried.
model = ChatTryage(router, dict.fromkeys(experts, Down(responses=[])), max_attempts=2)
try:
    model.invoke(question)
except DispatchError as error:
    print([attempt.expert for attempt in error.tried] == [first, second], len(error.tried))
