"""How the stand-in is told to misbehave.

Owns the vocabulary of behaviours and the order in which a script is played. How each looks is ``playback``'s and the wires'
matter.
"""

from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields
from types import UnionType
from typing import Any, get_args, get_origin


@dataclass(frozen=True, slots=True, kw_only=True)
class Behaviour:
    """What the stand-in does with one call; everything can be combined, and the default is a good answer at once."""

    when: str | None = None
    """Only for calls whose prompt contains this text."""
    when_model: str | None = None
    """Only for calls to the model of this name."""
    latency_s: float | None = None
    """Seconds before the first byte."""
    tokens_per_s: float | None = None
    """Speed of a streamed answer."""
    status: int | None = None
    """An HTTP error of this status."""
    error: str | None = None
    """The provider's error code, e.g. ``insufficient_quota``; brings its own status unless one is given."""
    message: str | None = None
    """The words of an error."""
    body: str | None = None
    """Exactly this body of an error, in whatever form."""
    headers: dict[str, str] = field(default_factory=dict)
    """Headers of an error."""
    retry_after_s: float | None = None
    """``Retry-After`` on an error."""
    hang: bool = False
    """Nothing is sent until ``release``."""
    stall: bool = False
    """Half of a streamed answer is sent, then nothing until ``release``."""
    stall_after: str | None = None
    """A streamed answer is sent up to the piece with this text, then nothing until ``release``."""
    pieces: int | None = None
    """In so many pieces a streamed answer comes, where its speed does not say."""
    drip: bool = False
    """The answer comes byte by byte."""
    drip_s: float = 0.2
    """Seconds between two bytes of a dripped answer."""
    disconnect: bool = False
    """The connection is cut in the middle of the answer."""
    ends_early: bool = False
    """A streamed answer ends in the middle, in good order and without saying why."""
    reset: bool = False
    """The connection is reset before anything is sent."""
    breaks: bool = False
    """An error in the middle of a streamed answer, in the wire's own form."""
    html: bool = False
    """A page of HTML with status 200, as a captive portal sends it."""
    empty: bool = False
    """An answer without choices."""
    garbage: bool = False
    """Prose where JSON was asked for."""
    truncated: bool = False
    """JSON that ends in the middle, with ``finish_reason`` ``length``."""
    fenced: bool = False
    """The JSON in a Markdown code block, with a sentence before it."""
    refusal: bool = False
    """The model's own refusal: no content, a ``refusal`` text."""
    filtered: bool = False
    """An answer that the provider's filter cut: ``finish_reason`` ``content_filter``."""
    nul: bool = False
    """A NUL and a lone surrogate, as JSON escapes, in several texts of the answer."""
    placeholder: bool = False
    """A ``[Name]`` in the replies."""
    nothing: bool = False
    """The answer says that the screenshot shows no message."""
    rejects_json_schema: bool = False
    """400 for ``response_format`` ``json_schema``."""
    rejects_json_object: bool = False
    """400 for ``response_format`` ``json_object``."""
    rejects_max_tokens: bool = False
    """400 for ``max_tokens``, as reasoning models answer."""
    rejects_images: bool = False
    """400 for a call with a picture."""
    cached_tokens: int = 0
    """So many more tokens of the prompt, from the cache."""
    cost_usd: float | None = None
    """What the provider says that the call cost."""
    says: str | None = None
    """Exactly this text instead of an answer."""
    fields: dict[str, Any] = field(default_factory=dict)
    """These values instead of the answer's own."""

    def fits(self, *, prompt: str, model: str) -> bool:
        """Say whether this behaviour is meant for such a call."""
        return (self.when is None or self.when in prompt) and self.when_model in (None, model)

    def said(self) -> dict[str, Any]:
        """Return what was asked for, without the defaults."""
        standard = asdict(Behaviour())
        return {name: value for name, value in asdict(self).items() if value != standard[name]}

    @classmethod
    def read(cls, raw: Mapping[str, Any]) -> "Behaviour":
        """Check a behaviour that came as JSON.

        Raises:
            ValueError: a name is unknown or a value is of the wrong type; the message names it.
        """
        known = {one.name: one.type for one in fields(cls)}
        for name, value in raw.items():
            if name not in known:
                raise ValueError(f"unknown behaviour {name!r}; known are {', '.join(known)}")
            if not _is_of(value, known[name]):
                raise ValueError(f"behaviour {name!r} cannot be of type {type(value).__name__}")
        return cls(**raw)


def _is_of(value: object, annotation: Any) -> bool:
    members = get_args(annotation) if isinstance(annotation, UnionType) else (annotation,)
    accepted = {get_origin(one) or one for one in members}
    # The exact type, because a bool is an int to isinstance().
    return type(value) in accepted or (type(value) is int and float in accepted)


Step = Behaviour | Mapping[str, Any]


def steps(given: Step | Iterable[Step] | None) -> tuple[Behaviour, ...]:
    """Read one behaviour or several.

    Raises:
        ValueError: one is not understood.
    """
    if given is None:
        return ()
    several = [given] if isinstance(given, Behaviour | Mapping) else list(given)
    for one in several:
        if not isinstance(one, Behaviour | Mapping):
            raise ValueError("a behaviour is a JSON object")  # noqa: TRY004 - one kind of error for whatever was sent
    return tuple(one if isinstance(one, Behaviour) else Behaviour.read(one) for one in several)


class Script:
    """Behaviours for the calls to come, each played once, and standing ones for all calls that no step fits."""

    def __init__(self, once: Iterable[Behaviour] = (), default: Iterable[Behaviour] = ()) -> None:
        self._once = deque(once)
        self._default = tuple(default)

    def next_for(self, *, prompt: str, model: str) -> Behaviour:
        """Take the first step that fits this call, else the first standing behaviour that does."""
        for step in self._once:
            if step.fits(prompt=prompt, model=model):
                self._once.remove(step)
                return step
        return next((one for one in self._default if one.fits(prompt=prompt, model=model)), Behaviour())
