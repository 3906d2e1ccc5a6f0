"""No secret in what is said of a configuration, whatever is wrong with it."""

import traceback
from pathlib import Path

import pytest

from exporter.config import load
from exporter.errors import ConfigError

CANARY = "c4n4ry"

DB = "probes:\n  db:\n    type: postgres\n"
APP = "probes:\n  app:\n    type: http\n"

BARE = f"{DB}    host: h\n"
QUERY = (
    BARE
    + """\
    queries:
      q:
        sql: SELECT 1
        metrics:
          trades_total: {type: counter, help: Trades., value: v, labels: [LABELS]}
      r:
        sql: SELECT 1
        metrics:
          trades_total: {type: counter, help: Trades., value: v}
"""
)

MISTAKES = {
    "password-in-url-with-bad-port": f"{DB}    url: postgresql://u:{CANARY}@h:99999/x\n",
    "password-in-url-with-slash": f"{DB}    url: postgresql://u:1234/{CANARY}@h:5432/x\n",
    "password-in-url-with-hash": f"{DB}    url: postgresql://u:{CANARY}#1@h:5432/x\n",
    "password-in-url-with-question-mark": f"{DB}    url: postgresql://u:{CANARY}?1@h:5432/x\n",
    "password-in-url-with-bracket": f"{DB}    url: postgresql://u:[{CANARY}@h:5432/x\n",
    "password-in-url-with-blank": f"{DB}    url: postgresql://u:{CANARY} 1@h:5432/x\n",
    "password-in-url-with-colon": f"{DB}    url: 'postgresql://u:{CANARY}:{CANARY}@h:port/x'\n",
    "password-in-url-of-another-type": f"{DB}    url: mysql://u:{CANARY}@h/x\n",
    "password-in-url-without-scheme": f"{DB}    url: u:{CANARY}@h/x\n",
    "password-in-url-of-several-hosts": f"{DB}    url: postgresql://u:{CANARY}@h:1,i:2/x\n",
    "query-string": f"{DB}    url: postgresql://h/x?sslmode={CANARY}\n",
    "colon-in-url": f"{DB}    url: postgresql://u:{CANARY}: x@h/x\n",
    "list-for-url": f"{DB}    url: [{CANARY}]\n",
    "mapping-for-password": f"{BARE}    password: {{a: {CANARY}}}\n",
    "list-for-password": f"{BARE}    password: [{CANARY}, {CANARY}]\n",
    "tag-for-password": f"{BARE}    password: !{CANARY}\n",
    "tag-handle-for-password": f"{BARE}    password: !{CANARY}!x\n",
    "alias-for-password": f"{BARE}    password: *{CANARY}\n",
    "anchor-for-password": f"{BARE}    password: &{CANARY}\n",
    "percent-for-password": f"{BARE}    password: %{CANARY}\n",
    "at-for-password": f"{BARE}    password: @{CANARY}\n",
    "unclosed-password": f"{BARE}    password: '{CANARY}\n",
    "escape-in-password": f'{BARE}    password: "\\{CANARY}"\n',
    "dollar-in-password": f"{BARE}    password: 'x${{{CANARY}-}}'\n",
    "unclosed-dollar-in-password": f"{BARE}    password: 'x${{{CANARY}'\n",
    "duplicate-password": f"{BARE}    password: {CANARY}\n    password: {CANARY}2\n",
    "misspelt-password": f"{BARE}    pasword: {CANARY}\n",
    "password-of-another-type": f"{APP}    url: http://h/\n    password: {CANARY}\n",
    "password-under-defaults": f"defaults: {{password: {CANARY}}}\n{BARE}",
    "password-beside-unknown-type": f"probes:\n  db:\n    type: postgrs\n    password: {CANARY}\n",
    "header-with-list": f"{APP}    url: http://h/\n    headers: {{Authorization: [{CANARY}]}}\n",
    "headers-as-text": f"{APP}    url: http://h/\n    headers: 'Authorization: {CANARY}'\n",
    "header-beside-mistake": f"{APP}    url: http://h:99999/\n    headers: {{Authorization: Bearer {CANARY}}}\n",
    "token-as-list": f"{APP}    url: http://h/\n    bearer_token: [{CANARY}]\n",
    "body-as-mapping": f"{APP}    url: http://h/\n    body: {{a: {CANARY}}}\n",
    "basic-auth-as-text": f"{APP}    url: http://h/\n    basic_auth: u:{CANARY}\n",
    "basic-auth-misspelt": f"{APP}    url: http://h/\n    basic_auth: {{username: u, pass: {CANARY}}}\n",
    "query-string-with-bad-port": f"{APP}    url: http://h:99999/?key={CANARY}\n",
    "password-taken-for-a-port": f"{APP}    url: http://u:123456/{CANARY}@h/\n",
    "web-token-as-list": f"web: {{token: [{CANARY}]}}\n{BARE}",
    "web-token-beside-mistake": f"web: {{token: {CANARY}, drain: soon}}\n{BARE}",
    "secret-in-a-plain-field": f"{BARE}    interval: {CANARY}\n    retry: {CANARY}\n    pool: {CANARY}\n    enabled: {CANARY}\n",
    "file-in-lists": f"{BARE}    depends_on: ['${{file:secret}}']\n    aliases: ['${{file:secret}} x']\n",
    "file-for-type": "probes:\n  db:\n    type: ${file:secret}\n",
    "file-for-labels-of-a-query": QUERY.replace("LABELS", "'${file:secret}', '${file:secret}'"),
    "file-in-a-url-with-mistake": f"{DB}    url: postgresql://u:${{file:secret}}@h:99999/x\n",
}  # fmt: skip


