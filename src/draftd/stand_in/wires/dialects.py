"""The providers: which format each speaks, and in which ways it differs from others that speak it.

A row is a provider as draftd reaches it through litellm: a model of it that sees, and where the server is. What a model is asked
may depend on what litellm knows of it, so each row names one that litellm knows, where it knows any.
"""

from dataclasses import dataclass

from draftd.stand_in.wires.anthropic import Anthropic
from draftd.stand_in.wires.chat import Chat
from draftd.stand_in.wires.converse import Converse
from draftd.stand_in.wires.gemini import Gemini
from draftd.stand_in.wires.ollama import Ollama
from draftd.stand_in.wires.responses import Responses
from draftd.stand_in.wires.wire import Wire


@dataclass(frozen=True, slots=True, kw_only=True)
class Dialect:
    """A provider."""

    title: str
    model: str
    """What is written in ``DRAFTD_MODEL``."""
    wire: Wire
    base: str = ""
    """What follows the host in ``api_base``."""
    extra: str | None = None
    """The extra of draftd that brings what litellm needs for it."""
    logs_in: bool = False
    """Whether a key is not enough, as Google's login is asked for a token."""


_VERTEX = "/v1/projects/made-up/locations/us-central1/publishers"

OPENAI = Dialect(title="OpenAI", model="openai/gpt-4o-mini", wire=Chat(), base="/v1")

DIALECTS = (
    OPENAI,
    Dialect(
        title="OpenAI Responses", model="openai/responses/gpt-4o-mini", wire=Responses(), base="/v1", extra="responses"
    ),
    Dialect(title="Azure OpenAI", model="azure/gpt-4o", wire=Chat()),
    Dialect(title="Anthropic", model="anthropic/claude-sonnet-4-5", wire=Anthropic()),
    Dialect(title="Gemini", model="gemini/gemini-2.5-flash", wire=Gemini()),
    Dialect(title="Bedrock", model="bedrock/converse/us.anthropic.claude-sonnet-4-5-20250929-v1:0", wire=Converse()),
    Dialect(title="Bedrock, other models", model="bedrock/converse/us.amazon.nova-pro-v1:0", wire=Converse()),
    Dialect(
        title="Mistral",
        model="mistral/mistral-medium-latest",
        wire=Chat(usage_in="last chunk", error_as="flat"),
        base="/v1",
    ),
    Dialect(
        title="Groq",
        model="groq/qwen/qwen3.8-27b",
        wire=Chat(service_tier="on_demand"),
        base="/openai/v1",
    ),
    Dialect(
        title="OpenRouter",
        model="openrouter/anthropic/claude-sonnet-4.5",
        wire=Chat(error_as="number", broken_as="chunk", comment="OPENROUTER PROCESSING"),
        base="/api/v1",
    ),
    Dialect(title="DeepSeek", model="deepseek/deepseek-flash", wire=Chat(cached_as="prompt_cache_hit_tokens")),
    Dialect(title="xAI", model="xai/grok-4.3", wire=Chat(error_as="strings"), base="/v1"),
    Dialect(
        title="Together AI",
        model="together_ai/Qwen/Qwen3.5-9B",
        wire=Chat(usage_in="last chunk"),
        base="/v1",
    ),
    Dialect(
        title="Fireworks AI",
        model="fireworks_ai/accounts/fireworks/models/qwen3p7-plus",
        wire=Chat(usage_in="last chunk"),
        base="/inference/v1",
    ),
    Dialect(
        title="Ollama",
        model="ollama_chat/qwen2.5vl",
        wire=Ollama(),
    ),
    Dialect(title="vLLM", model="hosted_vllm/qwen", wire=Chat(error_as="flat"), base="/v1"),
    Dialect(title="llama.cpp", model="llamafile/qwen", wire=Chat(), base="/v1"),
    Dialect(title="LM Studio", model="lm_studio/qwen", wire=Chat(), base="/v1"),
    Dialect(title="LiteLLM proxy", model="litellm_proxy/vision", wire=Chat()),
)

LOGGING_IN = (
    Dialect(
        title="Vertex AI",
        model="vertex_ai/gemini-2.5-flash",
        wire=Gemini(),
        base=f"{_VERTEX}/google/models/gemini-2.5-flash",
        extra="vertex",
        logs_in=True,
    ),
    Dialect(
        title="Claude on Vertex AI",
        model="vertex_ai/claude-sonnet-4-5",
        wire=Anthropic(),
        base=f"{_VERTEX}/anthropic/models/claude-sonnet-4-5",
        extra="vertex",
        logs_in=True,
    ),
)
"""Those for whom a key is not enough."""
