"""Fixtures that every room uses. Rooms keep their own beside their tests."""

import pytest


@pytest.fixture
def anyio_backend() -> str:
    """asyncio alone: aiolimiter and aiohttp know no other loop."""
    return "asyncio"


@pytest.fixture(autouse=True)
def _no_credentials_of_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    """No test finds a key, an address or a profile of the machine it runs on."""
    for name in ("API_KEY", "AUTH_TOKEN", "BASE_URL", "PROFILE", "CONFIG_DIR", "CUSTOM_HEADERS"):
        monkeypatch.delenv(f"ANTHROPIC_{name}", raising=False)
