"""What secrets look like: tokens of well-known services, keys, headers, URLs with credentials, words of commands, and
values of names that tell."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterator
from functools import cache

# The name of a secret, what a text has in lower case where it may be there, and its shape.
SHAPES = (
    (
        "PRIVATE_KEY",
        ("private key-----", "private key block-----"),
        # Of one that was cut, either half.
        r"(?:-----BEGIN [A-Z ]*PRIVATE KEY(?: BLOCK)?-----|\A[A-Za-z0-9+/=\s]*(?=-----END [A-Z ]*PRIVATE KEY)).*?"
        r"(?:-----END [A-Z ]*PRIVATE KEY(?: BLOCK)?-----|\Z)",
    ),
    ("AGE_SECRET_KEY", ("age-secret-key-",), r"\bAGE-SECRET-KEY-1[0-9A-Z]{40,}"),
    ("AWS_ACCESS_KEY", ("akia", "asia"), r"\b(?:AKIA|ASIA)[0-9A-Z]{16}\b"),
    (
        "GITHUB_TOKEN",
        ("ghp_", "gho_", "ghu_", "ghs_", "ghr_", "github_pat_"),
        r"\b(?:gh[pousr]_[A-Za-z0-9]{30,}|github_pat_[A-Za-z0-9_]{30,})",
    ),
    (
        "GITLAB_TOKEN",
        ("glpat-", "glptt-", "gldt-", "glrt-", "glcbt-", "glft-", "glsoat-", "gloas-", "glimt-", "glagent-"),
        r"\bgl[a-z]{2,5}-[A-Za-z0-9_-]{20,}",
    ),
    ("BITBUCKET_TOKEN", ("atbb", "atatt", "atctt"), r"\bAT(?:BB|ATT|CTT)[A-Za-z0-9_=-]{24,}"),
    (
        "SLACK_TOKEN",
        ("xox", "xapp-", "hooks.slack.com"),
        r"\b(?:xox[a-z]|xapp)-[A-Za-z0-9-]{10,}|https://hooks\.slack\.com/services/\S+",
    ),
    ("GOOGLE_API_KEY", ("aiza",), r"\bAIza[0-9A-Za-z_-]{35}"),
    ("GOOGLE_TOKEN", ("ya29.", "gocspx-"), r"\b(?:ya29\.[0-9A-Za-z_-]{20,}|GOCSPX-[0-9A-Za-z_-]{20,})"),
    ("PYPI_TOKEN", ("pypi-",), r"\bpypi-[A-Za-z0-9_-]{40,}"),
    ("NPM_TOKEN", ("npm_",), r"\bnpm_[A-Za-z0-9]{30,}"),
    ("HUGGINGFACE_TOKEN", ("hf_",), r"\bhf_[A-Za-z0-9]{30,}"),
    ("API_KEY", ("sk-", "sk_", "rk_"), r"\bsk-[A-Za-z0-9_-]{20,}|\b[rs]k_(?:live|test)_[A-Za-z0-9]{16,}"),
    ("DOCKER_TOKEN", ("dckr_",), r"\bdckr_[a-z]{3}_[A-Za-z0-9_-]{20,}"),
    ("DATABRICKS_TOKEN", ("dapi",), r"\bdapi[0-9a-f]{32}\b"),
    ("DIGITALOCEAN_TOKEN", ("_v1_",), r"\bdo[opr]_v1_[0-9a-f]{40,}"),
    ("SENDGRID_API_KEY", ("sg.",), r"\bSG\.[A-Za-z0-9_-]{16,}\.[A-Za-z0-9_-]{16,}"),
    ("SHOPIFY_TOKEN", ("shpat_", "shpca_", "shppa_", "shpss_"), r"\bshp(?:at|ca|pa|ss)_[0-9a-fA-F]{32}"),
    ("GRAFANA_TOKEN", ("glsa_", "glc_"), r"\bgl(?:sa|c)_[A-Za-z0-9+/=_]{32,}"),
    ("VAULT_TOKEN", ("hvs.", "hvb.", "hvr."), r"\bhv[sbr]\.[A-Za-z0-9_-]{20,}"),
    ("LINEAR_API_KEY", ("lin_api_",), r"\blin_api_[A-Za-z0-9]{30,}"),
    ("TELEGRAM_TOKEN", (":aa",), r"\b\d{8,10}:AA[A-Za-z0-9_-]{33}"),
    ("JWT", ("eyj",), r"\beyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]*"),
    ("URL_PASSWORD", ("://",), r"(?<=://)(?P<before>[^\s/@:'\"]*:)(?P<value>[^\s/'\"]+)(?=@)"),
    ("URL_TOKEN", ("http",), r"(?:(?<=https://)|(?<=http://))(?P<value>[^\s/@:'\"]{20,})(?=@)"),
    (
        "URL_SIGNATURE",
        ("sig=", "signature="),
        r"(?i:(?P<before>[?&](?:sig|signature|x-amz-signature|x-goog-signature)=)(?P<value>[A-Za-z0-9%+/=_-]{16,}))",
    ),
    (
        "AUTHORIZATION",
        ("authorization",),
        # Without a scheme only what has a digit: "authorization: required".
        r"(?i:(?P<before>\bauthorization\\?[\"']?[ \t]*[:=][ \t]*\\?[\"']?"
        r"(?P<scheme>(?:bearer|basic|token|apikey|api-key|digest|negotiate|key)[ \t]+)?))"
        r"(?P<value>(?(scheme)[^\s\"',;\\]{6,}|(?=[^\s\"',;\\\d]{0,200}\d)[^\s\"',;\\]{8,}))",
    ),
    (
        "AUTHORIZATION",
        ("bearer",),
        r"(?i:(?P<before>\bbearer[ \t]+))(?P<value>(?=[^\s\"',;\d]{0,200}\d)[\w+/.~=-]{12,}|[\w+/.~=-]{24,})",
    ),
    ("LOGIN", ("basic",), r"(?i:(?P<before>\bbasic[ \t]+))(?P<value>[A-Za-z0-9+/]{8,}={0,2})"),
    (
        "COOKIE",
        ("cookie",),
        r"(?i:(?P<before>\bcookie\\?[\"']?[ \t]*[:=][ \t]*\\?[\"']?))(?P<value>[^\s\"'=;\\]+=[^\"'\n\\]+)",
    ),
    # .netrc, where it may have a line of its own
    ("PASSWORD", ("machine ",), r"(?P<before>\blogin\s+\S+\s+password\s+)(?P<value>\S+)"),
    ("PASSWORD", ("machine ",), r"(?m:(?P<before>^[+ -]?[ \t]*password[ \t]+)(?P<value>\S+)(?=[ \t]*$))"),
    (
        "PASSWORD",  # of requests: `auth=("ada", "X")`
        ("auth=(", "auth = (", "basicauth(", "digestauth("),
        r"(?i:(?P<before>\b(?:auth[ \t]?=[ \t]?|(?:basic|digest)auth)\(\s*\\?[\"'][^\"'\n]*[\"'],\s*\\?[\"']))"
        r"(?P<value>[^\"'\n\\]+)",
    ),
    (
        "AUTH",  # of Docker and npm
        ('auth"', "auth'", "auth\\", "auth=", "auth:", "auth ="),
        r"(?P<before>(?<![\w.-])_?auth\\?[\"']?[ \t]*[:=][ \t]*\\?[\"']?)"
        r"(?P<value>(?=[^\s\"',;\\\d]{0,200}[\d=])[A-Za-z0-9+/_-]{8,}={0,2}(?![\w(.]))",
    ),
    (
        "PASSWORD",
        ("password '", "identified by '"),
        r"(?i:(?P<before>\b(?:password|identified by) '))(?P<value>(?![{%$])[^'\n]+)",  # SQL
    ),
)
# Words of well-known programs that do not tell: a secret follows, or is the rest of the word.
FLAGS: dict[str, tuple[str, ...]] = {
    "aws": ("aws_secret_access_key", "aws_session_token"),
    "curl": ("-u", "--user", "-U", "--proxy-user", "--oauth2-bearer"),
    **dict.fromkeys(("docker", "podman", "ssh", "scp"), ()),
    **dict.fromkeys(("docker login", "podman login", "sshpass"), ("-p",)),
    **dict.fromkeys(("http", "https"), ("-a", "--auth")),
    **dict.fromkeys(("ldapsearch", "ldapadd", "ldapmodify"), ("-w",)),
    "lftp": ("-u", "--user"),
    **dict.fromkeys(("mongo", "mongosh", "mongodump", "mongorestore", "mongoimport", "mongoexport"), ("-p",)),
    "openssl": ("-pass", "-passin", "-passout"),
    "redis-cli": ("-a",),
    "smbclient": ("-U", "--user"),
    **dict.fromkeys(("vault", "wandb"), ("login",)),
    **dict.fromkeys(("zip", "unzip"), ("-P",)),
}
FLAGS_OF_THE_REST: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(("mysql", "mysqldump", "mysqladmin", "mysqlimport", "mariadb", "mariadb-dump"), ("-p",)),
    **dict.fromkeys(("7z", "7za", "7zz", "rar", "unrar"), ("-p", "-hp")),
}
PROGRAMS = {*FLAGS, *FLAGS_OF_THE_REST}
BEHIND = {"lftp": ",", "openssl": "pass:", "smbclient": "%"}  # what is secret of the word begins there
# A command in a text, to the end of it or of its line.
COMMAND = (
    rf"(?<![\w.-])(?P<program>{'|'.join(sorted(PROGRAMS, key=len, reverse=True))})[\"']?(?=[ \t,])"
    r"(?P<rest>(?:\"[^\"\n]*\"|'[^'\n]*'|\\\r?\n|[^\n|;&\"'])*)"
)
COMMAND_HINTS = (" -", "'-", '"-', "login ", "login'", 'login"', "aws_se")
# With its quotes.
SHELL_WORD = r"((?:\"[^\"\n]*\"|'[^'\n]*'|[^\s\"'])+)"
# Names of secrets with what stands between them and their value; the value's beginning is the match's end. First what a
# text has in lower case where one may be.
_HINTS = ("pass", "pw", "secret", "token", "credential", "key")
ASSIGNMENTS = (
    # From the word that tells on, since a key's beginning is found faster backwards; its first letter as a set, since
    # a search through megabytes then takes a third of the time. `os.environ["TOKEN"] = …`, `f(password: str = …)`
    (
        _HINTS,
        r"(?P<key>[PpSsTtCcKk](?i:(?<=p)ass|(?<=p)w|(?<=s)ecret|(?<=t)oken|(?<=c)redential|(?<=k)ey)[\w.-]{0,64})"
        r"(?<!\$\{SECRET)"  # of a placeholder
        r"\\{0,2}[\"']?\]{0,2}"
        r"(?P<type>(?::[ \t]*|[ \t]+)(?:Optional\[|&)?(?:str|bytes|[Ss]tring|SecretStr|Final|Any)\b"
        r"[^=:\"'\n]{0,40}(?==))?"
        r"[ \t]*(?P<sign>[:?]?=(?![=>])|:(?![:=])|[!=]=|=>|<{1,2}-(?!-))[ \t]*",
    ),
    # `--password X` in a command or a list of words, and `add_argument("--password", …, default="X")`.
    (
        (*_HINTS, "-auth"),
        r"(?P<key>(?:(?<![\w\n-])-|(?<=\n)-(?=-))-?(?=[A-Za-z])[\w.-]{0,40}?(?i:pass|pw|secret|token|credential|key|auth)[\w.-]{0,40})"
        r"(?:(?P<flag>[ \t]+)|\\{0,2}[\"']\)?[ \t]*,(?:[^()]{0,200}?\bdefault[ \t]*=|)[ \t]*(?=\\{0,2}[\"']))",
    ),
    (
        ("setdefault(", "getenv(", "environ.get(", "setenv(", "putenv("),
        r"\b(?:setdefault|getenv|environ\.get|setenv|putenv)\(\s*\\{0,2}[\"'](?P<key>[\w.-]{1,64})"
        r"\\{0,2}[\"'][ \t]*,[ \t]*(?=\\{0,2}[\"'])",
    ),
    # `<add key="Password" value="X"/>`, and a name and a value in two lines of YAML.
    (
        ("value",),
        r"(?i:\b(?:name|key)\\{0,2}[\"']?[ \t]*[:=][ \t]*\\{0,2}[\"']?(?P<key>[\w.-]{1,64})\\{0,2}[\"']?[ \t]*,?"
        r"[\s+-]{0,60}\\{0,2}[\"']?\bvalue\\{0,2}[\"']?[ \t]*[:=][ \t]*)",
    ),
)
# A key of YAML whose value, or whose list of values, begins in the next line; in a patch each line has a sign.
NEXT_LINE = (
    r"(?m:^[+ -]?[ \t]*(?:-[ \t]+)?[\"']?(?P<key>[\w.-]{1,64})[\"']?:[ \t]*(?:[|>][+-]?[ \t]*)?\r?\n)"
    r"(?=[+-]?(?:[ \t]|-[ \t]))"
)
_LINE = r"(?P<lead>[+-]?[ \t]*(?:-[ \t]+)?)(?P<quote>[\"']?)(?P<value>[^\s\"'#][^\s\"']*)(?P=quote)[ \t]*\r?(?:\n|\Z)"
_ALL_HINTS = (hint for hints in (*(one[1] for one in SHAPES), *(one[0] for one in ASSIGNMENTS)) for hint in hints)
ALL_HINTS = tuple(dict.fromkeys((*_ALL_HINTS, *COMMAND_HINTS)))
_IN_QUOTES = r"(?P<quote>\"\"\"|\'\'\'|\\{0,2}[\"'])(?P<quoted>(?:(?!(?P=quote))(?:\\.|[^\n\\]))+)"
_QUOTED = rf"(?P<list>[(\[][\s+-]{{0,60}})?[bBrRuU@]?{_IN_QUOTES}"
_NEXT_IN_LIST = rf"\\{{0,2}}[\"']{{1,3}}[ \t]*,[\s+-]{{0,60}}{_IN_QUOTES}"
_PLAIN = r"\[(?P<list>[^\[\]\n]*)\]|[^\s\"',;&][^\s,;&]*"
_WORD = r"[^\s,]+"
_PLAIN_BEHIND = {"=", ":", ":=", "?="}  # the others only compare, or assign a name
_CLOSING = ")]}>.:\\"
_QUOTES = "\"'`"
# "pwd: cannot …", "unexpected token: end": a program speaks, and names no value. Then what we say of a patch's files.
_PROSE = (
    r"(?i:pwd|token): [a-z']{3,} [a-z']+"
    r"|[\w.-]+: (?:named like a secret|a secret in a |[\d,]+ bytes\b|it cannot be read|no regular file"
    r"|a (?:repository|submodule) |there are more than )"
)
# `None`, `ask()`, `$PASSWORD`, `%s`, `{token}`, `***`, and the names of other secrets: `args.password`.
_EXPRESSION = (
    r"(?:None|True|False|null|true|false|str|int|bytes|bool|object)\b|[A-Za-z_][\w.]{0,200}[(\[]|[$%{<*|]|\.\.\."
    r"|[a-z_.]{0,100}(?:password|passwd|pwd|secret|token|credentials?|key)[)\]}:.\"'`\\]*(?=[\s,;&]|\Z)"
)
# Behind a flag in a text: the sentence goes on, or a usage says what kind of word is to follow.
_NO_VALUE = (
    r"(?i:an?|and|are|arguments?|as|at|be|but|by|can|cannot|does|expect(?:s|ed)|flag|for|from|has|if|in|instead|is|it|may"
    r"|must|needs|not|of|on|only|option|or|parameter|required|requires|should|str|string|text|that|the|then|to|value|was"
    r"|when|where|which|will|with|would|you|your)"
)
_METAVARIABLE = r"[A-Z_]*(?:PASS|PASSWORD|PASSWD|SECRET|TOKEN|CREDENTIALS?|KEY|AUTH)[A-Z_]*[\])]*"
# `$USER:$PASSWORD`, `<user>:<password>`: whoever runs it says what it is.
_VARIABLE = r"(?s:(?:[^\s:%,]*[:%,])?(?:\$\w+|\$?\{[^{}]*\}|\$\(.*|<[^<>]*>|%s|\*+|\.\.\.))"


def values_of(match: re.Match[str], *, is_code: bool) -> Iterator[tuple[int, int]]:
    """The values behind what one of ASSIGNMENTS found; none where an expression stands, or prose.

    In code only what stands in quotes is a value.
    """
    text, at = match.string, match.end()
    is_flag = match["key"].startswith("-")
    quoted = re.compile(_QUOTED).match(text, at)
    if quoted and not (is_flag and _is_no_value(quoted["quoted"], is_code)):
        item: re.Match[str] | None = quoted
        while item:
            yield item.span("quoted")
            item = re.compile(_NEXT_IN_LIST).match(text, item.end()) if quoted["list"] else None
    # What is no value may be long, and is looked through for others: so that is found by its beginning.
    if (
        quoted
        or not _may_be_plain(match, is_code)
        or re.compile(_EXPRESSION).match(text, at)
        or re.compile(_PROSE).match(text, match.start())
        or text.startswith(_system_errors(), at)
    ):
        return
    plain = re.compile(_PLAIN).match(text, at)
    for word in re.compile(_WORD).finditer(text, *plain.span("list" if plain["list"] else 0)) if plain else ():
        if not (is_flag and _is_no_value(word[0], is_code)):
            yield word.start(), word.start() + len(_without_closing(word[0]))


@cache
def _system_errors() -> tuple[str, ...]:
    """What the system says behind a file's name: `db_password: No such file or directory`."""
    return tuple(os.strerror(number) for number in errno.errorcode)


