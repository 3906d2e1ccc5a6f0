"""Reloading a process from outside: by signal, by POST, by its file, as operators and Kubernetes do it."""

import signal
import urllib.error
import urllib.request
from pathlib import Path

from exporter.demo.servers import Postgres
from tests.running import Running
from tests.servers import eventually_now

CONFIG = """
defaults: {{interval: 300ms, timeout: 300ms}}
probes:
  one: {{type: http, url: 'http://127.0.0.1:9/', critical: false}}
{more}"""

TWO = "  two: {type: http, url: 'http://127.0.0.1:9/', critical: false}\n"


def names(exporter: Running) -> list[str]:
    return sorted(exporter.health()["probes"])


def reload_at(exporter: Running, token: str) -> tuple[int, str]:
    """A POST as an operator sends it."""
    request = urllib.request.Request(f"{exporter.url}/-/reload", method="POST", headers={"Authorization": f"Bearer {token}"})
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def test_signal_post_and_file_each_reload(tmp_path: Path) -> None:
    """Whichever an operator knows; what is wrong is told on the page as well."""
    with Running(tmp_path, CONFIG.format(more=""), {"EXPORTER_TOKEN": "0pen-sesame"}) as exporter:
        path = tmp_path / "config.yaml"
        assert names(exporter) == ["one"]
        path.write_text(CONFIG.format(more=TWO))
        exporter.process.send_signal(signal.SIGHUP)
        eventually_now(lambda: names(exporter) == ["one", "two"], 5)
        path.write_text(CONFIG.format(more="  two: {type: htpp}\n"))
        status, text = reload_at(exporter, "0pen-sesame")
        assert (status, text.splitlines()[0]) == (409, "not reloaded, the configuration before goes on:")
        assert f"{path}:5:15: probes.two.type: " in text
        assert "did you mean" in exporter.get("/", Accept="text/html")[1]
        assert exporter.samples("sidecar_config_last_reload_successful") == {"sidecar_config_last_reload_successful": 0.0}
        (tmp_path / "new.yaml").write_text(CONFIG.format(more=""))
        (tmp_path / "new.yaml").rename(path)
        eventually_now(lambda: names(exporter) == ["one"], 15)
        assert exporter.samples("sidecar_config_last_reload_successful") == {"sidecar_config_last_reload_successful": 1.0}
        assert reload_at(exporter, "wrong")[0] == 403


def test_a_swapped_configmap_takes_effect(tmp_path: Path) -> None:
    """Kubernetes changes no file: it renames a link over another, two links away from the path it was told."""
    for name, more in (("..1", ""), ("..2", TWO)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.yaml").write_text(CONFIG.format(more=more))
    (tmp_path / "..data").symlink_to("..1")
    (tmp_path / "config.yaml").symlink_to("..data/config.yaml")
    with Running(tmp_path, None, {"EXPORTER_CONFIG": str(tmp_path / "config.yaml")}) as exporter:
        assert names(exporter) == ["one"]
        (tmp_path / "..data_tmp").symlink_to("..2")
        (tmp_path / "..data_tmp").rename(tmp_path / "..data")
        eventually_now(lambda: names(exporter) == ["one", "two"], 15)


def test_without_a_file_a_signal_reads_the_secrets_again(tmp_path: Path, postgres_server: Postgres) -> None:
    """`DATABASE_URL_FILE` is all the configuration there is."""
    url = tmp_path / "url"
    url.write_text("postgresql://nobody:wrong@127.0.0.1:9/x\n")
    with Running(tmp_path, None, {"DATABASE_URL_FILE": str(url)}) as exporter:
        assert names(exporter) == ["db"]
        url.write_text(f"{postgres_server.url}\n")
        exporter.process.send_signal(signal.SIGHUP)
        eventually_now(lambda: exporter.status("db") == "healthy", 10)
        assert "configuration reloaded: changed db; 0 as before" in exporter.said
        assert postgres_server.password not in exporter.said
