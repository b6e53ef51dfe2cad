"""Secrets never reach the spool: found by key, by shape, and then by value wherever they turn up again."""

from __future__ import annotations

import json
import time

import pytest

from audit_dagster.recording.redact import Redactor, is_secret_file, is_secret_name
from audit_dagster_tests.conftest import REAL_LOGS, needs_real_logs


@pytest.mark.parametrize(
    "name",
    [
        "password",
        "db_password",
        "DBPASSWORD",
        "--api-key",
        "apiKey",
        "X-Auth-Token",
        "AWS_SECRET_ACCESS_KEY",
        "client_secret",
        "DB_PASS",
        "--pass",
        "app_key",
        "passcode",
        "auth",
        "db_pw",
        "api_tokens",
    ],
)
def test_names_of_secrets(name: str) -> None:
    assert is_secret_name(name)


@pytest.mark.parametrize(
    "name",
    [
        "author",
        "tokens",
        "token_count",
        "keyboard",
        "password_file",
        "token_url",
        "secret_id",
        "project",
        "low_pass",
        "pass",
        "passed",
        "primary_key",
        "bypass",
        "pw",
        "SSH_AUTH_SOCK",
        "",
    ],
)
def test_names_of_no_secrets(name: str) -> None:
    assert not is_secret_name(name)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("postgresql://ada:pa55@db/x", "postgresql://ada:${SECRET:URL_PASSWORD}@db/x"),
        ("host=db password=s3cr3t user=ada", "host=db password=${SECRET:PASSWORD} user=ada"),
        ('{"api_key": "a b c", "n": 1}', '{"api_key": "${SECRET:API_KEY}", "n": 1}'),
        ("Authorization: Bearer abcdefgh.ijk", "Authorization: Bearer ${SECRET:AUTHORIZATION}"),
        (f"use ghp_{'a' * 36}!", "use ${SECRET:GITHUB_TOKEN}!"),
        ("error: password=x, token: y", "error: password=${SECRET:PASSWORD}, token: ${SECRET:TOKEN}"),
        ("-----BEGIN RSA PRIVATE KEY-----\nabc\n-----END RSA PRIVATE KEY-----", "${SECRET:PRIVATE_KEY}"),
        ("pwd: cannot stat token: unexpected end", "pwd: cannot stat token: unexpected end"),
        ("${SECRET:TOKEN} stays", "${SECRET:TOKEN} stays"),
        ("the tokens: 15; see https://example.org/a@b", "the tokens: 15; see https://example.org/a@b"),
    ],
)
def test_texts(text: str, shown: str) -> None:
    assert Redactor({}).text(text) == shown
    assert Redactor({}).text(shown) == shown


def test_argv() -> None:
    words = [
        "tool",
        "--password",
        "abcdef",
        "--api-key=ghijkl",
        "TOKEN=mnopqr",
        "--user",
        "ada",
        "abcdef",
        "--token",
        "--x",
    ]
    assert Redactor({}).argv(words) == [
        "tool",
        "--password",
        "${SECRET:PASSWORD}",
        "--api-key=${SECRET:API_KEY}",
        "TOKEN=${SECRET:TOKEN}",
        "--user",
        "ada",
        "${SECRET:PASSWORD}",
        "--token",
        "--x",
    ]


def test_values_are_found_again_and_the_environment_is_known() -> None:
    redactor = Redactor({"DB_PASSWORD": "hunter22", "PWD": "/home/ada"})
    value = {"deep": [{"client_secret": 12345678}], "credentials": {"user": "ada", "pin": 9}, "home": "/home/ada"}
    assert redactor.value(value) == {
        "deep": [{"client_secret": "${SECRET:CLIENT_SECRET}"}],
        "credentials": {"user": "${SECRET:CREDENTIALS}", "pin": "${SECRET:CREDENTIALS}"},
        "home": "/home/ada",
    }
    assert redactor.text("login with hunter22 or 12345678 failed") == (
        "login with ${SECRET:DB_PASSWORD} or ${SECRET:CLIENT_SECRET} failed"
    )


