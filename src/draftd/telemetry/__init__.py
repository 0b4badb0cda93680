"""What a running daemon reports: Langfuse traces and Prometheus metrics.

tracing         spans as the rest of draftd sees them; does nothing by itself
langfuse        sends them to Langfuse
scores          what became of drafts, sent to Langfuse
trace_deletion  deletes traces there
export_errors   errors that the SDK logs when traces do not arrive
metrics         the only importer of prometheus-client

Only ``langfuse`` and ``trace_deletion`` import Langfuse's SDK.
"""
