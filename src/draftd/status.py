"""The statuses of a request. Separate from the schema, which takes a third of a second to import."""

STATUSES = ("pending", "processing", "completed", "failed", "cancelled")
FINAL_STATUSES = ("completed", "failed", "cancelled")