@pytest.mark.parametrize(
    "text",
    [
        "Compute basic statistics of temperature",
        "Basic analysis-2023 by the bearer instruments",
        "authorization: required; cookie: a small cake",
        "token = ask(); secret: str | None = None; password=args.password; password=None",
        "Enter the password:\nDone",
        "primary key: id, foreign_key = site_id, sort key: time",
        "https://example.org:8080/a@b and ssh://git@example.org/x.git",
        "$PASSWORD, password=$PASSWORD, password=%s, token={token}, --password=***",
        "asia-southeast1, desk-abcdefghijklmnopqrstuvwxyz, the eye of Jupiter",
    ],
)
def test_texts_without_secrets(text: str) -> None:
    assert Redactor({}).text(text) == text


@needs_real_logs
def test_real_logs_have_none() -> None:
    logs = [path for path in REAL_LOGS.rglob("*") if path.is_file()]
    assert len(logs) >= 39
    for path in logs:
        text = path.read_text("utf-8", "replace")
        assert Redactor({}).text(text) == text, path.name


def test_in_code_only_what_stands_in_quotes_is_a_value() -> None:
    text = "token = Token\npassword: Secret = field()\nkey = api_key\n"
    assert Redactor({}).text(text, is_code=True) == text
    assert Redactor({}).text("password = 'hunter22'", is_code=True) == "password = '${SECRET:PASSWORD}'"


@pytest.mark.parametrize(
    ("words", "shown"),
    [
        (["/usr/bin/curl", "-u", "ada:hunter22", "x"], ["/usr/bin/curl", "-u", "${SECRET:PASSWORD}", "x"]),
        (["curl", "-uada:hunter22"], ["curl", "-u${SECRET:PASSWORD}"]),
        (["mysql", "-phunter22", "-p", "lab"], ["mysql", "-p${SECRET:PASSWORD}", "-p", "lab"]),
        (["docker", "run", "-u", "1000:1000"], ["docker", "run", "-u", "1000:1000"]),
        (["tool", "--pin", "1234", "1234", "--pin=5", "--n=1234"], None),
        (["tool", "x?token=hunter22&n=1", "--set=db.password=hunter23"], None),
    ],
)
def test_argv_of_well_known_programs_and_of_named_secrets(words: list[str], shown: list[str] | None) -> None:
    expected = {
        "--pin": ["tool", "--pin", "${SECRET:PIN}", "${SECRET:PIN}", "--pin=${SECRET:PIN}", "--n=1234"],
        "x?token=hunter22&n=1": ["tool", "x?token=${SECRET:TOKEN}&n=1", "--set=db.password=${SECRET:DB_PASSWORD}"],
    }
    assert Redactor({}, ["pin"]).argv(words) == (shown or expected[words[1]])


def test_what_only_the_end_tells_is_replaced_before_it() -> None:
    form = {"note": "used hunter22", "number": 12345678, "error": "password=hunter22 token=12345678", "PIN": [1, "x"]}
    assert Redactor({}, ["pin"]).form(form) == {
        "note": "used ${SECRET:PASSWORD}",
        "number": "${SECRET:TOKEN}",
        "error": "password=${SECRET:PASSWORD} token=${SECRET:TOKEN}",
        "PIN": ["${SECRET:PIN}", "${SECRET:PIN}"],
    }


def test_environments() -> None:
    redactor = Redactor({"DATABASE_URL": "postgresql://ada:hunter22@db/x", "EMPTY_TOKEN": "", "USE_TOKEN": "1"})
    assert redactor.argv(["tool", "", "1", "hunter22"]) == ["tool", "", "1", "${SECRET:URL_PASSWORD}"]
    redactor.learn({"LATE_PASSWORD": 'with "quotes" \\'})
    written = json.dumps({"x": 'with "quotes" \\'})
    assert redactor.text(written) == '{"x": "${SECRET:LATE_PASSWORD}"}'


