"""What a running daemon reports: Langfuse traces and Prometheus metrics.

tracing      the only module that imports langfuse
complaints   what the Langfuse SDK says when traces do not arrive
metrics      the only module that imports prometheus-client
"""
