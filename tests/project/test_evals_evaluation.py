"""What an evaluation starts, and what it refuses."""

import sys
from pathlib import Path
from typing import Any

import pytest

from draftd.cli import evaluation
from draftd.errors import UsageError
from draftd.evals import plan as plans
from draftd.evals import prompt_files, surroundings
from draftd.evals.plan import Plan
from draftd.settings import Settings
from fix_evals import make_case, make_result
from tables import per_row

INHERITED = {
    "PATH": "/bin",
    "OPENAI_API_KEY": "sk-of-the-operator",
    "DRAFTD_DATABASE_URL": "postgresql://production/app",
    "DRAFTD_FALLBACK_MODELS": "openai/another",
    "DRAFTD_METRICS_PORT": "9464",
    "LANGFUSE_SECRET_KEY": "sk-lf-of-the-operator",
    "NOTIFY_SOCKET": "/run/systemd/notify",
    "WATCHDOG_USEC": "1000000",
}


def make_plan(**over: Any) -> Plan:
    fields: dict[str, Any] = {"agent": "comment_generator", "model": "openai/a", "judge": None, "against": None}
    fields |= {"without": (), "split": None, "concurrency": 1, "output": Path("out"), "baseline": None}
    return Plan(**{"cases": [make_case()], **fields, **over})


def variables(plan: Plan, settings: Settings) -> dict[str, str]:
    return surroundings.daemon_variables(
        plan,
        settings,
        INHERITED,
        prompts=Path("/prompts"),
        url="postgresql://own",
        stand_in_url="http://127.0.0.1:1/v1",
    )


def test_its_daemon_gets_the_keys_and_what_drafting_depends_on_and_nothing_of_production() -> None:
    settings = Settings(
        model_api_bases=("http://gpu1:8000", "http://gpu2:8000"), image_long_edge_px=1024, metrics_port=9464
    )
    found = variables(make_plan(), settings)
    assert found["OPENAI_API_KEY"] == "sk-of-the-operator"
    assert found["DRAFTD_MODEL"] == "openai/a"
    assert found["DRAFTD_DATABASE_URL"] == "postgresql://own"
    assert found["DRAFTD_MODEL_API_BASES"] == "http://gpu1:8000,http://gpu2:8000"
    assert found["DRAFTD_IMAGE_LONG_EDGE_PX"] == "1024"
    assert not {"DRAFTD_FALLBACK_MODELS", "DRAFTD_METRICS_PORT", "LANGFUSE_SECRET_KEY"} & found.keys()
    assert not {"NOTIFY_SOCKET", "WATCHDOG_USEC"} & found.keys()


def test_with_a_stand_in_no_key_of_the_operators_is_sent() -> None:
    found = variables(make_plan(model="stand-in"), Settings())
    assert (found["DRAFTD_MODEL"], found["OPENAI_API_KEY"]) == ("openai/stand-in", "stand-in")
    assert found["NO_PROXY"] == "*"


@per_row(
    ("judge", "model"),
    [("openai/a", "openai/a"), ("openrouter/openai/A", "openai/a"), ("a", "azure/a"), ("stand-in", "stand-in")],
)
def test_no_model_judges_itself(judge: str, model: str) -> None:
    with pytest.raises(UsageError, match="must not be the model under test"):
        plans.check(make_plan(judge=judge, model=model))


def test_only_the_cases_that_have_an_option_are_drafted_without_it() -> None:
    with_facts = make_case(options={"facts": ["we keep a log"]})
    plan = make_plan(judge="openai/b", without=("facts",), cases=[with_facts])
    plans.check(plan)
    assert plan.options_without == ("facts",)
    assert plan.has_other(with_facts)
    assert plan.has_other(make_case(profile={"facts": ["we keep a log"]}))
    assert not plan.has_other(make_case(options={"tone": "warm"}, profile={"me": "Ada"}))


def test_a_case_goes_without_an_option_in_its_request_and_in_its_profile() -> None:
    given = {"facts": ["we keep a log"], "voice_samples": ["ok"]}
    case = make_case(options=given | {"tone": "warm"}, profile=given | {"me": "Ada"})
    less = case.without(("facts",))
    assert less.options == {"voice_samples": ["ok"], "tone": "warm"}
    assert less.profile == {"voice_samples": ["ok"], "me": "Ada"}
    assert case.without(("profile",)).profile == {}
    assert case.without(("profile",)).options == case.options


def test_a_text_without_a_head_is_a_prompt_with_the_parameters_of_the_one_under_test(tmp_path: Path) -> None:
    naive = tmp_path / "naive.txt"
    naive.write_text("Write three replies to the message in the screenshot.")
    agents = prompt_files.collect(tmp_path / "prompts", agent="comment_generator", prompts_dir=None, against=naive)
    tested, other = agents["comment_generator"], agents[prompt_files.OTHER]
    assert other.text == "Write three replies to the message in the screenshot."
    assert other.params == tested.params
    assert other.version.startswith("0+")


def test_an_agents_file_keeps_its_own_version_and_parameters(tmp_path: Path) -> None:
    earlier = tmp_path / "comment_generator_agent.md"
    earlier.write_text(
        "---\nagent: comment_generator\nversion: 1\nschema_version: 1\nparams:\n  temperature: 0.1\n---\nWrite."
    )
    other = prompt_files.collect(tmp_path / "prompts", agent="comment_generator", prompts_dir=None, against=earlier)[
        prompt_files.OTHER
    ]
    assert other.version.startswith("1+")
    assert other.params == {"temperature": 0.1}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{{schema}}", "unknown placeholder"),
        ("---\nversion: [\n---\nWrite.", "cannot read"),
        ("---\nmodel: a\n---\nWrite.", "model"),
    ],
)
def test_a_prompt_that_cannot_be_used_is_refused_with_its_name(tmp_path: Path, text: str, message: str) -> None:
    other = tmp_path / "other.md"
    other.write_text(text)
    with pytest.raises(UsageError, match=message) as refused:
        prompt_files.collect(tmp_path / "prompts", agent="comment_generator", prompts_dir=None, against=other)
    assert str(other) in refused.value.message


def test_a_cases_name_controls_no_terminal(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    evaluation._show_progress(make_result("\x1b]0;title\x07"), 1, 2)
    assert "\x1b]" not in capsys.readouterr().err
