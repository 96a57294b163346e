"""docs/security.md is true: its table of roles is the policy, and its settings are settings."""

import re
from pathlib import Path

from bootstrap.settings import Settings
from server.identity.policy import POLICY

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "security.md").read_text()
ROW = re.compile(r"^\| (\w+)\.(\w+) \| ([\w, -]+) \|$", re.MULTILINE)


def test_the_table_of_roles_is_the_policy() -> None:
    """Every method with exactly its roles, and no other."""
    told = {
        f"{service}/{method}": None if roles == "everybody" else frozenset(roles.split(", "))
        for service, method, roles in ROW.findall(PAGE)
    }
    true = {
        path.rpartition(".")[2]: rule.roles and frozenset(role.value for role in rule.roles)
        for path, rule in POLICY.items()
    }

    assert told == true


def test_its_settings_are_settings() -> None:
    """Each variable that the page names can be set."""
    named = set(re.findall(r"STANDINGS_[A-Z_]*[A-Z]", PAGE))
    known = {
        f"STANDINGS_{part}_{field}".upper()
        for part, settings in Settings()
        for field in type(settings).model_fields
    }

    assert len(named) > 15
    assert named <= known
