"""What a database URL may be, and what of it may be shown."""

from __future__ import annotations

import re
import traceback
from urllib.parse import quote, quote_plus

import pytest
from sqlalchemy import URL, make_url

from ampho._text import with_hint
from ampho.database.url import describe_without, display, missing_driver, parse_url, redact, require_driver
from ampho.errors import ConfigurationError, DriverError

PASSWORD = "p%40:/@#'"
SETTING = "SQLALCHEMY_DATABASE_URI"
AWKWARD = URL.create("postgresql+asyncpg", "scott", PASSWORD, "db.example", 5432, "shop")


def spellings(password: str) -> set[str]:
    return {
        password,
        quote(password),
        quote(password, safe=""),
        quote(password, safe=" +"),
        quote_plus(password),
        quote_plus(password).replace("%3A", "%3a").replace("%2F", "%2f"),
        quote_plus(quote_plus(password)),
        password.replace("%", "%%"),
        password.replace("'", "''"),
        repr(password + '"')[1:-2],
        repr(repr(password + '"'))[3:-4],
    }


def test_a_url_object_is_taken_as_it_is() -> None:
    assert parse_url(AWKWARD, SETTING) is AWKWARD


@pytest.mark.parametrize(
    "text",
    [
        "sqlite://",
        "sqlite:///file:x.db?uri=true",
        "sqlite:///me@home.db",
        "postgresql+asyncpg://scott:p%2540%3A%2F%40%23%27@db.example:5432/shop",
        "postgresql://scott@server:tiger@db.example/shop",
        "postgresql://scott:tiger@[::1]/shop?application_name=a@b",
        "postgresql+psycopg:///shop?host=/run/postgresql",
    ],
)
def test_text_means_what_it_means_to_sqlalchemy(text: str) -> None:
    assert parse_url(text, SETTING) == make_url(text)


@pytest.mark.parametrize(
    "value",
    [
        PASSWORD,
        f"postgresql+asyncpg://scott:{PASSWORD}@db.example/shop",
        f"postgresql+asyncpg://scott:{PASSWORD}@db.example:5432/shop?ssl=on",
        f"postgresql+asyncpg://scott:a@b/{PASSWORD}@db.example/shop",
        f"postgresql+asyncpg://scott:a@b?{PASSWORD}@db.example/shop",
        f"postgresql+asyncpg:scott:{PASSWORD}@db.example/shop",
        f"postgresql+asyncpg://scott:{PASSWORD}",
        PASSWORD.encode(),
        None,
    ],
)
def test_a_malformed_url_is_refused_without_quoting_any_of_it(value: object) -> None:
    with pytest.raises(ConfigurationError) as caught:
        parse_url(value, SETTING)
    assert caught.value.setting == SETTING
    assert SETTING in str(caught.value)
    assert "percent-encoded" in str(caught.value)
    assert "URL.create" in str(caught.value)
    assert caught.value.__context__ is None
    shown = "".join(traceback.format_exception_only(caught.value)) + repr(caught.value)
    assert not any(part in shown for part in ("scott", "db.example", "p%40", "#'", "%2540"))


def test_an_empty_url_is_said_to_be_empty() -> None:
    for value in ("", " "):
        with pytest.raises(ConfigurationError, match=f"{SETTING} is empty. Use the form dialect"):
            parse_url(value, SETTING)


@pytest.mark.parametrize(
    ("drivername", "driver", "extra"), [("mysql", "MySQLdb", "mysql"), ("postgresql", "psycopg2", "postgres")]
)
def test_a_url_without_a_driver_is_told_of_the_one_that_an_extra_brings(
    drivername: str, driver: str, extra: str
) -> None:
    error = missing_driver(make_url(f"{drivername}://host/shop"), ImportError(f"No module named {driver!r}"), SETTING)
    remedy = rf"{drivername}\+(pymysql|psycopg):// instead, and install its driver with pip install 'ampho\[{extra}\]'"
    assert re.search(f"No module named '{driver}'.*{remedy}", str(error))
    assert re.search(remedy, with_hint(f"ModuleNotFoundError: No module named '{driver}'"))


@pytest.mark.parametrize(
    ("drivername", "names"),
    [
        ("sqlite", ["sqlite+aiosqlite://"]),
        ("sqlite+pysqlite", ["sqlite+aiosqlite://"]),
        ("postgresql", ["postgresql+asyncpg://", "postgresql+psycopg://"]),
        ("postgresql+psycopg2", ["postgresql+asyncpg://", "postgresql+psycopg://"]),
        ("mysql+pymysql", ["mysql+asyncmy://"]),
        ("mariadb+pymysql", ["mariadb+asyncmy://"]),
        ("mysql", ["mysql+asyncmy://"]),
        ("postgres", ["postgresql"]),
        ("postgresql+nonesuch", ["postgresql+asyncpg://"]),
        ("nonesuch", ["nonesuch"]),
    ],
)
def test_a_sync_driver_for_quart_is_refused_with_the_async_one(drivername: str, names: list[str]) -> None:
    with pytest.raises(DriverError) as caught:
        require_driver(
            URL.create(drivername, "scott", PASSWORD, "h"), is_async=True, setting="SQLALCHEMY_BINDS['audit']"
        )
    assert all(name in str(caught.value) for name in [*names, "SQLALCHEMY_BINDS['audit']", drivername])
    assert not any(spelling in str(caught.value) for spelling in spellings(PASSWORD))


