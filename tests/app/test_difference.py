"""What another configuration changes."""

from pathlib import Path

from exporter.app.difference import Difference, difference
from exporter.config import Configuration, load


def configuration(folder: Path, text: str, **environ: str) -> Configuration:
    path = folder / "config.yaml"
    path.write_text(text)
    return load(path, environ)


BEFORE = """
instance: trading
probes:
  db: {type: postgres, url: "postgresql://127.0.0.1/x", password: "${SECRET}"}
  redis: {type: redis, url: "redis://127.0.0.1"}
  app: {type: http, url: "http://127.0.0.1/"}
"""


def test_names_are_sorted_by_what_becomes_of_them(tmp_path: Path) -> None:
    """Only what is different is touched; the order written and comments are no difference."""
    after = """
instance: trading
labels: {env: prod}                   # on the series, not in the probes
probes:
  mq: {type: rabbitmq, url: "amqp://127.0.0.1"}
  app: {type: http, url: "http://127.0.0.1/", interval: 5s}
  db: {url: "postgresql://127.0.0.1/x", password: "${SECRET}", type: postgres}
"""
    change = difference(configuration(tmp_path, BEFORE, SECRET="a"), configuration(tmp_path, after, SECRET="a"))
    assert change == Difference(added=("mq",), changed=("app",), removed=("redis",), kept=("db",))
    assert str(change) == "added mq; changed app; removed redis; 1 as before"


def test_a_changed_secret_is_a_changed_probe(tmp_path: Path) -> None:
    """The text of the file is the same, the password is not."""
    change = difference(configuration(tmp_path, BEFORE, SECRET="a"), configuration(tmp_path, BEFORE, SECRET="b"))
    assert (change.changed, change.kept) == (("db",), ("redis", "app"))


def test_another_instance_changes_every_probe(tmp_path: Path) -> None:
    """It names what we leave on brokers."""
    before, after = (configuration(tmp_path, BEFORE.replace("trading", name), SECRET="a") for name in ("one", "two"))
    assert difference(before, after).kept == ()
    assert not difference(before, before)
