"""The pipeline: valid, pinned, with few rights, and calling make alone; and the make targets that it calls."""

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from check_jsonschema.builtin_schemas import get_builtin_schema  # type: ignore[import-untyped]
from jsonschema.validators import validator_for

ROOT = Path(__file__).parents[3]
GITHUB = ROOT / ".github"
TEXT = (GITHUB / "workflows/ci.yml").read_text()
ACTION_TEXT = (GITHUB / "actions/prepare/action.yml").read_text()
# YAML 1.1 takes the key `on` for true.
WORKFLOW: dict[Any, Any] = yaml.safe_load(TEXT)
JOBS: dict[str, dict[str, Any]] = WORKFLOW["jobs"]
MAKEFILE = (ROOT / "Makefile").read_text()
#: The folders of tests that each stage's target names.
STAGES = ("unit", "integration", "e2e", "load")


def is_valid(schema_name: str, document: Any) -> bool:
    schema = get_builtin_schema(schema_name)
    return bool(validator_for(schema)(schema).is_valid(document))


def parsed(text: str) -> Any:
    """The document as GitHub reads it: YAML 1.2, to which `on` is a word."""
    document = yaml.safe_load(text)
    return {("on" if key is True else key): value for key, value in document.items()}


def steps(job: str) -> list[dict[str, Any]]:
    return list(JOBS[job]["steps"])


def runs() -> list[str]:
    return [step["run"] for job in JOBS for step in steps(job) if "run" in step]


def documented() -> set[str]:
    return set(re.findall(r"^([a-z0-9-]+):.*## ", MAKEFILE, re.MULTILINE))


def stage_folders(target: str) -> list[str]:
    recipe = MAKEFILE.split(f"\n{target}: ", 1)[1].split("\n\n", 1)[0]
    return re.findall(r"tests/\S+", recipe)


@pytest.mark.parametrize(
    ("schema", "file"),
    [
        ("vendor.github-workflows", "workflows/ci.yml"),
        ("vendor.github-actions", "actions/prepare/action.yml"),
        ("vendor.dependabot", "dependabot.yml"),
    ],
)
def test_every_file_is_valid_by_its_schema(schema: str, file: str) -> None:
    assert is_valid(schema, parsed((GITHUB / file).read_text()))


@pytest.mark.parametrize(
    "damage", [{"jobs": {}}, {"permission": {}}, {"jobs": {"x": {"runs-on": "y", "steps": [{"usse": "z"}]}}}]
)
def test_the_schema_finds_a_mistake(damage: dict[str, object]) -> None:
    assert not is_valid("vendor.github-workflows", parsed(TEXT) | damage)


@pytest.mark.parametrize("command", runs())
def test_every_step_that_does_something_calls_a_make_target_that_exists(command: str) -> None:
    match = re.fullmatch(r"make ([a-z0-9-]+)", command.strip())
    assert match, command
    assert match[1] in documented()


def test_the_stages_and_gates_are_all_there() -> None:
    called = {command.removeprefix("make ") for command in runs()}
    assert called >= {*STAGES, "lint", "security", "workflow", "image", "quality", "bench-gate", "test"}


def test_the_pipeline_can_run_what_ci_run_does() -> None:
    assert re.search(r"^make test\b", (ROOT / ".ci/run").read_text(), re.MULTILINE)
    assert "make test" in runs()


def test_every_test_belongs_to_one_stage() -> None:
    folders = [folder for stage in STAGES for folder in stage_folders(stage)]
    for test in (ROOT / "tests").rglob("test_*.py"):
        file = test.relative_to(ROOT).as_posix()
        assert sum(file.startswith(f"{folder}/") for folder in folders) == 1, file


@pytest.mark.parametrize("used", re.findall(r"uses: (.+)", TEXT + ACTION_TEXT))
def test_every_action_is_pinned_to_a_commit_with_its_version_beside_it(used: str) -> None:
    if not used.startswith("./"):
        assert re.fullmatch(r"[\w-]+/[\w-]+@[0-9a-f]{40}  # v\d+\.\d+\.\d+", used)


def test_one_action_has_one_version_and_the_head_of_the_file_tells_where_it_was_seen() -> None:
    pins = set(re.findall(r"uses: ([\w-]+/[\w-]+)@\S+  # (v\S+)", TEXT + ACTION_TEXT))
    head = dict(re.findall(r"^#   ([\w-]+/[\w-]+) +(v\S+)", TEXT, re.MULTILINE))
    assert len({name for name, _ in pins}) == len(pins)
    assert dict(pins) == head


def test_actions_of_our_own_exist() -> None:
    for path in re.findall(r"uses: \./(\S+)", TEXT):
        assert (ROOT / path / "action.yml").exists()


@pytest.mark.parametrize("job", JOBS)
def test_every_job_reads_the_code_and_may_do_nothing_else(job: str) -> None:
    assert WORKFLOW["permissions"] == {}
    assert JOBS[job]["permissions"] == {"contents": "read"}


@pytest.mark.parametrize("job", JOBS)
def test_every_job_ends_in_time_and_on_a_named_release(job: str) -> None:
    assert 0 < JOBS[job]["timeout-minutes"] <= 120
    assert JOBS[job]["runs-on"] == "ubuntu-24.04"


@pytest.mark.parametrize("job", JOBS)
def test_every_job_leaves_no_credentials_in_its_checkout(job: str) -> None:
    checkout = steps(job)[0]
    assert checkout["uses"].startswith("actions/checkout@")
    assert checkout["with"]["persist-credentials"] is False


def test_jobs_wait_only_for_jobs_that_exist() -> None:
    for job in JOBS.values():
        needs = job.get("needs", [])
        assert set([needs] if isinstance(needs, str) else needs) <= set(JOBS)


def test_what_is_measured_is_handed_on_and_what_is_handed_on_is_measured() -> None:
    measured = {job for job in JOBS if any(step.get("env", {}).get("MEASURE") for step in steps(job))}
    uploaded = {
        job
        for job in JOBS
        if any(
            step.get("with", {}).get("path") == "var/coverage" and "upload" in step["uses"]
            for step in steps(job)
            if "uses" in step
        )
    }
    assert measured == uploaded == set(JOBS["quality"]["needs"])


def test_a_new_push_ends_the_run_of_a_pull_request_alone() -> None:
    assert WORKFLOW["concurrency"]["cancel-in-progress"] == "${{ github.event_name == 'pull_request' }}"


def test_caches_are_keyed_by_lock_files_that_exist() -> None:
    keys = re.findall(r"key: .*hashFiles\((.+)\)", ACTION_TEXT)
    assert len(keys) == ACTION_TEXT.count("actions/cache@")
    for pattern in re.findall(r"'([^']+)'", " ".join(keys)):
        assert list(ROOT.glob(pattern)), pattern


def test_no_registry_and_no_secret_is_named() -> None:
    text = TEXT + ACTION_TEXT + (GITHUB / "dependabot.yml").read_text()
    assert not re.search(r"https?://|pypi|ghcr|docker\.io|index-url|secrets\.", text, re.IGNORECASE)


def test_make_help_lists_every_target_that_is_called_by_name() -> None:
    # Called by make itself, it would also say which folder it enters.
    command = ("make", "--no-print-directory", "help")
    told = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    listed = {line.split()[1] for line in told.splitlines()}
    phony = {name for line in re.findall(r"^\.PHONY: (.+)", MAKEFILE, re.MULTILINE) for name in line.split()}
    assert listed == documented() == phony
