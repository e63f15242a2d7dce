"""Passwords and tokens, in addresses, in the environment and in texts, and how they are left out of all that is said.

What cannot be told from a password is left out as well: better a host that is not shown than a password that is.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterable, Iterator
from urllib.parse import quote, quote_plus, unquote, unquote_plus

HIDDEN = "***"
"""What stands in place of a secret."""
LEAST, LONG = 4, 8
"""Signs of a secret of the environment that is looked for in texts: shorter ones are in too many words, and from LONG
on one is also found within a word."""

ADDRESS = re.compile(r"([a-zA-Z][\w.+-]*)://")
OF_A_PARAMETER = re.compile(
    r"passw|passphrase|pwd|token|secret|credential|signature|key|auth|odbc_connect|(?<![a-z])(pass|sig|sas)(?![a-z])",
    re.I,
)
"""In the name of a query's parameter whose value is a secret."""
OF_A_VARIABLE = re.compile(
    r"(?<!^)(PASS|PWD|KEY|SAS|AUTH)$|(PASSWORD|PASSWD|PASSPHRASE|TOKEN|SECRET|CREDENTIALS?|CONNECTION_STRING)$", re.I
)
"""How the name of an environment variable ends whose value is a secret."""
NO_SECRETS = {"OLDPWD"}
WORDS = {"true", "false", "none", "null"}
"""Values that are no secrets, whatever the variable is called."""
SETTING = re.compile(
    r"""(?i)(?<![\w?&-])((["']?)[\w.-]*(?:passw|passphrase|pwd|secret|api_?key|account_?key|access_?key|token)[\w.-]*\2)"""
    r"""(?:(\s*=\s*)(?!\*\*\*)(?:"[^"\n]*"|'[^'\n]*'|[^\s;&,]+)|(\s*:\s*)(?:"[^"\n]*"|'[^'\n]*'))"""
)
"""`name=value`, `name='value'` or `'name': 'value'`, anywhere in a text."""
PARAMETER = re.compile(r"[?&#;]([^=&?#;\s]{1,80})=")
HEADER = re.compile(r"(?i)\b(Bearer|Authorization\W{1,6}\w+)\s+[\w.~+/=-]{4,}")


def without_password(text: str) -> str:
    """An address, or any text, without the passwords and tokens in it. Pages and logs are made to be passed on.

    Left out are: what the environment and the command line of this process say in secret, wherever it stands; of every
    address all that may be a password, and of http the user too, since some servers take a token for one; and the value
    of `name=value` where that is the name of a secret. Hosts, ports, paths and databases stay.
    """
    for secret in _known():
        whole = re.escape(secret)
        text = re.sub(whole if len(secret) >= LONG else rf"(?<!\w){whole}(?!\w)", HIDDEN, text)
    text = "".join(_without(part) for part in _parts(text))
    text = SETTING.sub(rf"\1\3\4{HIDDEN}", text)
    return HEADER.sub(rf"\1 {HIDDEN}", text)


def _parts(text: str) -> Iterable[str]:
    """The words of a text with the spaces between them; a text that begins as an address is one, spaces and all."""
    return [text] if ADDRESS.match(text) else re.split(r"(\s+)", text)


def _without(word: str) -> str:
    """A word without what may be secret in it."""
    shown, end = "", 0
    for start, stop in sorted(_spans(word)):
        if start >= end:
            shown += word[end:start] + HIDDEN
        end = max(end, stop)
    return shown + word[end:]


def _spans(word: str) -> Iterator[tuple[int, int]]:
    """From where to where a word is secret: they may overlap."""
    last = word.rfind("@")
    for address in ADDRESS.finditer(word):
        begin = address.end()
        authority = re.split(r"[/?#]", word[begin:], maxsplit=1)[0]
        colon = word.find(":", begin)
        if last < begin or word.startswith("/", begin) or re.match(r"\[[\da-fA-F:.%]*\](:\d+)?$", authority):
            pass  # no user, as of a file
        elif "@" in authority and address[1].lower() in ("http", "https"):
            yield begin, last
        elif 0 <= colon < last:
            yield colon + 1, last
    for found in PARAMETER.finditer(word):
        stop = word.find("&", found.end())
        value = word[found.end() : stop if stop >= 0 else len(word)]
        if value and (OF_A_PARAMETER.search(unquote_plus(found[1])) or _spans_any(unquote(value), value)):
            yield found.end(), found.end() + len(value)


def _spans_any(decoded: str, value: str) -> bool:
    """Whether a value, when it is decoded, is an address with a secret."""
    return decoded != value and "://" in decoded and any(True for _ in _spans(decoded))


def _known() -> list[str]:
    """The secrets of this process's environment and command line, as they may be written, the longest first."""
    found: set[str] = set()
    for name, value in os.environ.items():
        if OF_A_VARIABLE.search(name) and name not in NO_SECRETS and value.lower() not in WORDS:
            found.add(value)
    for text in (*os.environ.values(), *(re.sub(r"^--?[\w-]+=", "", word) for word in sys.argv)):
        if ADDRESS.match(text):
            found |= {text[start:stop] for start, stop in _spans(text)}
            found |= {text[start:stop].partition(":")[2] for start, stop in _spans(text)}  # of user:password
    found |= {unquote(secret) for secret in found}
    found |= {way(secret) for secret in found for way in (quote, quote_plus)} | {repr(secret)[1:-1] for secret in found}
    return sorted((secret for secret in found if len(secret) >= LEAST and secret != HIDDEN), key=len, reverse=True)
