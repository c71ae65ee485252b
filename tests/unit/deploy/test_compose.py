"""docker-compose.yml and its Dockerfile: valid, pinned, and in step with the code that they run."""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
import yaml
from check_jsonschema.builtin_schemas import get_builtin_schema  # type: ignore[import-untyped]
from jsonschema import Draft7Validator

from runtime.settings import CODE_VERSION, Settings
from schemas.limits import DERIVED_TOPIC_BYTES

ROOT = Path(__file__).parents[3]
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
DOCKERFILE = (ROOT / "deploy/docker/Dockerfile").read_text()
OURS = {name: service for name, service in SERVICES.items() if "build" in service}


class Recorder(Mapping[str, str]):
    """An environment that remembers which variables were asked for."""

    def __init__(self, values: Mapping[str, str]) -> None:
        self.values_by_name = dict(values)
        self.asked: set[str] = set()

    def __getitem__(self, name: str) -> str:
        self.asked.add(name)
        return self.values_by_name[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.values_by_name)

    def __len__(self) -> int:
        return len(self.values_by_name)


def interpolated(text: object) -> str:
    """The text as compose reads it with none of the variables set."""
    return re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", str(text))


def environment(service: Mapping[str, Any]) -> dict[str, str]:
    return {name: interpolated(value) for name, value in service.get("environment", {}).items()}


def image_environment() -> dict[str, str]:
    return dict(re.findall(r"(HEADRACE_\w+)=(\S+)", DOCKERFILE))


def one_shots() -> set[str]:
    return {name for name, service in SERVICES.items() if service["restart"] == "no"}


def test_it_is_valid_by_the_schema_of_the_compose_specification() -> None:
    Draft7Validator(get_builtin_schema("vendor.compose-spec")).validate(COMPOSE)


@pytest.mark.parametrize(
    "damage", [{"helthcheck": {}}, {"ports": 9092}, {"depends_on": {"kafka": {"condition": "up"}}}]
)
def test_the_schema_finds_a_mistake(damage: dict[str, object]) -> None:
    damaged = COMPOSE | {"services": {"worker": SERVICES["worker"] | damage}}
    assert not Draft7Validator(get_builtin_schema("vendor.compose-spec")).is_valid(damaged)


def test_it_describes_the_stack_of_the_design() -> None:
    assert set(SERVICES) == {"kafka", "valkey", "postgres", "topics", "migrations", "dispatcher", "worker"}
    assert SERVICES["worker"]["deploy"]["replicas"] == 2


@pytest.mark.parametrize("name", SERVICES)
def test_every_image_is_pinned_to_a_version(name: str) -> None:
    assert re.fullmatch(r"[a-z/-]+:\d+\.\d+(\.\d+)?(-[a-z]+)?", SERVICES[name]["image"])


def test_our_images_carry_the_version_of_the_code() -> None:
    assert {service["image"].partition(":")[2] for service in OURS.values()} == {CODE_VERSION}


def test_kafka_is_the_version_that_runs_natively() -> None:
    pom = ElementTree.parse(ROOT / "deploy/local/kafka/pom.xml")  # noqa: S314 - our own file
    version = pom.findtext(".//{*}kafka.version")
    assert SERVICES["kafka"]["image"] == f"apache/kafka:{version}"


def test_kafka_takes_the_largest_record_of_the_contract() -> None:
    for name in ("KAFKA_MESSAGE_MAX_BYTES", "KAFKA_REPLICA_FETCH_MAX_BYTES"):
        assert SERVICES["kafka"]["environment"][name] >= DERIVED_TOPIC_BYTES


@pytest.mark.parametrize("name", SERVICES)
def test_every_service_tells_its_health_or_ends(name: str) -> None:
    assert ("healthcheck" in SERVICES[name]) is (name not in one_shots())


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_waits_for_what_it_needs(name: str) -> None:
    for needed, how in SERVICES[name].get("depends_on", {}).items():
        wanted = "service_completed_successfully" if needed in one_shots() else "service_healthy"
        assert how["condition"] == wanted


@pytest.mark.parametrize("name", ["dispatcher", "worker"])
def test_a_process_starts_after_the_servers_the_topics_and_the_tables(name: str) -> None:
    assert set(SERVICES[name]["depends_on"]) == {"kafka", "valkey", "postgres", "topics", "migrations"}