IN_TEXTS = r"""
curl --user=ada:planted http://x; echo --password planted
bash -c 'curl -su "ada:planted" http://x'
ssh host "mysql -pplanted -u root"
ssh host "mysql -p'planted' -u root"
Command '['tool', '--password', 'planted']' returned non-zero exit status 1.
Command '['curl', '-u', 'ada:planted', 'http://x']' returned non-zero exit status 1.
sudo docker login -u ada -p planted registry
docker exec db mysql -pplanted
curl -s \\n -u ada:planted http://x
mongo -p planted
zip -rP planted a.zip b
7z a -pplanted x.7z
smbclient -U ada%planted //x
lftp -u ada,planted sftp://x
openssl enc -aes -pass pass:planted -in x
curl --oauth2-bearer planted http://x
vault login -no-print planted
wandb login planted
aws configure set aws_secret_access_key planted
password:\n  planted\n
passwords:\n  - planted\n  - planted2\n
 password:\n-  planted\n+  planted2\n
passwords: [planted, planted2]
- name: DB_PASSWORD\n  value: planted\n
machine x\n  password planted\n
+machine x\n+  login ada\n+  password planted\n
"auth": "cGxhbnRlZDp4OnkK1planted"
primary key: password=planted
echo '{"connection": "password=planted"}'
"""
IN_CODE = r"""
db_password <- "planted"
db_password<<-'planted'
os.environ["API_TOKEN"] = "planted"
"os.environ[\"API_TOKEN\"] = \"planted\"\\n",
os.environ.setdefault("API_TOKEN", "planted")
def f(password: str = "planted"):
PASSWORD = ("planted")
PASSWORDS = [\n+    "planted",\n+    "planted2",\n+]
PASSWORD = b'''planted'''
password = "it is; planted"
if password == "planted":
password := "planted"
'password' => 'planted'
add_argument("-p", "--password", help="x", default="planted")
requests.get(url, auth=("ada", "planted"))
<add key="Password" value="planted"/>
"""


def cases(text: str) -> list[str]:
    """A line each, in which `\\n` is a new line, unless it is one of JSON."""
    return [line.replace("\\n", "\n").replace("\\\n", "\\\\n") for line in text.strip().splitlines()]


CASES = [*((text, False) for text in cases(IN_TEXTS) + cases(IN_CODE)), *((text, True) for text in cases(IN_CODE))]


@pytest.mark.parametrize(("text", "is_code"), CASES)
def test_wherever_it_stands(text: str, is_code: bool) -> None:
    shown = Redactor({}).text(text, is_code=is_code)
    assert "planted" not in shown
    assert "${SECRET:" in shown
    assert Redactor({}).text(shown, is_code=is_code) == shown
    assert [shown.count(mark) for mark in "'\"()[]\n"] == [text.count(mark) for mark in "'\"()[]\n"], "it runs again"


@pytest.mark.parametrize(
    "text",
    [
        "usage: x [-h] [--password PASSWORD] [--token TOKEN] [--n N]",
        "  -p, --password TEXT   The password",
        "the following arguments are required: --token; --password to log in, --api-key <key>, --token $TOKEN",
        'columns = ["token", "lemma", "pos"]; config.get("secrets", "path")',
        'add_argument("--token-count", default="5")\nadd_argument("--password", "-p", required=True)',
        "the pw = 5 and the pulse's pw: 3, author: Ada, auth: required",
        "services:\n  password:\n    from: vault\nsecrets:\n  db_password:\n    file: x\n",
        'curl -u "$USER:$PW" http://x; openssl enc -pass file:x; smbclient -U ada //x; mysql -u root -p lab',
        "docker run -p 8080:80 -u 1000:1000 image; ssh -p 2222 host; tool --format png -p 5",
        "if token == other: use std::token::Token; password != None; low_pass <- 3; token <- ask()",
        "def f(token: str = None, secret: Optional[str] = None)",
        ".aws/credentials: named like a secret; db_password: 1,000,000 bytes",
        "token.txt: it cannot be read: Permission denied",
        "cat: db_password: No such file or directory",
        "cat: config/token: No such file or directory\nbash: ./make_token: Permission denied",
        "ls: cannot access /mnt/credentials: Stale file handle; fatal: Password: No such device or address",
    ],
)
def test_texts_about_secrets(text: str) -> None:
    assert Redactor({}).text(text) == text
    assert Redactor({}).text(text, is_code=True) == text