@pytest.mark.parametrize(
    ("drivername", "name"),
    [
        ("sqlite+aiosqlite", "sqlite://"),
        ("postgresql+asyncpg", "postgresql+psycopg://"),
        ("postgresql+psycopg_async", "postgresql+psycopg://"),
        ("mysql+asyncmy", "mysql+pymysql://"),
        ("mysql+aiomysql", "mysql+pymysql://"),
        ("mariadb+asyncmy", "mariadb+pymysql://"),
    ],
)
def test_an_async_driver_for_flask_is_refused_with_the_sync_one(drivername: str, name: str) -> None:
    with pytest.raises(DriverError, match=SETTING) as caught:
        require_driver(URL.create(drivername), is_async=False)
    assert name in str(caught.value)
    assert drivername in str(caught.value)


@pytest.mark.parametrize(
    "drivername", ["sqlite+aiosqlite", "postgresql+asyncpg", "postgresql+psycopg", "mysql+asyncmy"]
)
def test_an_async_driver_fits_quart(drivername: str) -> None:
    require_driver(URL.create(drivername), is_async=True)


@pytest.mark.parametrize("drivername", ["sqlite", "postgresql", "postgresql+psycopg", "mysql+pymysql", "mariadb"])
def test_a_sync_driver_fits_flask(drivername: str) -> None:
    require_driver(URL.create(drivername), is_async=False)


def test_display_masks_the_password_and_the_secrets_of_the_query() -> None:
    url = AWKWARD.update_query_dict({"password": PASSWORD, "sslpassword": "x", "passfile": "/a", "Token": ["a", "b"]})
    assert display(url) == (
        "postgresql+asyncpg://scott:***@db.example:5432/shop?Token=***&passfile=%2Fa&password=***&sslpassword=***"
    )


def test_display_of_a_url_without_secrets_is_that_url() -> None:
    for text in ("sqlite:///shop.db", "postgresql+psycopg://scott@db.example/shop?sslmode=require"):
        assert display(make_url(text)) == text


@pytest.mark.parametrize("password", [PASSWORD, 'with "both" \' quotes\\', "pässwörd €", "line\nbreak\t", "a+b c"])
@pytest.mark.parametrize("query", [False, True])
def test_redact_finds_a_password_in_every_spelling(password: str, query: bool) -> None:
    place = {"query": {"password": password}} if query else {"password": password}
    url = URL.create("postgresql+asyncpg", "scott", host="h", **place)
    for spelling in spellings(password):
        assert redact(f"could not connect (as {spelling}, {spelling}!)", url) == "could not connect (as ***, ***!)"


@pytest.mark.parametrize(
    "message",
    [
        "{address} and then {password}",
        "connect(password={password})",
        "connect(password='{password}')",
        "{filler} {password}",
        "{filler}{filler} {address}",
    ],
)
@pytest.mark.parametrize("password", [PASSWORD, "it's so, (quite) a secret", "no,kommas;in here", "a@b@canary"])
def test_no_piece_of_a_password_is_left_where_a_message_is_shortened(message: str, password: str) -> None:
    url = AWKWARD.set(password=password)
    address = url.render_as_string(hide_password=False)
    for length in range(470, 500):
        text = message.format(address=address, password=password, filler="x" * length)
        told = describe_without(ValueError(text), url)
        for beginning in range(len(password) - 3):
            assert password[beginning : beginning + 4] not in told
            assert quote_plus(password)[beginning : beginning + 6] not in told


def test_redact_takes_several_urls_and_the_longest_secret_first() -> None:
    urls = (URL.create("sqlite", password="abc"), URL.create("sqlite", password="abcdef"))
    assert redact("abcdef abc", *urls) == "*** ***"


def test_redact_leaves_text_alone_where_there_is_no_secret() -> None:
    assert (
        redact("a text", URL.create("sqlite", password=""), URL.create("sqlite"), URL.create("x", "text")) == "a text"
    )


def test_a_very_short_password_goes_only_where_a_password_stands() -> None:
    url = URL.create("postgresql", "a", "a", "a", database="a")
    text = "a bad postgresql://a:a@a/a has password='a' (PWD=a;) at a"
    assert redact(text, url) == "a bad postgresql://a:***@a/a has password='***' (PWD=***;) at a"
