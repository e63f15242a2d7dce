"""Passwords and tokens come out in nothing that is said, wherever they stand; hosts and databases stay readable."""

from __future__ import annotations

import string
import sys
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from cifar_ablations.ablations.secrets import HIDDEN, without_password

SIGNS = string.ascii_letters + string.digits + "@:/?#[]!$&'()*+,;=%\"\\.~^|{}<>-_äß密é"
MARK = "geheim"
"""Within each secret, so that a part of one that comes out is seen too."""


@pytest.fixture(autouse=True)
def nothing_known(monkeypatch: pytest.MonkeyPatch) -> None:
    """What stands in a text alone must do."""
    monkeypatch.setattr(sys, "argv", ["ablate"])
    for name in ("MLFLOW_TRACKING_URI", "ABLATE_STORAGE"):
        monkeypatch.delenv(name, raising=False)


pieces = st.text(SIGNS, max_size=8)
secrets = st.builds(lambda before, after: f"{before}{MARK}{after}", pieces, pieces)
names = st.text(string.ascii_lowercase + string.digits + "-_.", min_size=1, max_size=8).map(lambda name: f"u{name}")
hosts = st.sampled_from(["host", "db.example.org", "localhost:5432", "127.0.0.1:5000", "[::1]:5432", "[fe80::1]"])
databases = st.sampled_from(["", "/db", "/ablations", "/a/b/mlflow.db"])
schemes = st.sampled_from(["http", "https", "HTTPS", "postgresql", "postgresql+psycopg", "mysql", "mssql+pyodbc", "s3"])
parameters = st.sampled_from(
    [
        *("password", "passwd", "PWD", "sslpassword", "token", "access_token", "key", "sig", "AccountKey", "api-key"),
        *("X-Amz-Signature", "X-Amz-Security-Token", "secret", "client_secret", "pass%77ord", "odbc_connect", "pass"),
        *("auth", "sas"),
    ]
)
written = st.sampled_from([lambda secret: secret, lambda secret: quote(secret, safe="")])


@st.composite
def addresses(draw: st.DrawFn) -> tuple[str, str, str]:
    """An address with a secret in it, its host, and its database."""
    scheme, host, database, secret = draw(schemes), draw(hosts), draw(databases), draw(secrets)
    write = draw(written)
    if draw(st.booleans()):
        user = draw(st.one_of(names, st.just(""), st.just("anna@example.org")))
        return f"{scheme}://{user}:{write(secret)}@{host}{database}", host, database
    user = draw(st.sampled_from(["", "anna@"]))
    secret = quote_plus(secret.replace("@", "")) if write("/") == "/" else write(secret)
    before = draw(st.sampled_from(["?", "?timeout=5&", "?a=b&c=d&"]))
    after = draw(st.sampled_from(["", "&mode=ro"]))
    return f"{scheme}://{user}{host}{database}{before}{draw(parameters)}={secret}{after}", host, database


sentences = st.sampled_from(["{}", "cannot reach {}, sorry", "'{}' is no address", '("{}", 5)', "a {} and b", "x={}\n"])


