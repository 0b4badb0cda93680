"""Draft replies to a screenshot with draftd-client: DATABASE_URL=… python with_client.py IMAGE_URL [WHAT_TO_SAY]."""

import os
import sys

from draftd_client import Client, DraftFailed


def main(image_url: str, context: str | None = None) -> None:
    """Insert a request, and print each reply as soon as it is ready."""
    with Client(os.environ["DATABASE_URL"]) as drafts:
        made = drafts.create([image_url], context=context)
        try:
            for option in drafts.stream(made.id, timeout_s=120):
                print(f"{option['length']}: {option['text']}\n")
        except DraftFailed as error:
            sys.exit(f"{error.reply.status}: {error}")


if __name__ == "__main__":
    main(*sys.argv[1:3])
