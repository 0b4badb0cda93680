"""The refinements that are played, and the sheets that a judge gets of them."""

import json
from pathlib import Path
from typing import Any

from evals import cases, refined

from draftd.evals.cases import Split, load
from draftd.request import Options

CASES = {case.n: case for case in load(cases.FOLDER)}


def test_every_refinement_refines_a_case_to_work_with_or_an_earlier_refinement() -> None:
    known = set(CASES)
    for one in refined.refinements():
        assert one["of"] in known
        assert one["name"] not in known
        assert one["good"]
        Options.read(one.get("options", {}))
        known.add(one["name"])
    refines = {one["of"] for one in refined.refinements()} & set(CASES)
    assert len(refines) >= 12
    assert {CASES[n].split for n in refines} == {Split.DEV}


def make_result(name: str, context: str | None, text: str, **over: Any) -> dict[str, Any]:
    option = {"length": "short", "stance": "none", "angle": "a", "text": text, "unsupported": []}
    result = {"replying_to": {"author": "Mia"}, "options": [option], "summary": "s"}
    known = {"name": name, "context": context, "options": {}, "status": "completed", "result": result}
    return known | {"reading": ["Mia: hi"], "good": "good"} | over


def test_a_sheet_tells_what_was_asked_before_and_after_and_no_name(tmp_path: Path) -> None:
    results = [
        make_result("001", "be kind", "Hello, dear Mia."),
        make_result("001-a", "shorter", "Hello.", of="001"),
        make_result("001-b", None, "Hi.", of="001-a"),
        make_result("001-c", None, "", of="001-a", status="failed"),
    ]
    refined.write_sheets(results, tmp_path)
    key = json.loads((tmp_path / "sheets-key.json").read_text())
    assert set(key.values()) == {"001-a", "001-b"}
    sheets = {key[path.stem]: path.read_text() for path in (tmp_path / "sheets").iterdir()}
    second = json.loads(sheets["001-b"])
    assert [one["context"] for one in second["asked_before"]] == ["be kind", "shorter"]
    assert (second["before"][0]["text"], second["after"][0]["text"]) == ("Hello.", "Hi.")
    assert not any("001" in text for text in sheets.values())


def test_verdicts_are_counted() -> None:
    verdicts = [{"asked": True, "kept": False, "ready": 2}, {"asked": True, "kept": True, "ready": 3}]
    assert refined.scored(verdicts) == {"sheets": 2, "asked": 2, "kept": 1, "ready": 5, "of": 6}
