import subprocess
import sys

HANGS = """
import asyncio, socket, threading
from draftd.errors import ImageFetchFailed
from draftd.images import Fetcher

socket.getaddrinfo = lambda *_, **__: threading.Event().wait()

async def main():
    fetcher = Fetcher(max_bytes=100, allow_private=[])
    try:
        await fetcher.fetch("http://files.example/a", time_s=0.1)
    except ImageFetchFailed as error:
        print(error.message)
    await fetcher.aclose()

asyncio.run(main())
"""


def test_a_name_server_that_never_answers_does_not_keep_the_process_from_ending() -> None:
    ended = subprocess.run([sys.executable, "-c", HANGS], capture_output=True, text=True, timeout=100, check=True)

    assert ended.stdout == "files.example did not send the image in time\n"
    assert ended.stderr == ""