@pytest.mark.parametrize(
    ("words", "place", "shown"),
    [
        (["sudo", "-u", "root", "mysql", "-pX"], 4, "-p${SECRET:PASSWORD}"),
        (["env", "curl", "-u", "a:X"], 3, "${SECRET:PASSWORD}"),
        (["curl", "--user=a:X", "http://x/zip"], 1, "--user=${SECRET:PASSWORD}"),
        (["curl", "-o", "zip", "-u", "a:X"], 4, "${SECRET:PASSWORD}"),
        (["ssh", "host", "mysql -pX"], 2, "mysql -p${SECRET:PASSWORD}"),
        (["sshpass", "-p", "X", "ssh", "-p", "2222"], 5, "2222"),
        (["smbclient", "-Uada%X"], 1, "-Uada%${SECRET:PASSWORD}"),
        (["vault", "login", "-no-print", "X"], 3, "${SECRET:PASSWORD}"),
    ],
)
def test_argv_behind_other_programs(words: list[str], place: int, shown: str) -> None:
    made = Redactor({}).argv(words)
    assert made[place] == shown
    assert not any("X" in word.replace("${SECRET:PASSWORD}", "") for word in made)


def test_a_short_secret_of_the_command_is_no_parameter() -> None:
    redactor = Redactor({})
    redactor.argv(["curl", "--user=a:X"])
    form = {"tool_name": "a:X", "parameters": {"user": "a:X", "n": 3, "file": "a"}}
    assert redactor.form(form) == {
        "tool_name": "a:X",
        "parameters": {"user": "${SECRET:PASSWORD}", "n": 3, "file": "a"},
    }


def test_files_of_secrets() -> None:
    secret = (
        ".envrc prod.env db_password.txt token.txt kubeconfig secrets.yaml .netrc .git-credentials .Renviron api_key"
    )
    other = "tokens.txt token_count.txt environment.txt password.py tokenizer.json keys.csv low_pass.txt"
    assert [name for name in secret.split() if not is_secret_file(name)] == []
    assert [name for name in other.split() if is_secret_file(name)] == []


LONG = ["authorization:", "bearer ", "password=", 'password="', "cookie=a=", "?sig=", "-----BEGIN PRIVATE KEY-----"]
LONG += [
    "curl -u ",
    "curl '",
    "mysql \"'",
    "--password ",
    '"--token", ',
    "password=$(",
    "password = (",
    "password: [a,",
]
LONG += [
    "password:\n  - x\n",
    "  - x\n",
    'setdefault("token", "',
    "name: token value: ",
    "token: str ",
    "key: password=",
]


@pytest.mark.parametrize("text", [text * (200_000 // len(text)) for text in LONG])
def test_no_repetition_takes_long(text: str) -> None:
    began = time.monotonic()
    Redactor({}).text(text)
    assert time.monotonic() - began < 2


@pytest.mark.parametrize("text", ["x" * 200_000, "://" * 60_000, "eyJ" * 60_000, "password" * 20_000, "a=" * 100_000])
def test_no_text_takes_long(text: str) -> None:
    began = time.monotonic()
    Redactor({}).text(text)
    assert time.monotonic() - began < 2
