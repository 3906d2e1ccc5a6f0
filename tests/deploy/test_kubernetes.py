"""The Kubernetes files: valid for the API, as restricted as they say, and what is in them runs. No cluster is asked."""

import asyncio
import copy
import os
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from http import HTTPStatus
from pathlib import Path
from typing import Any

import kubernetes_validate as kubernetes  # type: ignore[import-untyped]  # carries the API's own schemas, and no types
import pytest
import yaml

from exporter.app.serving import CLOSE_SECONDS
from exporter.config import load
from exporter.demo.servers import Postgres, Redis
from tests.conftest import Count
from tests.http_targets import answering, serving
from tests.running import Running
from tests.servers import closed_port, eventually_now

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "deploy/kubernetes"
FILES = ("deployment.yaml", "sidecar.yaml")

NATIVE_SIDECARS = "1.29"
"""The first version that has them without a feature gate (kubernetes.io, Sidecar Containers)."""
LATEST = kubernetes.latest_version()

PORT = 10190
ID = 65532
MOUNT = "/etc/sidecar-exporter"
PROBES = {"livenessProbe": "/livez", "readinessProbe": "/readyz", "startupProbe": "/startupz"}
KUBELET_SUCCESS = range(200, 400)  # what the kubelet takes for a success of httpGet

Tree = dict[str, Any]


def documents(file: str) -> list[Tree]:
    return list(yaml.safe_load_all((FOLDER / file).read_text()))


def of_kind(file: str, kind: str) -> Tree:
    (document,) = (document for document in documents(file) if document["kind"] == kind)
    return document


def pod_of(file: str) -> Tree:
    """The pod's spec."""
    spec = of_kind(file, "Deployment")["spec"]["template"]["spec"]
    assert isinstance(spec, dict)
    return spec


def containers(file: str) -> list[Tree]:
    """All of them, the application's own as well."""
    pod = pod_of(file)
    return [*pod.get("initContainers", []), *pod["containers"]]


def exporter_of(file: str) -> Tree:
    (container,) = (container for container in containers(file) if container["name"] == "exporter")
    return container


def configuration_of(file: str) -> str:
    text = of_kind(file, "ConfigMap")["data"]["config.yaml"]
    assert isinstance(text, str)
    return text


def security(file: str, container: Tree) -> Tree:
    """What holds for the container: its own settings over the pod's."""
    return {**pod_of(file).get("securityContext", {}), **container.get("securityContext", {})}


@pytest.fixture
def closed() -> Iterator[dict[str, str]]:
    """The Secret's variables, with nobody behind any of them."""
    with closed_port() as port:
        yield {
            "DATABASE_URL": f"postgresql://app:secret@127.0.0.1:{port}/app",
            "REDIS_URL": f"redis://:secret@127.0.0.1:{port}/0",
            "RABBITMQ_URL": f"amqp://app:secret@127.0.0.1:{port}/",
        }


# -- the API's schemas -----------------------------------------------------------------------------------------------


def _refusal(document: Tree, version: str) -> str | None:
    """Why the API of that version would refuse the document, unknown keys included."""
    try:
        kubernetes.validate(document, version, strict=True)
    except kubernetes.ValidationError as error:
        return f"{document['kind']}: {error.message}"
    return None


@pytest.mark.parametrize("version", [NATIVE_SIDECARS, LATEST])
@pytest.mark.parametrize("file", FILES)
def test_every_document_is_valid(file: str, version: str, count: Count) -> None:
    """For the oldest API that has native sidecars, and for the newest that is known here."""
    refused = [_refusal(document, version) for document in documents(file)]
    count("schemas valid", refused.count(None), len(refused))
    assert set(refused) == {None}


