"""Settings: known names, bounds, and no secret in a message."""

from pathlib import Path

import pytest

from bootstrap.settings import Settings, SettingsInvalid


def test_variables_become_settings() -> None:
    """The part and the field of a name lead to the setting; lists are split at commas."""
    settings = Settings.load(
        {
            "STANDINGS_POSTGRES_DSN": "host=db user=standings",
            "STANDINGS_POSTGRES_WRITE_TIMEOUT_MS": "900",
            "STANDINGS_REDIS_NODES": "a:1, b:2",
            "STANDINGS_SERVER_REFLECTION": "true",
            "HOME": "/elsewhere",
        }
    )

    assert settings.postgres.dsn is not None
    assert settings.postgres.dsn.get_secret_value() == "host=db user=standings"
    assert settings.postgres.write_timeout_ms == 900
    assert settings.redis.nodes == ("a:1", "b:2")
    assert settings.server.reflection


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("STANDINGS_POSTGRES_DNS", "host=db"),
        ("STANDINGS_POSTGRS_DSN", "host=db"),
        ("STANDINGS_FOO", "1"),
        ("STANDINGS_POSTGRES_WRITE_TIMEOUT_MS", "1"),
        ("STANDINGS_REDIS_NODES", "no-port"),
        ("STANDINGS_LOG_LEVEL", "LOUD"),
    ],
)
def test_what_is_unknown_or_out_of_bounds_stops_the_start(name: str, value: str) -> None:
    """The variable is named, and its value is not."""
    with pytest.raises(SettingsInvalid) as caught:
        Settings.load({name: value})

    assert name.rpartition("_")[0] in str(caught.value)
    assert value not in str(caught.value) or value in name


@pytest.mark.parametrize(
    "dsn",
    [
        "postgresql://u:hunter2%secret@db/x",
        "postgresql://u:hunter2/secret@db/x",
        "postgresql://u:hunter2@secret@db/x",
        "hunter2secret",
        "host=db password=hunter2 secret",
        "postgresql://u:1234/hunter2secret@db/x",
    ],
)
def test_a_connection_string_that_cannot_be_read_is_not_quoted(dsn: str) -> None:
    """A password with a character too many is refused before the driver repeats it."""
    with pytest.raises(SettingsInvalid) as caught:
        Settings.load({"STANDINGS_POSTGRES_DSN": dsn})

    assert "STANDINGS_POSTGRES_DSN" in str(caught.value)
    assert "hunter2" not in str(caught.value)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    "dsn",
    [
        "postgresql://u:p@[::1]:5432/db",
        "postgresql://u:p@[fe80::1%25eth0],[::2]:5433/db",
        "postgresql:///db?host=/tmp",
        "postgresql://u:p@a.example,b.example:5433/db?target_session_attrs=read-write",
        "host=::1 dbname=x",
        "host=/run/postgresql",
        "host=a,b port=,5433",
        "host=db port='5432 '",
        "service=scores",
    ],
)
def test_every_form_of_connection_string_is_taken(dsn: str) -> None:
    """Addresses of both families, sockets, several hosts and services."""
    assert Settings.load({"STANDINGS_POSTGRES_DSN": dsn}).postgres.dsn is not None


@pytest.mark.parametrize(
    ("text", "dsns"),
    [
        ("", []),
        ("host=a dbname=x", ["host=a dbname=x"]),
        ("host=a, postgresql://u:p@b/x ,host=c", ["host=a", "postgresql://u:p@b/x", "host=c"]),
        ('["host=a,b dbname=x", "host=c"]', ["host=a,b dbname=x", "host=c"]),
    ],
)
def test_replicas_are_a_list(text: str, dsns: list[str]) -> None:
    """With commas between, or of JSON where one has a comma in itself; a child has the same."""
    settings = Settings.load({"STANDINGS_POSTGRES_REPLICA_DSNS": text})

    assert [one.get_secret_value() for one in settings.postgres.replica_dsns] == dsns
    assert Settings.load(settings.environment()) == settings


@pytest.mark.parametrize(
    "text",
    [
        "host=a,postgresql://u:hunter2/secret@db/x",
        '["host=a password=hunter2 secret"]',
        '["host=a password=hunter2',
        '[{"password": "hunter2"}]',
        ",".join(["host=hunter2"] * 9),
    ],
)
def test_replicas_that_cannot_be_read_are_not_quoted(text: str) -> None:
    """Nor are more than eight of them taken."""
    with pytest.raises(SettingsInvalid) as caught:
        Settings.load({"STANDINGS_POSTGRES_REPLICA_DSNS": text})

    assert "STANDINGS_POSTGRES_REPLICA_DSNS" in str(caught.value)
    assert "hunter2" not in str(caught.value)


def test_a_child_loads_the_same_settings() -> None:
    """Through its environment, what was set after the start and the secrets too."""
    settings = Settings.load(
        {
            "STANDINGS_POSTGRES_DSN": "host=db user=standings password=hunter2",
            "STANDINGS_REDIS_NODES": "a:1, b:2",
            "STANDINGS_SERVER_REFLECTION": "true",
            "STANDINGS_SERVER_DRAIN_GRACE_S": "0.5",
            "STANDINGS_EMBEDDED_DIRECTORY": "/elsewhere",
        }
    )
    settings = settings.with_stores(postgres_dsn="host=other", redis_nodes=("c:3",))

    assert Settings.load(settings.environment()) == settings


def test_secrets_may_be_in_files(tmp_path: Path) -> None:
    """The newline at the end of a file belongs to no secret."""
    file = tmp_path / "password"
    file.write_text("hush-hush \n")

    settings = Settings.load({"STANDINGS_REDIS_PASSWORD_FILE": str(file)})

    assert settings.redis.password is not None
    assert settings.redis.password.get_secret_value() == "hush-hush "
    assert settings.environment()["STANDINGS_REDIS_PASSWORD"] == "hush-hush "


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("STANDINGS_REDIS_PASSWORD_FILE", "STANDINGS_REDIS_PASSWORD_FILE: it cannot be read"),
        ("STANDINGS_REDIS_USERNAME_FILE", "STANDINGS_REDIS_USERNAME_FILE: no such setting"),
        ("STANDINGS_NOWHERE_SECRET_FILE", "STANDINGS_NOWHERE: no such setting"),
    ],
)
def test_a_secret_file_that_cannot_be_used_stops_the_start(name: str, told: str) -> None:
    """One that is not there, and one for what is no secret."""
    with pytest.raises(SettingsInvalid, match=told):
        Settings.load({name: "/none/such"})


def test_a_secret_is_given_once(tmp_path: Path) -> None:
    """Two places for one secret are a mistake that would be noticed at its rotation."""
    file = tmp_path / "dsn"
    file.write_text("host=db")

    with pytest.raises(SettingsInvalid, match="set one of them"):
        Settings.load(
            {"STANDINGS_POSTGRES_DSN": "host=db", "STANDINGS_POSTGRES_DSN_FILE": str(file)}
        )
