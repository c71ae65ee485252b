"""What the auditors say, and which of them were asked."""

import json
from pathlib import Path

import pytest

from scripts.auditors import Verdict, bandit, pip_audit, pip_audit_verdict, safety, safety_verdict, together
from scripts.security import by_minimum_versions, judged

CLEAN = Verdict("bandit", "clean")
KNOWN = Verdict("minimum versions", "clean")
UNASKED = (Verdict("pip-audit", "did not run"), Verdict("safety", "did not run"))


def audit(*dependencies: dict[str, object]) -> str:
    return json.dumps({"dependencies": dependencies, "fixes": []})


SOUND: dict[str, object] = {"name": "redis", "version": "8.1.0", "vulns": []}
HOLED: dict[str, object] = {
    "name": "redis",
    "version": "4.5.3",
    "vulns": [{"id": "PYSEC-1", "fix_versions": ["4.5.4"], "aliases": []}],
}
SKIPPED: dict[str, object] = {
    "name": "redis",
    "skip_reason": "Dependency not found on PyPI and could not be audited: redis (8.1.0)",
}


def test_an_audit_without_findings_is_clean() -> None:
    assert pip_audit_verdict(audit(SOUND), "").state == "clean"


def test_a_finding_is_told_with_the_version_to_take() -> None:
    verdict = pip_audit_verdict(audit(SOUND, HOLED), "Found 1 known vulnerability")
    assert verdict == Verdict("pip-audit", "holes", ("redis 4.5.3 has PYSEC-1: take 4.5.4",))


@pytest.mark.parametrize("dependencies", [(SKIPPED,), (SOUND, SKIPPED), ()])
def test_what_was_skipped_is_not_clean(dependencies: tuple[dict[str, object], ...]) -> None:
    assert pip_audit_verdict(audit(*dependencies), "").state == "did not run"


def test_a_finding_counts_where_others_were_skipped() -> None:
    assert pip_audit_verdict(audit(SKIPPED, HOLED), "").state == "holes"


def test_without_a_report_the_reason_is_the_last_that_was_said() -> None:
    verdict = pip_audit_verdict("", "Traceback\nrequests.ConnectionError: no route\n\n")
    assert verdict == Verdict("pip-audit", "did not run", ("requests.ConnectionError: no route",))


@pytest.mark.parametrize(("status", "state"), [(0, "clean"), (64, "holes"), (1, "did not run"), (68, "did not run")])
def test_safety_is_heard_by_its_exit_status(status: int, state: str) -> None:
    assert safety_verdict(status, "a hole", "offline").state == state


def test_of_several_files_the_worst_counts() -> None:
    clean, holes = Verdict("pip-audit", "clean"), Verdict("pip-audit", "holes", ("one",))
    silent = Verdict("pip-audit", "did not run", ("offline",))
    assert together([clean, holes, silent]) == holes
    assert together([clean, silent, silent]) == silent
    assert together([clean, clean]).state == "clean"


def test_tools_that_are_not_there_did_not_run(tmp_path: Path) -> None:
    verdicts = (bandit(tmp_path, ()), pip_audit(tmp_path, ()), safety(tmp_path, (), {"SAFETY_API_KEY": "key"}))
    assert {verdict.state for verdict in verdicts} == {"did not run"}
    assert all("make tools" in verdict.lines[0] for verdict in verdicts)


def test_safety_does_not_run_without_a_key(tmp_path: Path) -> None:
    assert safety(tmp_path, (), {}).lines == ("SAFETY_API_KEY is not set",)


def test_where_no_database_was_asked_it_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    assert judged((CLEAN, *UNASKED, KNOWN), online=False) == 0
    assert "No advisory database was asked" in capsys.readouterr().out


def test_where_no_database_was_asked_the_pipeline_fails() -> None:
    assert judged((CLEAN, *UNASKED, KNOWN), online=True) == 1


def test_one_database_is_enough_and_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert judged((CLEAN, Verdict("pip-audit", "clean"), UNASKED[1], KNOWN), online=True) == 0
    assert "asked, by pip-audit." in capsys.readouterr().out


def test_the_pipeline_fails_where_the_code_was_not_looked_at() -> None:
    assert judged((Verdict("bandit", "did not run"), Verdict("pip-audit", "clean"), KNOWN), online=True) == 1


@pytest.mark.parametrize("tool", ["bandit", "pip-audit", "safety", "minimum versions"])
def test_a_hole_found_by_any_of_them_fails(tool: str) -> None:
    assert judged((Verdict(tool, "holes", ("one",)),), online=False) == 1


def test_our_minimum_versions_are_compared_with_every_lock_file(tmp_path: Path) -> None:
    holes = tmp_path / "holes.toml"
    holes.write_text('[[hole]]\npackage = "redis"\nfixed = "4.5.4"\nids = ["CVE-1"]\nseen = "there"\n')
    old, new = tmp_path / "old.txt", tmp_path / "new.txt"
    old.write_text("redis==4.0\n")
    new.write_text("redis==8.0\n")
    assert by_minimum_versions([new, old], holes).state == "holes"
    assert by_minimum_versions([new], holes).state == "clean"
