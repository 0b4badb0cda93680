"""The models: who is asked, what it may cost, and what their errors mean.

llm              the one door to litellm: a call made bounded, countable and honest
forms            how strictly each model is asked, learnt from its refusals
registry         what litellm's table knows of a model, and what a call of it costs
response         what came back, read with caution
errors           from a provider's error to one of draftd's
report           what is known of a failed call: the wire, and what was said
wordings         what the texts of providers mean: one table
token_limits     how much fits, as those texts name it
provider_text    a provider's own sentence out of what it came in
clients          what HTTP clients must not do: block the event loop, send twice
exchange         what happened on the wire: address, status, body
failure_policy   from an error to what becomes of the request and the model: retry, give back, fail, next model, hold
models           which model answers which agent, and whether it can be asked now
catalog          ``draft_agents`` and ``draft_models``
permits          where keys and pictures may go
parameters       which parameters of a call an agent or a model may set
known            the providers that a model may name, with their addresses and variables
holds            models that are not asked for now, fleet-wide
throttles        how much of its concurrency a daemon uses for a model whose provider says 429
sql/             the statements of holds, throttles and catalog, whole, with their invariants
"""
