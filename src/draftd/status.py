"""The states of a request, as the table knows them. Here, because the table's description takes a third of a second to import."""

STATUSES = ("pending", "processing", "completed", "failed", "cancelled")
FINAL_STATUSES = ("completed", "failed", "cancelled")
