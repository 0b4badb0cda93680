"""The models: which one is called, whether it can be called now, and what its errors mean.

llm               one call through litellm: bounded, metered, without hidden retries; the only importer of litellm
target            a model to call, as the operator configured it
forms             how strictly each model is asked, learnt from what it refuses
registry          litellm's table of models: what it knows of a model, and what a call costs
clients           restrains the HTTP clients: no blocking of the event loop, no second send
estimate          what a call can use at most, before it is made
reservations      reserves that before the call: budgets per day, ceilings per model
exchange          what happened on the wire: address, status, body
messages          texts added to the messages of a call: the schema, a note
response          litellm's responses and stream chunks, read defensively
errors            translates a provider's error into one of draftd's
report            what is known of a failed call: the exception, the exchange and what the provider said
wordings          the table of providers' texts and what they mean
token_limits      the limits that those texts name
provider_text     extracts a provider's own sentence from what wraps it
failure_policy    decides what an error means for the request and the model: retry, give back, fail, next model, hold
models            which model answers which agent, and whether it can be called now
catalog           ``draft_agents`` and ``draft_models``
permits           where keys and pictures may be sent
parameters        the allowlist of model parameters
known_providers   the providers that a row may name, with their addresses and key variables
holds             models that no daemon calls for now, fleet-wide
pauses            models that an operator has paused, fleet-wide
throttles         the share of its concurrency that a daemon uses for a rate-limited model
fleet_view        one process's view of holds or throttles
sql/              the statements of catalog, holds, pauses, reservations and throttles
"""