@pytest.mark.parametrize("name", OURS)
def test_the_module_of_every_command_exists(name: str) -> None:
    python, flag, module, *_ = OURS[name]["command"]
    assert (python, flag) == ("python", "-m")
    folder = ROOT.joinpath(*module.split("."))
    assert (folder / "__main__.py").exists()
    assert f"COPY {module.partition('.')[0]} " in DOCKERFILE


@pytest.mark.parametrize("name", OURS)
def test_every_setting_is_one_that_the_code_reads_and_takes(name: str) -> None:
    given = image_environment() | environment(OURS[name])
    recorder = Recorder(given)
    settings = Settings.from_env(recorder)
    assert set(given) <= recorder.asked
    assert settings.kafka == "kafka:29092"
    assert "@postgres:5432/" in settings.database
    assert settings.redis == "redis://valkey:6379/0"
    assert settings.ready_file == Path("/run/headrace/ready")


def test_processes_connect_to_the_listener_that_kafka_advertises_inside() -> None:
    advertised = interpolated(SERVICES["kafka"]["environment"]["KAFKA_ADVERTISED_LISTENERS"])
    assert "INSIDE://kafka:29092" in advertised.split(",")
    assert "OUTSIDE://127.0.0.1:9092" in advertised.split(",")


def test_ports_are_published_on_the_loopback_address_alone() -> None:
    ports = [interpolated(port) for service in SERVICES.values() for port in service.get("ports", ())]
    assert ports
    assert all(port.startswith("127.0.0.1:") for port in ports)


def test_the_metrics_are_served_where_they_are_published() -> None:
    settings = environment(SERVICES["dispatcher"])
    assert settings["HEADRACE_METRICS_HOST"] == "0.0.0.0"  # noqa: S104 - the container's own network
    port = settings["HEADRACE_METRICS_PORT"]
    assert [interpolated(text) for text in SERVICES["dispatcher"]["ports"]] == [f"127.0.0.1:{port}:{port}"]


def test_named_volumes_are_declared() -> None:
    mounts = [mount for service in SERVICES.values() for mount in service.get("volumes", ())]
    assert {mount.partition(":")[0] for mount in mounts if not mount.startswith("/")} == set(COMPOSE["volumes"])


def test_the_images_are_built_from_stages_that_exist() -> None:
    stages = set(re.findall(r"^FROM \S+ AS (\w+)$", DOCKERFILE, re.MULTILINE))
    assert {service["build"]["target"] for service in OURS.values()} <= stages
    for service in OURS.values():
        assert (ROOT / service["build"]["dockerfile"]).exists()


def test_the_images_start_from_one_pinned_python_and_run_as_an_ordinary_user() -> None:
    bases = {base for base in re.findall(r"^FROM (\S+)", DOCKERFILE, re.MULTILINE) if ":" in base}
    assert len(bases) == 1
    assert re.fullmatch(r"python:3\.11\.\d+-slim-\w+", bases.pop())
    *_, user = re.findall(r"^USER (\w+)$", DOCKERFILE, re.MULTILINE)
    assert user == "headrace"


def test_every_package_of_the_images_is_locked_by_hash() -> None:
    installs = re.findall(r"pip install .*", DOCKERFILE)
    assert len(installs) == 2
    assert all("--require-hashes" in line for line in installs)


@pytest.mark.parametrize("lock", [*(ROOT / "requirements").glob("*.txt"), ROOT / "benchmarks/peers/requirements.txt"])
def test_a_lock_has_a_hash_for_every_package_and_no_address_of_an_index(lock: Path) -> None:
    text = lock.read_text()
    packages = re.split(r"\n(?=[a-z0-9])", re.sub(r"^ *#.*\n?", "", text, flags=re.MULTILINE).strip())
    assert packages
    for package in packages:
        assert re.match(r"[a-z0-9._-]+(\[[a-z,]+\])?==[^ ]+ ", package), package
        assert "--hash=sha256:" in package, package
    assert "://" not in text
    assert "index" not in re.sub(r"==.*", "", text)


def test_everything_that_is_copied_exists_and_reaches_the_build() -> None:
    ignore = (ROOT / "deploy/docker/Dockerfile.dockerignore").read_text().split()
    for line in re.findall(r"^COPY (?!--from)(.+)$", DOCKERFILE, re.MULTILINE):
        for source in line.split()[:-1]:
            assert (ROOT / source).exists(), source
            assert {f"!{source}", f"!{source.partition('/')[0]}"} & set(ignore), source
