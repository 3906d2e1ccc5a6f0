"""What the Compose file promises: valid, complete, closed to other machines, and startable without an `.env`.

No container engine ran here; that its commands run is in `test_compose_runs.py`.
"""

import re
import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path

import yaml

from exporter.config.load import SYSTEM_PATH
from tests.conftest import Count
from tests.deploy.compose import DEPLOY, SERVICES, VARIABLE, WRITTEN, in_repository, mounts, scalars

ROOT = DEPLOY.parent
OURS = ("application", "worker", "exporter")
PORTS = {
    "application": ["127.0.0.1:8000:8000"],
    "exporter": ["127.0.0.1:10190:10190"],
    "prometheus": ["127.0.0.1:9090:9090"],
    "grafana": ["127.0.0.1:3001:3000"],
    "rabbitmq": ["127.0.0.1:15672:15672"],
}
LOGINS = {
    "GF_SECURITY_ADMIN_USER": "admin",
    "GF_SECURITY_ADMIN_PASSWORD": "admin_change_me",
    "POSTGRES_USER": "p2p_user",
    "POSTGRES_PASSWORD": "p2p_password_change_me",
    "RABBITMQ_DEFAULT_USER": "p2p_user",
    "RABBITMQ_DEFAULT_PASS": "p2p_password_change_me",
}


def _example() -> dict[str, str]:
    lines = (DEPLOY / ".env.example").read_text().splitlines()
    named = [line.partition("=") for line in lines if line and not line.startswith("#")]
    return {name: value for name, _, value in named}


def _provisioned(path: str) -> dict[str, object]:
    """The one entry of one of Grafana's provisioning files."""
    file = yaml.safe_load((DEPLOY / "grafana/provisioning" / path).read_text())
    assert file.pop("apiVersion") == 1
    ((entry,),) = file.values()
    assert isinstance(entry, dict)
    return entry


def test_it_is_valid_by_the_published_schema(count: Count) -> None:
    """A misspelt key is ignored or refused, by whichever version of Compose there is."""
    program = Path(sys.executable).with_name("check-jsonschema")
    command = [str(program), "--builtin-schema", "vendor.compose-spec", str(DEPLOY / "compose.yaml")]
    checked = subprocess.run(command, capture_output=True, text=True, timeout=60)
    count("schemas valid", int(checked.returncode == 0), 1)
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_it_starts_without_an_env_file_and_the_example_is_what_it_starts_with() -> None:
    """A variable without a default is an empty password, and a warning that nobody reads."""
    texts = scalars(WRITTEN)
    assert [text for text in texts if "$" in VARIABLE.sub("", text)] == []
    assert not any("env_file" in service for service in SERVICES.values())
    defaults = {pair for text in texts for pair in VARIABLE.findall(text)}
    assert len(defaults) == len(dict(defaults)), "two defaults for one variable"
    assert dict(defaults) == _example()


def test_the_logins_are_those_of_before() -> None:
    """Who comes from the set-up of before finds them unchanged."""
    example = _example()
    assert example.items() >= LOGINS.items()
    assert all("p2p_user:p2p_password_change_me@" in example[url] for url in ("DATABASE_URL", "RABBITMQ_URL", "CELERY_BROKER_URL"))
    assert example["DATABASE_URL"].endswith(f"/{example['POSTGRES_DB']}")


def test_the_application_and_its_sidecar_know_the_same() -> None:
    """An exporter that looks at another database than the application's is worse than none."""
    shared = set(WRITTEN["x-application-environment"])
    assert shared == {"DATABASE_URL", "REDIS_URL", "RABBITMQ_URL", "CELERY_BROKER_URL", "DB_POOL_SIZE", "DB_MAX_OVERFLOW"}
    seen = [{name: SERVICES[service]["environment"][name] for name in shared} for service in OURS]
    assert seen[0] == seen[1] == seen[2]
    assert SERVICES["exporter"]["environment"]["APP_URL"] == "http://application:8000/health"


def test_ports_are_those_of_before_and_open_to_this_machine_alone() -> None:
    """The default logins stand in a public file."""
    assert {name: service["ports"] for name, service in SERVICES.items() if "ports" in service} == PORTS


def test_every_mounted_file_is_ours_and_read_only_and_every_volume_has_a_name() -> None:
    """For a path that is not there Docker makes an empty folder, as root."""
    named = set()
    for service in SERVICES:
        for source, read_only in mounts(service).values():
            if source.startswith("."):
                assert read_only, source
                assert (DEPLOY / source).exists(), source
            else:
                assert not read_only, source
                named.add(source)
    assert named == set(WRITTEN["volumes"]) == {"postgres", "redis", "rabbitmq", "prometheus", "grafana"}


