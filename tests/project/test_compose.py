"""compose.yaml: every engine has a service, and nothing of it is open to other computers."""

from __future__ import annotations

import re
from typing import Any

import pytest
import yaml

from image_search.settings import ROOT, list_setting_names
from image_search.stores import ENGINES

SERVICES: dict[str, Any] = yaml.safe_load((ROOT / "compose.yaml").read_text(encoding="utf-8"))["services"]
EMBEDDED = {"sqlite"}
TLS = {"rediss", "elasticsearch+https"}


def test_every_engine_has_a_service_beside_the_app() -> None:
    assert {"postgres" if name == "postgresql" else name for name in ENGINES.keys() - EMBEDDED - TLS} | {
        "app",
        "minio",
    } == SERVICES.keys()


@pytest.mark.parametrize("name", SERVICES)
def test_service_starts_only_when_its_own_profile_is_named(name: str) -> None:
    assert SERVICES[name]["profiles"] == [name]


@pytest.mark.parametrize("name", SERVICES)
def test_service_says_when_it_is_ready(name: str) -> None:
    check = SERVICES[name]["healthcheck"]
    assert check["test"][0] == "CMD"
    assert check.keys() >= {"interval", "timeout", "retries"}


@pytest.mark.parametrize("name", SERVICES)
def test_port_is_open_to_this_computer_only(name: str) -> None:
    assert SERVICES[name]["ports"]
    for port in SERVICES[name]["ports"]:
        assert port.startswith("127.0.0.1:")
    assert "network_mode" not in SERVICES[name]


@pytest.mark.parametrize("name", SERVICES)
def test_data_of_a_service_outlive_its_container(name: str) -> None:
    [volume] = SERVICES[name]["volumes"]
    assert volume.startswith(f"{name}:/")


@pytest.mark.parametrize("name", sorted(SERVICES.keys() - {"app"}))
def test_image_has_a_version(name: str) -> None:
    assert re.search(r":[\w.-]*\d[\w.-]*$", SERVICES[name]["image"])


@pytest.mark.parametrize("name", SERVICES)
def test_no_password_is_written_here(name: str) -> None:
    for setting, value in SERVICES[name].get("environment", {}).items():
        if re.search("PASSWORD|SECRET", setting):
            assert re.fullmatch(r"\$\{\w+:-\}", value)


def test_app_sets_only_settings_there_are() -> None:
    assert SERVICES["app"]["environment"].keys() <= set(list_setting_names())


def test_image_of_the_app_holds_all_the_app_needs() -> None:
    lines = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    ignored = (ROOT / ".dockerignore").read_text(encoding="utf-8").split()
    for requirements in {requirements for _, requirements in ENGINES.values()} | {"requirements-s3.txt"}:
        assert f"-r {requirements}" in lines
    for source in re.findall(r"^COPY (.+) \S+$", lines, re.MULTILINE):
        for part in source.split():
            assert f"!{part}" in ignored
            assert list(ROOT.glob(part))


def test_workflow_runs_what_there_is_and_names_servers_as_the_tests_ask_for_them() -> None:
    workflow = (ROOT / ".github" / "workflows" / "engines.yml").read_text(encoding="utf-8")
    jobs = yaml.safe_load(workflow)["jobs"]
    rows = [row for job in jobs.values() for row in job.get("strategy", {}).get("matrix", {}).get("include", [])]
    assert {row["engine"] for row in rows} | {"oracle"} == ENGINES.keys() - TLS  # Oracle has a workflow of its own
    for row in rows:
        assert (ROOT / row["test"]).is_file()
        assert row.get("profile", "redis") in SERVICES
    asked = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "tests").rglob("*.py"))
    for variable in re.findall(r"\w+_TEST_URL", workflow):
        assert f'"{variable}"' in asked