def values_below(match: re.Match[str]) -> Iterator[tuple[int, int]]:
    """The values in the lines below what NEXT_LINE found: the first, and those that begin as it does."""
    line = first = re.compile(_LINE).match(match.string, match.end())
    while line and first and len(line["lead"]) == len(first["lead"]) and not line["value"].endswith(":"):
        if not re.compile(_EXPRESSION).match(line["value"]):
            yield line.span("value")
        line = re.compile(_LINE).match(match.string, line.end())


def is_variable(word: str) -> bool:
    """Whether a word of a command only says where the secret comes from."""
    return re.compile(_VARIABLE).fullmatch(word) is not None


def _may_be_plain(match: re.Match[str], is_code: bool) -> bool:
    groups = match.groupdict()
    is_assigned = not is_code and not groups.get("type") and groups.get("sign", "=") in _PLAIN_BEHIND
    return bool(groups.get("flag")) or is_assigned


def _is_no_value(word: str, is_code: bool) -> bool:
    bare = word.rstrip(".,:;)]'\"")
    if is_code:  # `option("--token", "api_token")`
        bare = bare.upper()
    return word.startswith("-") or re.fullmatch(f"{_NO_VALUE}|{_METAVARIABLE}", bare) is not None


def _without_closing(plain: str) -> str:
    """Without the quote that ends the text around it, and what follows that: `"password=x"}`."""
    end = len(plain.rstrip(_CLOSING + _QUOTES))
    quotes = [place for place in range(end, len(plain)) if plain[place] in _QUOTES]
    return plain[: quotes[0]].rstrip("\\") if quotes else plain


def is_login(text: str) -> bool:
    """Whether it is the Base64 of `user:password`."""
    from base64 import b64decode

    try:
        return b":" in b64decode(text, validate=True)
    except ValueError:
        return False
