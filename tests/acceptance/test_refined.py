"""A play of refinements, from the cases to the sheets for a judge."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from draftd.stand_in.threaded import ThreadedStandIn

ROOT = Path(__file__).parents[2]


@pytest.mark.long
def test_cases_are_drafted_and_their_drafts_refined(tmp_path: Path, stand_in: ThreadedStandIn) -> None:
    env = os.environ | {"OPENAI_BASE_URL": stand_in.url, "OPENAI_API_KEY": "x"}
    arguments = [sys.executable, "-m", "evals.refined", "run", str(tmp_path), "--only", "002"]
    run = subprocess.run(arguments, cwd=ROOT, env=env, capture_output=True, text=True, check=False, timeout=120)
    assert run.returncode == 0, run.stderr
    assert run.stdout.splitlines()[-1] == '{"completed": 3} repaired: 0'
    results = {one["name"]: one for one in json.loads((tmp_path / "results.json").read_text())}
    assert set(results) == {"002", "002-others", "002-others-again"}
    texts = [option["text"] for one in results.values() for option in one["result"]["options"]]
    assert len(set(texts)) == 9
    assert len(list((tmp_path / "sheets").iterdir())) == 2