def test_what_commands_and_variables_name_is_mounted_there() -> None:
    """A configuration one folder off is a default configuration."""
    (option,) = (word for word in SERVICES["prometheus"]["command"] if word.startswith("--config.file="))
    home = SERVICES["grafana"]["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"]
    options = _provisioned("dashboards/dashboards.yaml")["options"]
    assert isinstance(options, dict)
    found = {
        "prometheus": in_repository("prometheus", option.partition("=")[2]),
        "alerts": in_repository("prometheus", "/etc/prometheus/alerts.yaml"),
        "home": in_repository("grafana", home),
        "dashboards": in_repository("grafana", options["path"]),
        "exporter": in_repository("exporter", str(SYSTEM_PATH)),
    }
    assert found == {
        "prometheus": DEPLOY / "prometheus/prometheus.yml",
        "alerts": DEPLOY / "prometheus/alerts.yaml",
        "home": DEPLOY / "grafana/dashboards/p2p-exchange-overview.json",
        "dashboards": DEPLOY / "grafana/dashboards",
        "exporter": ROOT / "config.example.yaml",
    }
    assert [str(path) for path in found.values() if path is not None and not path.exists()] == []


def test_who_waits_waits_for_a_health_check_and_the_exporter_for_nobody() -> None:
    """A target that is down when the exporter starts is a finding; the application does without no server."""
    waits = {name: service["depends_on"] for name, service in SERVICES.items() if "depends_on" in service}
    assert set(waits) == {"application", "worker"}
    for others in waits.values():
        assert set(others) == {"postgres", "redis", "rabbitmq"}
        for other, wait in others.items():
            assert wait == {"condition": "service_healthy"}
            assert SERVICES[other]["healthcheck"]["test"][0] == "CMD"


def test_every_service_comes_back_and_is_checked() -> None:
    """Docker restarts what has ended, and tells what hangs."""
    assert {name for name, service in SERVICES.items() if service["restart"] != "unless-stopped"} == set()
    unchecked = {name for name, service in SERVICES.items() if "test" not in service.get("healthcheck", {})}
    assert unchecked == {"worker", "exporter"}
    assert SERVICES["worker"]["healthcheck"] == {"disable": True}  # the image's own asks for the exporter
    assert "HEALTHCHECK" in (ROOT / "Dockerfile").read_text()  # and that is the exporter's


def test_our_image_has_no_rights_and_nothing_to_write() -> None:
    """It needs neither."""
    for name in OURS:
        service = SERVICES[name]
        assert (service["build"], service["read_only"], service["tmpfs"]) == ("..", True, ["/tmp"])
        assert (service["cap_drop"], service["security_opt"]) == (["ALL"], ["no-new-privileges:true"])
        assert "image" not in service, "a name would be looked for in a registry first"


def test_tags_are_pinned() -> None:
    """The next `docker compose pull` brings patches, no other major version of a database."""
    images = {name: service["image"] for name, service in SERVICES.items() if "image" in service}
    assert set(images) == set(SERVICES) - set(OURS)
    assert [image for image in images.values() if not re.fullmatch(r"[a-z/]+:v?\d+\.\d+[\w.-]*", image)] == []


def test_the_image_has_the_programs_and_the_exporter_runs_as_the_image_says() -> None:
    """A program of a package that the image does not pin is not there."""
    pins = set(re.findall(r"(?m)^([a-z0-9-]+)==", (DEPLOY / "requirements.txt").read_text())) | {"sidecar-exporter"}
    scripts = {script.name: script.dist.name for script in entry_points(group="console_scripts") if script.dist}
    started = {SERVICES[name]["entrypoint"][0] for name in ("application", "worker")}
    started.add(SERVICES["application"]["healthcheck"]["test"][1])
    assert started == {"python", "celery", "exporter"}
    assert {scripts[name] for name in started - {"python"}} <= pins
    dockerfile = (ROOT / "Dockerfile").read_text()
    assert "ENV PATH=/opt/exporter/bin:$PATH" in dockerfile
    assert dockerfile.endswith('ENTRYPOINT ["exporter"]\nCMD ["run"]\n')
    assert not {"entrypoint", "command"} & set(SERVICES["exporter"])


def test_grafana_finds_prometheus_under_a_fixed_name() -> None:
    """A link to a panel names its data source by uid; an interval that is not the scrape's makes rates of too few samples."""
    source = _provisioned("datasources/prometheus.yaml")
    assert (source["type"], source["uid"], source["isDefault"]) == ("prometheus", "prometheus", True)
    assert source["url"] == "http://prometheus:9090"
    scraped = yaml.safe_load((DEPLOY / "prometheus/prometheus.yml").read_text())
    assert source["jsonData"] == {"httpMethod": "POST", "timeInterval": scraped["global"]["scrape_interval"]}
    targets = [target for job in scraped["scrape_configs"] for part in job["static_configs"] for target in part["targets"]]
    assert "exporter:10190" in targets


def test_dashboards_come_from_the_file_alone() -> None:
    """What is changed in the browser would be lost with the container."""
    provider = _provisioned("dashboards/dashboards.yaml")
    assert (provider["type"], provider["allowUiUpdates"]) == ("file", False)
