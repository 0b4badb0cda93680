"""The entry of a worker process: ``python -m benchmarks.queue.worker CONTENDER …``.

It ends with the benchmark, however that one ends: a thread waits for the end of a pipe that only the benchmark holds.
"""

import argparse
import os
import threading
from pathlib import Path

from benchmarks.queue.contender import Behaviour, Job, Starts
from benchmarks.queue.contenders import load

STDIN = 0


def main() -> None:
    """Be the worker of one contender until SIGTERM."""
    parser = argparse.ArgumentParser()
    parser.add_argument("contender")
    parser.add_argument("--url", required=True)
    parser.add_argument("--concurrency", type=int, required=True)
    parser.add_argument("--behaviour", type=Behaviour, required=True)
    parser.add_argument("--starts", type=Path, required=True)
    parser.add_argument("--whole", action="store_true")
    args = parser.parse_args()
    threading.Thread(target=_end_with_benchmark, name="benchmark", daemon=True).start()
    job = Job(
        url=args.url,
        concurrency=args.concurrency,
        behaviour=args.behaviour,
        starts=Starts(args.starts),
        whole=args.whole,
    )
    load(args.contender).work(job)


def _end_with_benchmark() -> None:
    # Not through sys.stdin: its lock, held by this thread, would abort the interpreter's exit.
    os.read(STDIN, 1)
    os._exit(1)


if __name__ == "__main__":
    main()
