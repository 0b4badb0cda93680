"""The parts that settings alone determine; ``draftd doctor`` and the evaluations use them, too."""

from draftd import __version__
from draftd.images import ByteBudget, Fetcher, ImageLoader, Preparer
from draftd.images.fetch import TOTAL_S
from draftd.images.headers import ImageHeaders
from draftd.providers.catalog import AgentModels
from draftd.settings import Settings, environment_value
from draftd.telemetry.langfuse import load_tracing
from draftd.telemetry.tracing import Tracing

IMAGE_BUDGET_BYTES = 192 * 1024 * 1024
"""Of pictures as fetched and then as sent to models."""
INPUT_BUDGET_BYTES = 64 * 1024 * 1024
"""Of pictures as read from rows. Two budgets, because an attempt holds its row's pictures while it waits to fetch: one budget
could deadlock."""


def image_headers(settings: Settings) -> ImageHeaders:
    """Return the headers for hosts that keep pictures private.

    Raises:
        ConfigurationError: a line is invalid.
    """
    return ImageHeaders.parse(settings.image_headers.get_secret_value())


def image_loader(settings: Settings) -> ImageLoader:
    """Return what fetches and prepares pictures."""
    return ImageLoader(
        fetcher=Fetcher(
            max_bytes=settings.image_max_bytes,
            allow_private=settings.allow_private_image_hosts,
            headers=image_headers(settings),
        ),
        preparer=Preparer(max_pixels=settings.image_max_pixels, long_edge_px=settings.image_long_edge_px),
        budget=ByteBudget(IMAGE_BUDGET_BYTES),
    )


def default_choice(settings: Settings) -> AgentModels | None:
    """Return what answers an agent without a row in ``draft_agents``: ``DRAFTD_MODEL`` and its fallbacks, if set."""
    if settings.model is None:
        return None
    return AgentModels(models=(settings.model, *settings.fallback_models))


def probe_s(settings: Settings) -> float:
    """Return how long a probe may take: its pictures and one call, within one attempt; in seconds."""
    return min(settings.attempt_timeout_s, TOTAL_S + settings.model_timeout_s)


def tracing_of(settings: Settings) -> Tracing:
    """Return the tracing that the environment asks for."""
    return load_tracing(
        public_key=environment_value("LANGFUSE_PUBLIC_KEY"),
        secret_key=environment_value("LANGFUSE_SECRET_KEY"),
        host=environment_value("LANGFUSE_BASE_URL") or environment_value("LANGFUSE_HOST"),
        content=settings.trace_content,
        release=__version__,
        sample_rate=environment_value("LANGFUSE_SAMPLE_RATE"),
    )
