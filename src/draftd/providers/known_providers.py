"""The providers that a ``draft_models`` row may name, with their addresses and the variables that litellm reads for them.

A table, because commands must not import litellm. Providers are left out if they do what no row may cause: log in with a device
code (``github_copilot``, ``chatgpt``), call an address contained in the model's name (``huggingface``, ``oobabooga``), or run a
command. The operator can still name such a model in ``DRAFTD_MODEL``.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass

MAX_NAME_CHARS = 200
# No URL, query or escape: litellm puts names into paths, and for some providers treats a URL as the address. An ARN is an
# address too: it names the AWS account that receives the picture.
_LITELLM_NAME = re.compile(r"[A-Za-z0-9_@][A-Za-z0-9_.:@+-]*(?:/[A-Za-z0-9_@][A-Za-z0-9_.:@+-]*)*")


@dataclass(frozen=True, slots=True, kw_only=True)
class Provider:
    """A provider that litellm knows."""

    keys: tuple[str, ...] = ()
    """Variables that may contain its key."""
    bases: tuple[str, ...] = ()
    """Variables that replace its address."""
    hosts: tuple[str, ...] = ()
    """Its own hosts, over https; empty for a self-hosted provider."""


def _hosted(name: str, *hosts: str, keys: tuple[str, ...] = ()) -> Provider:
    return Provider(keys=keys or (f"{name}_API_KEY",), bases=(f"{name}_API_BASE",), hosts=hosts)


_COHERE = Provider(keys=("COHERE_API_KEY", "CO_API_KEY"), bases=("COHERE_API_BASE",), hosts=("api.cohere.ai",))
_OLLAMA = Provider(keys=("OLLAMA_API_KEY",), bases=("OLLAMA_API_BASE",), hosts=("ollama.com",))
_TOGETHER = ("TOGETHER_API_KEY", "TOGETHER_AI_API_KEY", "TOGETHERAI_API_KEY")
_FIREWORKS = ("FIREWORKS_API_KEY", "FIREWORKS_AI_API_KEY", "FIREWORKSAI_API_KEY")

PROVIDERS: Mapping[str, Provider] = {
    "anthropic": Provider(
        keys=("ANTHROPIC_API_KEY",), bases=("ANTHROPIC_API_BASE", "ANTHROPIC_BASE_URL"), hosts=("api.anthropic.com",)
    ),
    "azure": Provider(keys=("AZURE_API_KEY", "AZURE_OPENAI_API_KEY"), bases=("AZURE_API_BASE",)),
    "azure_ai": Provider(keys=("AZURE_AI_API_KEY",), bases=("AZURE_AI_API_BASE",)),
    "bedrock": Provider(),
    "cerebras": _hosted("CEREBRAS", "api.cerebras.ai"),
    "cohere": _COHERE,
    "cohere_chat": _COHERE,
    "dashscope": _hosted("DASHSCOPE", "dashscope.aliyuncs.com", "dashscope-intl.aliyuncs.com"),
    "databricks": _hosted("DATABRICKS"),
    "deepinfra": _hosted("DEEPINFRA", "api.deepinfra.com"),
    "deepseek": _hosted("DEEPSEEK", "api.deepseek.com"),
    "fireworks_ai": _hosted("FIREWORKS", "api.fireworks.ai", keys=_FIREWORKS),
    "gemini": _hosted("GEMINI", "generativelanguage.googleapis.com", keys=("GEMINI_API_KEY", "GOOGLE_API_KEY")),
    "github": _hosted("GITHUB", "models.inference.ai.azure.com"),
    "groq": _hosted("GROQ", "api.groq.com"),
    "hosted_vllm": _hosted("HOSTED_VLLM"),
    "hyperbolic": _hosted("HYPERBOLIC", "api.hyperbolic.xyz"),
    "litellm_proxy": _hosted("LITELLM_PROXY"),
    "llamafile": _hosted("LLAMAFILE"),
    "lm_studio": _hosted("LM_STUDIO"),
    "meta_llama": _hosted("LLAMA", "api.llama.com"),
    "minimax": _hosted("MINIMAX", "api.minimax.io", "api.minimaxi.com"),
    "mistral": Provider(
        keys=("MISTRAL_API_KEY", "MISTRAL_AZURE_API_KEY"),
        bases=("MISTRAL_API_BASE", "MISTRAL_AZURE_API_BASE"),
        hosts=("api.mistral.ai",),
    ),
    "moonshot": _hosted("MOONSHOT", "api.moonshot.ai"),
    "nebius": _hosted("NEBIUS", "api.studio.nebius.ai"),
    "novita": _hosted("NOVITA", "api.novita.ai"),
    "nvidia_nim": _hosted("NVIDIA_NIM", "integrate.api.nvidia.com"),
    "ollama": _OLLAMA,
    "ollama_chat": _OLLAMA,
    "openai": Provider(
        keys=("OPENAI_API_KEY",), bases=("OPENAI_BASE_URL", "OPENAI_API_BASE"), hosts=("api.openai.com",)
    ),
    "openrouter": _hosted("OPENROUTER", "openrouter.ai", keys=("OPENROUTER_API_KEY", "OR_API_KEY")),
    "perplexity": _hosted("PERPLEXITY", "api.perplexity.ai", keys=("PERPLEXITY_API_KEY", "PERPLEXITYAI_API_KEY")),
    "sambanova": _hosted("SAMBANOVA", "api.sambanova.ai"),
    "together_ai": _hosted("TOGETHER_AI", "api.together.ai", "api.together.xyz", keys=_TOGETHER),
    "vercel_ai_gateway": _hosted("VERCEL_AI_GATEWAY", "ai-gateway.vercel.sh"),
    "vertex_ai": Provider(bases=("VERTEXAI_API_BASE", "VERTEX_API_BASE")),
    "volcengine": _hosted("VOLCENGINE", "ark.cn-beijing.volces.com", keys=("VOLCENGINE_API_KEY", "ARK_API_KEY")),
    "watsonx": _hosted("WATSONX"),
    "xai": _hosted("XAI", "api.x.ai"),
    "zai": _hosted("ZAI", "api.z.ai"),
}

KEY_VARIABLES = frozenset(variable for provider in PROVIDERS.values() for variable in provider.keys)


def provider_of(model: str) -> str | None:
    """Return the provider prefix of a litellm name, or None (``gpt-5-mini`` has none)."""
    provider, separator, _ = model.partition("/")
    return provider if separator else None


def owner_of(host: str) -> str | None:
    """Return the provider that owns a host, or None."""
    return next((name for name, provider in PROVIDERS.items() if host in provider.hosts), None)


def is_litellm_name(model: str) -> bool:
    """Return whether a name contains nothing but a provider and a model."""
    return len(model) <= MAX_NAME_CHARS and _LITELLM_NAME.fullmatch(model) is not None and "arn:" not in model.lower()