@settings(
    max_examples=300, derandomize=True, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(addresses(), sentences)
@example(("https://anna@example.org:geheim@host/db", "host", "/db"), "{}")
@example(("postgresql://anna:a/b?c#d@geheim@host/db", "host", "/db"), "cannot reach {}")
def test_no_secret_of_an_address_is_said_and_the_host_is(made: tuple[str, str, str], sentence: str) -> None:
    address, host, database = made
    shown = without_password(sentence.format(address))
    assert MARK not in shown
    assert HIDDEN in shown
    assert host in shown
    assert database in shown


@settings(
    max_examples=100, derandomize=True, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(addresses(), addresses(), st.sampled_from([" ", ", ", "\n", " -> "]))
def test_nor_of_two(one: tuple[str, str, str], other: tuple[str, str, str], between: str) -> None:
    shown = without_password(f"of {one[0]}{between}{other[0]}")
    assert MARK not in shown
    assert other[1] in shown
    assert MARK not in without_password(f"said {one[0]}{between}{other[0]}, twice: {one[0]}{other[0]}")


@settings(
    max_examples=100, derandomize=True, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.text(max_size=12), st.text(max_size=12), hosts)
def test_an_address_alone_may_have_any_signs_in_its_password(before: str, after: str, host: str) -> None:
    shown = without_password(f"postgresql://anna:{before}{MARK}{after}@{host}/db")
    assert MARK not in shown
    assert shown.endswith(f"@{host}/db")
    assert shown.startswith("postgresql://anna:")


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("postgresql+psycopg://anna:ge:he@im@host:5432/db", "postgresql+psycopg://anna:***@host:5432/db"),
        ("postgresql://:geheim@host/db", "postgresql://:***@host/db"),
        ("postgresql://anna@host/db", "postgresql://anna@host/db"),
        ("no https://anna:geheim@host/api?x=1, sorry", "no https://***@host/api?x=1, sorry"),
        ("https://ghp_geheim@host/x", "https://***@host/x"),
        ("https://ghp_geheim:x-oauth-basic@host/x", "https://***@host/x"),
        ("mysql://host/db?user=anna&password=geheim&a=b", "mysql://host/db?user=anna&password=***&a=b"),
        ("a postgresql://anna@host:5432/db?password=a@geheim", "a postgresql://anna@host:***"),
        ("s3://b/k?X-Amz-Signature=geheim&X-Amz-Date=2", "s3://b/k?X-Amz-Signature=***&X-Amz-Date=2"),
        ("DefaultEndpointsProtocol=https;AccountKey=geheim==;E=x", "DefaultEndpointsProtocol=https;AccountKey=***"),
        ("AccountKey=geheim==;EndpointSuffix=x", "AccountKey=***;EndpointSuffix=x"),
        ("host=h password=geheim dbname=d", "host=h password=*** dbname=d"),
        ("{'user': 'anna', 'password': 'ge heim'}", "{'user': 'anna', 'password': ***}"),
        ("password = geheim, user", "password = ***, user"),
        ("--password: must be given", "--password: must be given"),
        ("Authorization: Bearer geheim.abc", "Authorization: Bearer ***"),
        ("{'Authorization': 'Basic Z2VoZWlt'}", "{'Authorization': 'Basic ***'}"),
        ("Basic settings are shown", "Basic settings are shown"),
        ("url: /api/2.0/runs?token=geheim (Caused by x)", "url: /api/2.0/runs?token=*** (Caused by x)"),
        ("http://h/?next=https%3A%2F%2Fu%3Ageheim%40h2", "http://h/?next=***"),
        ("http://host:5000/a", "http://host:5000/a"),
        ("http://host/a@b", "http://host/a@b"),
        ("http://[::1]:5000/a@b", "http://[::1]:5000/a@b"),
        ("sqlite:////tmp/a b/mlflow.db", "sqlite:////tmp/a b/mlflow.db"),
        ("sqlite:////tmp/a:b@c/mlflow.db", "sqlite:////tmp/a:b@c/mlflow.db"),
        ("--set dropout.p=0.3 is no key=value", "--set dropout.p=0.3 is no key=value"),
    ],
)
def test_what_is_left_of_a_text(text: str, shown: str) -> None:
    assert without_password(text) == shown
    assert without_password(shown) == shown


@pytest.mark.parametrize(
    "name",
    ["MLFLOW_TRACKING_PASSWORD", "MLFLOW_TRACKING_TOKEN", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "PGPASSWORD"],
)
def test_secrets_of_the_environment_are_said_nowhere(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, "ge/heim+1 2")
    for said in ("ge/heim+1 2", "ge/heim%2B1%202", "ge%2Fheim%2B1+2"):
        assert without_password(f"the server refused '{said}'.") == "the server refused '***'."


def test_a_short_one_is_looked_for_between_words_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "test")
    assert without_password("test_images of 'test'") == "test_images of '***'"
    monkeypatch.setenv("TOKENIZERS_PARALLELISM", "images")
    monkeypatch.setenv("USE_TOKEN", "true")
    assert without_password("images: true") == "images: true"


def test_secrets_in_the_addresses_that_a_command_was_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["ablate", "tune", "--storage=postgresql://anna:ge heim@host/db"])
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "mysql://otto:streng%20geheim@host/db")
    said = without_password("user anna with 'ge heim' and otto with 'streng geheim' are refused")
    assert said == "user anna with '***' and otto with '***' are refused"
