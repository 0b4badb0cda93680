"""Prompt files, and what of them cannot be used."""

from collections.abc import Callable
from pathlib import Path

import pytest

from draftd.errors import ConfigurationError
from draftd.reply.agents import Section, load_agents, packaged_directory
from draftd.reply.answer import answer_schema
from draftd.reply.criteria import Criteria
from draftd.reply.model_answer import MODEL_WARNINGS, Shown
from draftd.reply.result import Confidence, Expects, ReplyNeeded, Stance
from draftd.request import Options
from fix_docs import example_agent
from tables import per_row

FRONT = "agent: helper\nversion: 3\nschema_version: 1\n"


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    def _write(front: str = FRONT, text: str = "Be kind.\n", name: str = "helper_agent.md") -> Path:
        (tmp_path / name).write_text(f"---\n{front}---\n{text}", encoding="utf-8")
        return tmp_path

    return _write


def test_a_prompt_has_its_front_matter(write: Callable[..., Path]) -> None:
    agent = load_agents(write(FRONT + "params:\n  temperature: 0.5\n"))["helper"]
    assert agent.params == {"temperature": 0.5}
    assert agent.text == "Be kind."
    assert agent.version.startswith("3+")
    assert len(agent.version) == len("3+1f2e3d4c")


def test_the_version_changes_with_the_text_even_when_nobody_counted_it_up(write: Callable[..., Path]) -> None:
    one = load_agents(write(text="One"))["helper"].version
    assert load_agents(write(text="One"))["helper"].version == one
    assert load_agents(write(text="Two"))["helper"].version != one


@pytest.mark.parametrize(
    ("front", "text", "complaint"),
    [
        ("agent: helper\nversion: 1\n", "Be kind.", "schema_version"),
        ("agent: helper\nversion: 1\nschema_version: 2\n", "Be kind.", "schema_version"),
        (FRONT + "modle: x\n", "Be kind.", "modle"),
        (FRONT + "params: {temprature: 1}\n", "Be kind.", "params.temprature"),
        (FRONT + "params: {temperature: 9}\n", "Be kind.", "params.temperature"),
        (FRONT.replace("helper", "other"), "Be kind.", "other_agent.md"),
        (FRONT + "params: [unclosed\n", "Be kind.", "front matter"),
        ("- a\n- list\n", "Be kind.", "front matter"),
        ("just words\n", "Be kind.", "front matter"),
        (FRONT, "Be kind. {{context}}", "{{context}}"),
        (FRONT, "Be kind. {{schema}}", "{{schema}}"),
        (FRONT, "Be kind.\n<!-- when: voice -->\n{{me}}", "{{me}}"),
        (FRONT, "Be kind.\n<!-- when: hurry -->\nBe quick.", "'hurry'"),
    ],
)
def test_a_prompt_that_cannot_be_used_is_named(
    write: Callable[..., Path], front: str, text: str, complaint: str
) -> None:
    with pytest.raises(ConfigurationError) as caught:
        load_agents(write(front, text))
    assert "helper_agent.md" in caught.value.message
    assert complaint in caught.value.message
    assert "\n" not in caught.value.message


def test_a_section_is_no_part_of_the_text_and_those_that_are_missing_are_draftds_own(
    write: Callable[..., Path],
) -> None:
    own = "Be kind.\n<!-- when: voice -->\nSound like them.\n\n<!-- when: stance -->\nObey.\n"
    agent = load_agents(write(text=own))["helper"]
    packaged_sections = load_agents(packaged_directory())["comment_generator"].sections
    assert agent.text == "Be kind."
    assert agent.sections == {**packaged_sections, Section.VOICE: "Sound like them.", Section.STANCE: "Obey."}
    assert packaged_sections.keys() == set(Section)
    assert all(packaged_sections.values())


def test_all_of_a_prompt_may_not_be_repeated_but_the_lines_that_it_quotes_for_replies(
    write: Callable[..., Path],
) -> None:
    text = "Be kind. Close with:\n> Warmly, the front desk of Hotel Aurora\n<!-- when: voice -->\nTake over their manner.\n"
    agent = load_agents(write(text=text))["helper"]
    assert "Hotel Aurora" in agent.text
    assert "Hotel Aurora" not in agent.wording
    assert "Be kind. Close with:" in agent.wording
    assert "Take over their manner." in agent.wording


def test_the_version_changes_with_a_section(write: Callable[..., Path]) -> None:
    marked = "Be kind.\n<!-- when: voice -->\n"
    one = load_agents(write(text=f"{marked}One"))["helper"].version
    assert load_agents(write(text=f"{marked}Two"))["helper"].version != one


def test_a_file_without_front_matter_or_without_text_encoding_is_named(tmp_path: Path) -> None:
    for content in (b"Be kind.", b"\xff\xfe"):
        (tmp_path / "helper_agent.md").write_bytes(content)
        with pytest.raises(ConfigurationError, match=r"helper_agent\.md"):
            load_agents(tmp_path)


def test_a_directory_without_prompts_is_named(tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text("not a prompt")
    with pytest.raises(ConfigurationError, match="no prompt"):
        load_agents(tmp_path)


def packaged() -> str:
    return load_agents(packaged_directory())["comment_generator"].text


def documented() -> str:
    return example_agent()[1]


@per_row("prompt", [packaged, documented])
def test_a_prompt_of_ours_defines_every_word_that_the_model_has_to_choose(prompt: Callable[[], str]) -> None:
    text = prompt()
    for word in (*MODEL_WARNINGS, *Confidence):
        assert f"\n- `{word.value}`: " in text
    for word in (*Expects, *ReplyNeeded, *Stance, *Shown):
        assert f"`{word.value}`" in text


@per_row("prompt", [packaged, documented])
def test_a_prompt_of_ours_says_what_each_key_holds(prompt: Callable[[], str]) -> None:
    text = prompt()
    schema = answer_schema(Criteria(options=Options(), context=None, is_truncated=False))
    for key in schema["properties"]:
        explained = key.removeprefix("medium_").removeprefix("detailed_").removeprefix("short_")
        assert f"`{key}`" in text or f"`short_{explained}`" in text