def everything_said(error: BaseException) -> str:
    """What a log, a page or a debugger could show of an error and of all that led to it."""
    said = [str(error), repr(error), "".join(traceback.format_exception(error))]
    below: BaseException | None = error
    while below is not None:
        said += [str(below), repr(below), repr(vars(below))]
        below = below.__cause__ or below.__context__
    return "\n".join(said)


@pytest.mark.parametrize("text", MISTAKES.values(), ids=MISTAKES.keys())
def test_no_secret_is_said_of_a_file(text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Around every kind of mistake, in the message, the repr, the traceback and what it was raised from."""
    monkeypatch.chdir(tmp_path)
    Path("secret").write_text(f"{CANARY}\n")
    Path("c.yaml").write_text(text)
    with pytest.raises(ConfigError) as caught:
        load(Path("c.yaml"), {})
    assert CANARY not in everything_said(caught.value)
    assert "1234" not in str(caught.value)


@pytest.mark.parametrize(
    "environ",
    [
        {"DATABASE_URL": f"postgresql://u:{CANARY}@h:99999/x"},
        {"DATABASE_URL": f"mysql://u:{CANARY}@h/x"},
        {"DATABASE_URL": CANARY},
        {"DATABASE_URL": f"postgresql://u:{CANARY}@h/x", "DATABASE_URL_FILE": "/x"},
        {"DATABASE_URL": "postgresql://h/x", "EXPORTER_TOKEN": CANARY, "EXPORTER_LISTEN": "x"},
        {"DATABASE_URL": "postgresql://h/x", "EXPORTER_LISTEN": CANARY},
        {"DATABASE_URL": "postgresql://h/x", "DB_POOL_SIZE": CANARY},
        {"REDIS_URL": f"redis://:{CANARY}@h/x"},
    ],
)
def test_no_secret_is_said_of_the_environment(environ: dict[str, str]) -> None:
    """The variables of an application hold its passwords."""
    with pytest.raises(ConfigError) as caught:
        load(None, environ)
    assert CANARY not in everything_said(caught.value)


def test_configuration_itself_shows_no_secret(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its repr is what ends up in a debug log."""
    monkeypatch.chdir(tmp_path)
    Path("c.yaml").write_text(
        f"web: {{token: {CANARY}}}\n{DB}    url: postgresql://u:{CANARY}@10.0.0.7/x?password={CANARY}\n    password: {CANARY}\n"
        f"  app: {{type: http, method: POST, url: 'http://u:{CANARY}@app/?k={CANARY}', headers: {{X: {CANARY}}}, body: {CANARY}}}\n"
        f"  app2: {{type: http, url: 'https://app/', bearer_token: {CANARY}}}\n"
    )
    configuration = load(Path("c.yaml"), {"EXPORTER_TOKEN": CANARY})
    assert len(configuration.warnings) == 3
    assert CANARY not in repr(configuration)
    assert CANARY not in repr([probe.server for probe in configuration.probes.values()])
    assert CANARY not in "".join(map(str, configuration.warnings))
