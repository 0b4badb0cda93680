"""A decoder that is killed costs its own request and no other: a real daemon, real helper processes, other requests in flight.

Of today's Pillow no picture is known that crashes it, and none that keeps it busy for long gets past the checks before
it. So the daemon under test runs a decoder that is the real one, but falls at a mark that its picture carries.
"""

import base64
import os
import select
import signal
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path

import pytest
from PIL import Image

from draftd.errors import ModelRefused
from draftd.stand_in.threaded import ThreadedStandIn
from fix_daemon import Client, Daemon, Fleet, Running, environment, run_shared, sample_url, wait_until
from fix_hostile import flat_png, one_column_png
from fix_images import data_url, encoded, heic, make_decoder, make_picture, make_png

FALLING = """
import ctypes
def fall(data, **options):
    if b"fall with a crash" in data:
        ctypes.string_at(0)
    if b"fall asleep" in data:
        time.sleep(600)
    if b"fall into a loop" in data:
        decoder.CPU_S = 1
        decoder.allow_cpu()
        while True:
            pass
    return render(data, **options)
decoder.render = fall
"""

WITH_DECODER = """
import pathlib
from draftd.images import Preparer, prepare

decode, whole_s = Preparer._decode, prepare.DECODE_S

async def decode_by_the_clock(self, header, data, *, time_s):
    prepare.DECODE_S = clock_s if b"fall asleep" in bytes(data) else whole_s
    return await decode(self, header, data, time_s=time_s)

Preparer.__init__.__kwdefaults__.update(program=pathlib.Path(decoder), processes=2)
Preparer._decode = decode_by_the_clock
"""


def start(fleet: Fleet, env: dict[str, str], *, clock_s: float) -> Daemon:
    """Start a daemon whose decoder may fall, and whose clock for a picture that falls asleep is ``clock_s``."""
    decoder = make_decoder(fleet.directory, FALLING)
    fleet.before = f"decoder, clock_s = {str(decoder)!r}, {clock_s}\n{WITH_DECODER}"
    return fleet.start(env)


