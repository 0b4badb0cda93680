"""What a running daemon reports: Langfuse traces and Prometheus metrics.

tracing         the only module that imports langfuse
export_errors   errors that the Langfuse SDK logs when traces do not arrive
metrics         the only module that imports prometheus-client
"""