def test_a_misspelt_key_is_refused() -> None:
    """Kubernetes drops a key it does not know without a word, so a slip in a security setting would go unseen."""
    deployment = copy.deepcopy(of_kind("deployment.yaml", "Deployment"))
    settings = deployment["spec"]["template"]["spec"]["containers"][0]["securityContext"]
    settings["readOnlyRootFileSystem"] = settings.pop("readOnlyRootFilesystem")
    assert "'readOnlyRootFileSystem' was unexpected" in str(_refusal(deployment, LATEST))


def test_an_api_without_native_sidecars_refuses_ours() -> None:
    """The validator does look inside the pod, and at the version it is given."""
    assert "'restartPolicy' was unexpected" in str(_refusal(of_kind("sidecar.yaml", "Deployment"), "1.27"))


@pytest.mark.parametrize("file", FILES)
def test_every_document_has_a_name(file: str) -> None:
    """The schemas do not ask for one, `kubectl apply` does; and a comment tells to restart the Deployment by it."""
    names = {document["kind"]: document["metadata"]["name"] for document in documents(file)}
    assert f"kubectl rollout restart deployment/{names['Deployment']}\n" in (FOLDER / file).read_text()


# -- what the files promise ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("file", FILES)
def test_every_container_satisfies_the_restricted_profile(file: str) -> None:
    """A namespace that enforces it (kubernetes.io, Pod Security Standards) would refuse the pod for any one of them."""
    pod = pod_of(file)
    assert {"hostNetwork", "hostPID", "hostIPC"}.isdisjoint(pod)
    assert [set(volume) - {"name"} for volume in pod["volumes"]] == [{"configMap"}]
    for container in containers(file):
        held = security(file, container)
        assert held["runAsNonRoot"] is True
        assert held["runAsUser"] > 0
        assert held["allowPrivilegeEscalation"] is False
        assert held["capabilities"] == {"drop": ["ALL"]}
        assert held["seccompProfile"] == {"type": "RuntimeDefault"}
        assert {"privileged", "procMount", "seLinuxOptions", "windowsOptions"}.isdisjoint(held)
        assert not any("hostPort" in port for port in container["ports"])


@pytest.mark.parametrize("file", FILES)
def test_the_exporter_runs_as_the_images_user_on_a_read_only_root(file: str) -> None:
    """A number, for the kubelet cannot tell whether a name is root; the number that owns HOME in the image."""
    held = security(file, exporter_of(file))
    assert (held["runAsUser"], held["runAsGroup"], held["readOnlyRootFilesystem"]) == (ID, ID, True)
    dockerfile = (ROOT / "Dockerfile").read_text()
    assert f"USER {ID}:{ID}\n" in dockerfile
    assert f"-o {ID} -g {ID} -m 0700 /home/exporter\n" in dockerfile


@pytest.mark.parametrize("file", FILES)
def test_the_kubelet_asks_for_this_process_alone_at_a_number(file: str) -> None:
    """A named port of an init container is not found everywhere; /health would restart us for a dead database."""
    container = exporter_of(file)
    for probe, path in PROBES.items():
        assert container[probe]["httpGet"] == {"path": path, "port": PORT}
    assert container["ports"] == [{"containerPort": PORT}]
    # /livez itself waits until the loop has lagged for 5 s, so an answer may take as long
    assert container["livenessProbe"]["timeoutSeconds"] >= 5
    assert container["readinessProbe"]["timeoutSeconds"] >= 2
    patience = container["startupProbe"]["periodSeconds"] * container["startupProbe"]["failureThreshold"]
    assert patience >= 15  # a start takes half a second, on a busy node some more


@pytest.mark.parametrize("file", FILES)
def test_nothing_of_the_cluster_leaks_into_the_pod(file: str) -> None:
    """A Service named redis would set REDIS_PORT=tcp://…; a token would be one more thing to steal."""
    pod = pod_of(file)
    assert pod["enableServiceLinks"] is False
    assert pod["automountServiceAccountToken"] is False


