"""What a claim costs in a table that is full; see ``__main__``."""
