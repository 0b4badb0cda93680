"""How a model is asked: as strictly as it takes it, which is learnt from what it refuses.

Owns the ladder of answer formats and what each model is known not to take: a format, streaming, a parameter, as many output
tokens.
Invariant: a form is left only for a refusal that names what is refused. One bad answer only adds the schema's text.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import structlog

from draftd.providers.parameters import with_limit_of_at_most
from draftd.providers.registry import Registry
from draftd.providers.report import Report
from draftd.providers.target import Target

log = structlog.get_logger(__name__)

MODES = ("json_schema", "json_object", "prompt")
"""The ladder, from the strictest way to ask for JSON to none at all."""

_Key = tuple[str, str, str | None]
"""Name and meaning: a name that comes to mean another model is learnt anew."""
_ParamsKey = tuple[_Key, str]
"""Also the parameters, as JSON: when the operator changes one, all are tried anew."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Form:
    """How one call is sent: as strictly as the model is known to take it."""

    mode: str
    streamed: bool
    drop_params: bool
    """Whether litellm may leave out what it knows the model not to take."""
    states_schema: bool
    """Whether the messages state the schema, because nothing else holds the model to it."""
    marks_cache: bool
    """Whether the unchanging part of the prompt is marked for the provider's cache."""
    params: Mapping[str, Any]


class Forms:
    """What the models are known to take.

    Args:
        unsupported: litellm's class for a call that it does not send because of its parameters.
        registry: what is known of the models beforehand.
    """

    def __init__(self, *, unsupported: type[Exception], registry: Registry) -> None:
        self._unsupported = unsupported
        self._registry = registry
        self._rungs: dict[_Key, int] = {}
        self._dropping: set[_ParamsKey] = set()
        self._refused: dict[_ParamsKey, frozenset[str]] = {}
        self._unstreamed: set[_Key] = set()
        self._ceilings: dict[_Key, int] = {}
        self._ignoring_schema: set[_Key] = set()

    def of(self, target: Target, *, streamed: bool) -> Form:
        """Return how a model is asked now."""
        key, params_key = _key(target), _params_key(target)
        refused = self._refused.get(params_key, frozenset())
        params = {name: one for name, one in target.params.items() if one is not None and name not in refused}
        streamed = streamed and key not in self._unstreamed
        rung = max(self._rungs.get(key, 0), self._registry.early_rung(target.model) if streamed else 0)
        drop_params = params_key in self._dropping
        return Form(
            mode=MODES[rung],
            streamed=streamed,
            drop_params=drop_params,
            # Where litellm drops parameters, it may drop the schema without saying so.
            states_schema=MODES[rung] != MODES[0] or drop_params or key in self._ignoring_schema,
            marks_cache=self._registry.marks_cache(target.model),
            params=with_limit_of_at_most(self._ceilings.get(key), params),
        )

    def downgrade(self, report: Report, target: Target, form: Form) -> bool:
        """Return whether a refused call may go on in a humbler form, and remember that form for this model.

        What counts is the form in which this call was sent: another one may have learnt the same meanwhile.
        """
        key, rung = _key(target), MODES.index(form.mode) + 1
        if report.is_format_refused and rung < len(MODES):
            self._rungs[key] = max(rung, self._rungs.get(key, 0))
            log.info("answer format refused", model=target.name, mode=form.mode, next_mode=MODES[rung])
            return True
        if report.is_stream_refused and form.streamed:
            self._unstreamed.add(key)
            log.warning("streaming refused", model=target.name, detail=report.told())
            return True
        if (ceiling := report.ceiling) is not None and with_limit_of_at_most(ceiling, form.params) != form.params:
            self._ceilings[key] = ceiling
            log.warning("output tokens limited", model=target.name, max_tokens=ceiling, detail=report.told())
            return True
        return self._goes_without_parameters(report, target, form)

    def _goes_without_parameters(self, report: Report, target: Target, form: Form) -> bool:
        params_key = _params_key(target)
        # Raised by litellm itself, before anything is sent; a gateway's has the same class.
        if isinstance(report.error, self._unsupported) and not report.exchange.address:
            if not form.drop_params and params_key not in self._dropping:
                self._dropping.add(params_key)
                _log_dropped(target, report)
            return not form.drop_params
        # Under a name that litellm does not know, only the provider can say so.
        names, known = report.refused_parameters(form.params), self._refused.get(params_key, frozenset())
        if not known.issuperset(names):
            self._refused[params_key] = known.union(names)
            _log_dropped(target, report)
        return bool(names)

    def stop_streaming(self, target: Target) -> None:
        """Ask this model without a stream from now on."""
        self._unstreamed.add(_key(target))

    def state_schema(self, target: Target) -> None:
        """State the schema to this model from now on: its server ignores the parameter. The next call is usually a repair."""
        if _key(target) not in self._ignoring_schema:
            self._ignoring_schema.add(_key(target))
            log.info("answer format ignored", model=target.name)


def _key(target: Target) -> _Key:
    return target.name, target.model, target.api_base


def _params_key(target: Target) -> _ParamsKey:
    return _key(target), json.dumps(target.params, sort_keys=True)


def _log_dropped(target: Target, report: Report) -> None:
    log.warning("unsupported parameters dropped", model=target.name, detail=report.told())