@pytest.fixture(scope="module")
def running(server_url: str, template: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    falling = partial(start, clock_s=2)
    with run_shared(server_url, template, tmp_path_factory.mktemp("falling"), start=falling) as shared:
        yield shared


def hostile(mark: str) -> str:
    return data_url(make_png() + mark.encode())


def helpers_of(pid: int) -> set[int]:
    """Return the helper processes of a daemon."""
    found = set()
    for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
        with suppress(OSError):  # it has ended meanwhile
            if b"decoder" in Path(f"/proc/{child}/cmdline").read_bytes():
                found.add(int(child))
    return found


def check_that_only_it_fails(running: Running, picture: str, *, code: str, message: str) -> None:
    """Insert a hostile picture between honest ones that wait for the model, are read, and come later."""
    client, stand_in = running.client, running.stand_in
    sample = sample_url(stand_in)
    stand_in.reset()
    stand_in.script([{"hang": True}, {"hang": True}])
    others = [client.insert(sample) for _ in range(2)]
    stand_in.wait_for_calls(2)
    slow = data_url(flat_png(4_000, 4_000))
    others += [client.insert(slow) for _ in range(2)]
    hostile_id = client.insert(picture)
    others += [client.insert(slow), client.insert(sample)]

    row = client.wait_for(hostile_id, "failed", "completed")
    stand_in.release()
    ended = [client.wait_for(other, "completed", "failed") for other in others]
    later = client.wait_for(client.insert(sample), "completed", "failed")

    assert (row["status"], row["error_code"], row["attempt"]) == ("failed", code, 1), row["errors"]
    assert message in row["error_message"]
    for other in (*ended, later):
        assert (other["status"], other["attempt"], other["lease_token"], other["errors"]) == ("completed", 1, 1, [])
    assert running.daemon.process.poll() is None
    # One that was killed may take a moment to be gone.
    wait_until(lambda: len(helpers_of(running.daemon.pid)) <= 2, 30)


def test_a_decoder_killed_by_a_crash_costs_its_own_request_only(running: Running) -> None:
    """The crash is a SIGSEGV: the decoder reads from address 0."""
    check_that_only_it_fails(running, hostile("fall with a crash"), code="image_invalid", message="decoder crashed")


@pytest.mark.long
def test_a_decoder_killed_by_the_memory_limit_costs_its_own_request_only(running: Running) -> None:
    """A genuine picture: 117 KB that unfold to one column of 40,000,000 pixels. Its table of lines is 320 MB, three times."""
    picture = data_url(one_column_png(40_000_000))

    check_that_only_it_fails(running, picture, code="image_too_large", message="too much memory")


def test_a_decoder_killed_by_the_clock_costs_its_own_request_only(running: Running) -> None:
    """The decoder falls asleep, so that no limit of processor time ends it; the clock for it is two seconds here."""
    check_that_only_it_fails(running, hostile("fall asleep"), code="image_invalid", message="took more than")


@pytest.mark.long
def test_a_decoder_killed_by_the_limit_of_processor_time_costs_its_own_request_only(running: Running) -> None:
    """The decoder runs in a loop; the limit for it is one second here."""
    check_that_only_it_fails(running, hostile("fall into a loop"), code="image_invalid", message="CPU time")


def test_a_daemon_that_is_killed_leaves_no_helper_behind(
    fleet: Fleet, client: Client, database: str, stand_in: ThreadedStandIn
) -> None:
    """Of two helpers one is idle and one is in the midst of a picture that would take it ten minutes."""
    daemon = start(fleet, environment(database, stand_in), clock_s=600)
    client.insert(hostile("fall asleep"))
    wait_until(lambda: len(helpers_of(daemon.pid)) == 1, 60)
    client.wait_for(client.insert(data_url(make_png())), "completed")
    helpers = helpers_of(daemon.pid)
    ended = [os.pidfd_open(pid) for pid in helpers]
    daemon.stop(signal.SIGKILL)

    assert len(helpers) == 2
    for pidfd in ended:
        wait_for_the_end_of(pidfd)


def wait_for_the_end_of(pidfd: int) -> None:
    """Wait until a process has ended, thirty seconds at most."""
    assert select.select([pidfd], [], [], 30)[0]
    os.close(pidfd)


def test_what_is_left_out_of_long_captures_is_said_to_the_model_and_in_the_result(running: Running) -> None:
    running.stand_in.reset()
    long, short = data_url(flat_png(400, 12_000)), data_url(flat_png(400, 300))
    other = data_url(encoded(make_picture(400, 12_000)))
    request_id = running.client.insert(long, image_urls=[long, short, other])

    row = running.client.wait_for(request_id, "completed", "failed")

    assert "image_truncated" in row["result"]["warnings"]
    assert [picture["parts"] for picture in row["images"]] == [5, 1, 6]
    (call,) = running.stand_in.log
    assert len(call["images"]) == 12
    labels = [line for line in call["prompt"].splitlines() if line.startswith("Screenshot")]
    assert [label.split(",")[0].split(";")[0] for label in labels] == [
        f"Screenshot {n}" for n in [1] * 5 + [2] + [3] * 6
    ]
    assert [label for label in labels if "left out" in label] == [
        f"Screenshot {number}, part 2 of {count} (top to bottom, overlapping); what stood above this part is left out"
        for number, count in ((1, 5), (3, 6))
    ]


def test_pictures_as_phones_send_them_are_drafted_and_shown_once(running: Running) -> None:
    """A HEIC, its base64 with line breaks and no padding; an animation that begins blank; and the HEIC once more, for URLs."""
    running.stand_in.reset()
    text = base64.b64encode(heic()).decode().rstrip("=")
    lines = "\r\n".join(text[at : at + 76] for at in range(0, len(text), 76))
    moving = encoded(
        Image.new("RGB", (300, 200), "white"), "GIF", save_all=True, append_images=[make_picture(300, 200)], duration=50
    )
    urls = [
        f"data:image/heic;base64,{lines}",
        data_url(moving, "image/gif"),
        "data:image/heic;base64," + base64.urlsafe_b64encode(heic()).decode(),
    ]
    request_id = running.client.insert(urls[0], image_urls=urls)

    row = running.client.wait_for(request_id, "completed", "failed")

    assert row["status"] == "completed", row["errors"]
    assert "image_truncated" in row["result"]["warnings"]
    assert [(one["width"], one["height"], one["parts"]) for one in row["images"]] == [
        (64, 48, 1),
        (300, 200, 1),
        (64, 48, 0),
    ]
    (call,) = running.stand_in.log
    assert len(call["images"]) == 2
    labels = [line for line in call["prompt"].splitlines() if line.startswith("Screenshot")]
    assert labels == [
        "Screenshot 1",
        "Screenshot 2; one frame of an animation, or one picture of several: the others are left out",
    ]


def test_what_a_user_reads_names_the_picture_and_never_the_model(running: Running) -> None:
    running.stand_in.reset()
    page = data_url(b"<!doctype html><html><body>Please sign in</body></html>", "image/png")
    wrong = running.client.insert(page, image_urls=[data_url(make_png()), page])
    row = running.client.wait_for(wrong, "completed", "failed")

    assert (row["error_code"], row["error_message"]) == (
        "image_invalid",
        "picture 2 of 2: it is a web page, not an image",
    )
    assert (row["error_details"]["picture"], row["error_details"]["found"]) == (2, "web page")

    running.stand_in.script([{"refusal": True}])
    refused = running.client.insert(data_url(make_png(80, 80)))
    row = running.client.wait_for(refused, "completed", "failed")

    assert (row["error_code"], row["error_message"]) == ("model_refused", ModelRefused.user_message)
    assert row["errors"][-1]["model"]
    assert row["errors"][-1]["message"] != row["error_message"]