@pytest.mark.parametrize("file", FILES)
def test_the_configuration_is_mounted_as_a_folder(file: str) -> None:
    """A subPath mount never sees a change of the ConfigMap."""
    (mount,) = exporter_of(file)["volumeMounts"]
    (volume,) = pod_of(file)["volumes"]
    assert mount == {"name": volume["name"], "mountPath": MOUNT, "readOnly": True}
    assert volume["configMap"]["name"] == of_kind(file, "ConfigMap")["metadata"]["name"]
    assert f"mkdir {MOUNT} " in (ROOT / "Dockerfile").read_text()


@pytest.mark.parametrize("file", FILES)
def test_the_grace_outlasts_our_own_end(file: str, closed: dict[str, str], tmp_path: Path) -> None:
    """web.drain and the closing of connections, with room to spare, before SIGKILL comes."""
    drain = load(_written(tmp_path, configuration_of(file)), closed).web.drain_seconds
    assert pod_of(file)["terminationGracePeriodSeconds"] >= drain + CLOSE_SECONDS + 2


@pytest.mark.parametrize("file", FILES)
def test_memory_is_bounded_and_the_cpu_is_not(file: str) -> None:
    """A throttled loop looks hung to /livez; memory that grows must not push out the application."""
    assert exporter_of(file)["resources"] == {"requests": {"cpu": "20m", "memory": "96Mi"}, "limits": {"memory": "192Mi"}}


@pytest.mark.parametrize("file", FILES)
def test_the_image_is_this_release_and_decides_what_is_run(file: str) -> None:
    """Its entry point is the exporter, and `run` what it does."""
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    container = exporter_of(file)
    assert container["image"] == f"sidecar-exporter:{version}"
    assert {"command", "args"}.isdisjoint(container)


def test_the_deployment_is_one_and_never_two() -> None:
    """Two would ask every server twice, and give every number twice."""
    spec = of_kind("deployment.yaml", "Deployment")["spec"]
    assert (spec["replicas"], spec["strategy"]) == (1, {"type": "Recreate"})
    assert yaml.safe_load(configuration_of("deployment.yaml"))["instance"] == "trading"  # it outlives the pod and its name


def test_the_deployment_reads_the_applications_secret() -> None:
    """The variables that the application has anyway; no secret stands in a file of ours."""
    assert exporter_of("deployment.yaml")["envFrom"] == [{"secretRef": {"name": "trading"}}]
    assert all(document["kind"] != "Secret" for file in FILES for document in documents(file))


def test_the_sidecar_is_native() -> None:
    """An init container that keeps running: there before the application, gone after it."""
    assert exporter_of("sidecar.yaml") in pod_of("sidecar.yaml")["initContainers"]
    assert exporter_of("sidecar.yaml")["restartPolicy"] == "Always"


def test_the_sidecar_probes_what_its_pod_has() -> None:
    """Only what is local may be probed from N pods; the exporter has the Secret that the application has."""
    (application,) = pod_of("sidecar.yaml")["containers"]
    (probe,) = yaml.safe_load(configuration_of("sidecar.yaml"))["probes"].values()
    assert probe["url"] == f"http://127.0.0.1:{application['ports'][0]['containerPort']}/health"
    assert application["envFrom"] == exporter_of("deployment.yaml")["envFrom"]
    assert exporter_of("sidecar.yaml")["envFrom"] == application["envFrom"]


def test_the_service_and_the_scrape_job_find_the_pod() -> None:
    """By label and by number: Services did not see a sidecar's named port before Kubernetes 1.32 (kubernetes#127958)."""
    service = of_kind("deployment.yaml", "Service")["spec"]
    template = of_kind("deployment.yaml", "Deployment")["spec"]["template"]["metadata"]
    assert service["selector"].items() <= template["labels"].items()
    assert service["ports"] == [{"name": "metrics", "port": PORT, "targetPort": PORT}]


