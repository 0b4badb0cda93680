"""A second agent is a file: the one in the documents, as it stands there, drafts."""

import shutil
from pathlib import Path

from draftd.reply.agents import packaged_directory
from draftd.reply.result import Result
from draftd.stand_in.threaded import ThreadedStandIn
from fix_daemon import Client, Fleet, draftd, environment, sample_url
from fix_docs import example_agent


def test_the_agent_of_the_documents_drafts_beside_the_packaged_one(
    database: str, client: Client, stand_in: ThreadedStandIn, fleet: Fleet, tmp_path: Path
) -> None:
    name, content = example_agent()
    prompts = tmp_path / "prompts"
    shutil.copytree(packaged_directory(), prompts)
    (prompts / name).write_text(content, encoding="utf-8")
    env = environment(database, stand_in, DRAFTD_PROMPTS_DIR=str(prompts))
    fleet.start(env)
    url = sample_url(stand_in)
    rows = [
        client.wait_for(client.insert(url, agent=agent), "completed", "failed")
        for agent in ("front_desk", "comment_generator")
    ]
    for row in rows:
        assert row["status"] == "completed", row["error_message"]
        Result.model_validate(row["result"])
    front_desk, packaged = rows
    assert front_desk["prompt_version"].startswith("1+")
    assert front_desk["prompt_version"] != packaged["prompt_version"]
    asked = [call["prompt"] for call in stand_in.log]
    assert ["front desk of a company" in prompt for prompt in asked] == [True, False]
    said = draftd("doctor", env=env).stdout
    for row in rows:
        assert f"{row['agent']} {row['prompt_version']}" in said
