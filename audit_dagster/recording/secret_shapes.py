"""What secrets look like in a text: the tokens of well-known services, keys, headers, and URLs with credentials."""

from __future__ import annotations

import re

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
    ("PASSWORD", ("machine ",), r"(?P<before>\blogin\s+\S+\s+password\s+)(?P<value>\S+)"),  # .netrc
    (
        "PASSWORD",
        ("password '", "identified by '"),
        r"(?i:(?P<before>\b(?:password|identified by) '))(?P<value>(?![{%$])[^'\n]+)",  # SQL
    ),
)
ASSIGNED_HINTS = ("pass", "pwd", "secret", "token", "credential", "key")
ALL_HINTS = (*ASSIGNED_HINTS, *(hint for _, hints, _ in SHAPES for hint in hints))
# From the word that tells on, since a key's beginning is found faster backwards; its first letter as a set, since
# a search through megabytes then takes a third of the time.
ASSIGNED = (
    r"(?P<before>(?P<key>[PpSsTtCcKk](?i:(?<=p)ass|(?<=p)wd|(?<=s)ecret|(?<=t)oken|(?<=c)redential|(?<=k)ey)"
    r"[\w.-]{0,64})\\{0,2}[\"']?[ \t]*[=:][ \t]*)"
    r"(?:(?P<quote>\\{0,2}[\"'])(?P<quoted>[^\"'\n\\]+)|(?P<plain>[^\s\"',;&][^\s,;&]*))"
)
# "pwd: cannot …", "unexpected token: end": a program speaks, and names no value.
_PROSE = r"(?i:pwd|token): [a-z']{3,} [a-z']+"
# `None`, `ask()`, `$PASSWORD`, `%s`, `{token}`, `***`, and the names of other secrets: `args.password`.
_EXPRESSION = (
    r"(?s:(?:None|True|False|null|true|false|str|int|bytes|bool|object)\b.*|[A-Za-z_][\w.]*[(\[].*|[$%{<*|].*|\.\.\..*"
    r"|[a-z_.]*(?:password|passwd|pwd|secret|token|credentials?|key)[)\]}:.]*)"
)


def is_expression(match: re.Match[str], value: str) -> bool:
    """Whether what `ASSIGNED` found, without quotes, is no value but names one, or is prose."""
    return bool(re.fullmatch(_EXPRESSION, value) or re.compile(_PROSE).match(match.string, match.start()))


def is_login(text: str) -> bool:
    """Whether it is the Base64 of `user:password`."""
    from base64 import b64decode

    try:
        return b":" in b64decode(text, validate=True)
    except ValueError:
        return False