@pytest.mark.parametrize("file", FILES)
def test_a_deployment_selects_its_own_pods_and_they_ask_to_be_scraped(file: str) -> None:
    """The API refuses a selector that misses the template; a scrape job reads annotations as text."""
    spec = of_kind(file, "Deployment")["spec"]
    metadata = spec["template"]["metadata"]
    assert spec["selector"]["matchLabels"] == metadata["labels"]
    assert metadata["annotations"] == {"prometheus.io/scrape": "true", "prometheus.io/port": str(PORT)}


# -- what is in them runs --------------------------------------------------------------------------------------------


def _written(folder: Path, text: str) -> Path:
    """The file as the kubelet lays it down: a link to a folder of links, swapped as a whole."""
    (folder / "..2026").mkdir()
    (folder / "..2026/config.yaml").write_text(text)
    (folder / "..data").symlink_to("..2026")
    (folder / "config.yaml").symlink_to("..data/config.yaml")
    return folder / "config.yaml"


@pytest.mark.parametrize(("file", "probes"), [("deployment.yaml", "4 probes"), ("sidecar.yaml", "1 probe")])
def test_the_configuration_checks_clean(file: str, probes: str, closed: dict[str, str], tmp_path: Path) -> None:
    """With the variables that the container has, and no others."""
    path = _written(tmp_path, configuration_of(file))
    variables = closed if "envFrom" in exporter_of(file) else {}
    result = subprocess.run(
        [sys.executable, "-m", "exporter", "check", "-c", str(path)],
        cwd=ROOT,
        env={"PATH": os.environ["PATH"], **variables},
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert (result.returncode, result.stdout, result.stderr) == (0, f"{path}: {probes}, no problems\n", "")


@pytest.mark.parametrize("file", FILES)
def test_the_kubelets_questions_are_answered_while_every_target_is_down(file: str, closed: dict[str, str], tmp_path: Path) -> None:
    """No target may restart, unroute or hold back a pod."""
    variables = closed if "envFrom" in exporter_of(file) else {}
    with closed_port() as port:
        configuration = configuration_of(file).replace("127.0.0.1:8000", f"127.0.0.1:{port}")
        with Running(tmp_path, configuration, variables) as exporter:
            eventually_now(lambda: len(exporter.samples("sidecar_probe_up")) == len(exporter.health()["probes"]), 15)
            assert set(exporter.samples("sidecar_probe_up").values()) == {0.0}
            for probe in PROBES:
                asked = exporter_of(file)[probe]["httpGet"]["path"]
                assert exporter.get(asked) == (HTTPStatus.OK, "ok")
                assert exporter.get(asked)[0] in KUBELET_SUCCESS


def test_the_deployment_reads_real_servers(
    postgres_server: Postgres, redis_server: Redis, closed: dict[str, str], tmp_path: Path
) -> None:
    """With the application's own URLs and nothing else, every collector of it succeeds."""
    variables = {**closed, "DATABASE_URL": postgres_server.url, "REDIS_URL": redis_server.url}
    of_ours = [*("pg_up{", "redis_up{"), *(f'sidecar_collector_success{{probe="{name}"' for name in ("db", "redis"))]
    with Running(tmp_path, configuration_of("deployment.yaml"), variables) as exporter:
        # two up series, five collectors of PostgreSQL, one of Redis
        eventually_now(lambda: list(exporter.samples(*of_ours).values()) == [1.0] * 8, 15)


async def test_the_sidecar_sees_its_pods_application(tmp_path: Path) -> None:
    """Over the loopback that the containers of a pod share."""

    def status(place: str) -> str:
        with Running(tmp_path, configuration_of("sidecar.yaml").replace("127.0.0.1:8000", place)) as exporter:
            return eventually_now(lambda: exporter.health()["probes"]["app"]["last_run"] and exporter.status("app"), 15)

    async with serving(answering()) as application:
        assert await asyncio.to_thread(status, application.place) == "healthy"
        assert [asked.path for asked in application.asked] == ["/health"]
