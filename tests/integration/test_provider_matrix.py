"""``docs/providers.md`` says what is seen on the wires."""

import pytest

from draftd.providers.llm import Llm
from draftd.stand_in.wires.dialects import Dialect
from provider_matrix import ALL, PAGE, failures_on, line, look, rendered, written

# litellm reads a pydantic attribute in a deprecated way at every chunk, and hands its own types over in a wrong form.
pytestmark = [
    pytest.mark.filterwarnings("ignore:Accessing the 'model_:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:Pydantic serializer warnings:UserWarning"),
]

WIRES = {"OpenAI", "Anthropic", "Gemini", "Bedrock"}
"""One provider of each; the others speak the same, or nearly."""


@pytest.mark.parametrize(
    "dialect",
    [pytest.param(one, id=one.title, marks=() if one.title in WIRES else pytest.mark.long) for one in ALL],
)
async def test_the_page_says_what_is_seen_of_a_provider(llm: Llm, dialect: Dialect) -> None:
    row, page = await look(llm, dialect), written(PAGE.read_text())
    assert line(row) in page.splitlines(), "run `make docs`"
    assert failures_on(page, dialect.title) == row.failures, "run `make docs`"
    assert failures_on(rendered([row]), dialect.title) == row.failures
