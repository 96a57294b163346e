"""docs/limits.md is true: its settings have those defaults, its kinds are the policy's."""

import re
from pathlib import Path

from bootstrap.limit_settings import LimitSettings
from bootstrap.settings import Settings
from server.identity.identity import Role
from server.identity.policy import POLICY

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "limits.md").read_text()


def test_its_defaults_are_the_defaults() -> None:
    """Every setting of limits, and no other."""
    told = dict(re.findall(r"^\| `STANDINGS_LIMITS_([A-Z_]+)` \| (\S+) \|", PAGE, re.MULTILINE))
    given = {f"STANDINGS_LIMITS_{name}": text for name, text in told.items()}

    assert Settings.load(given).limits == LimitSettings()
    assert {name.lower() for name in told} == LimitSettings.model_fields.keys()


def test_its_settings_are_settings() -> None:
    """Each variable that the page names can be set."""
    known = {
        f"STANDINGS_{part}_{field}".upper()
        for part, settings in Settings()
        for field in type(settings).model_fields
    }

    assert set(re.findall(r"STANDINGS_[A-Z_]*[A-Z]", PAGE)) <= known


def test_its_kinds_are_those_of_the_policy() -> None:
    """Every method that may be refused, or its service, in the row of its kind."""
    rows = dict(re.findall(r"^\| (writes|reads|admin) \| (.+) \|$", PAGE, re.MULTILINE))
    for path, rule in POLICY.items():
        service, _, method = path.rpartition(".")[2].partition("/")
        named = {
            kind
            for kind, text in rows.items()
            if {method, f"all of {service}"} & set(text.split(", "))
        }
        assert named == (set() if rule.kind is None else {rule.kind.name.lower()})


def test_the_roles_that_can_be_limited_are_the_roles() -> None:
    """Settings cannot know the roles of the server, so their pattern repeats them."""
    limits = ",".join(f"{role.value}.{kind}=1" for role in Role for kind in ("writes", "admin"))

    assert len(Settings.load({"STANDINGS_LIMITS_ROLES": limits}).limits.roles) == 2 * len(Role)
