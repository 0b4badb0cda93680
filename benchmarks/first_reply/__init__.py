"""When the first reply is readable; see ``__main__``."""
