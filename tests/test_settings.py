from collections.abc import Callable

import pytest
from starlette.testclient import TestClient

from app.settings import Settings, SettingsError, read_settings


def test_a_misspelt_setting_stops_the_start_and_is_told_its_right_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GATE_MAX_WAITNG", "3")
    with pytest.raises(SettingsError, match="GATE_MAX_WAITNG: did you mean GATE_MAX_WAITING"):
        read_settings()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("GATE_WORKERS", "0"),
        ("GATE_MAX_WAITING", "many"),
        ("GATE_DRAIN_SECONDS", "-1"),
        ("GATE_BODY_TIMEOUT_SECONDS", "0"),
        ("GATE_LOG_FORMAT", "xml"),
    ],
)
def test_an_impossible_value_stops_the_start_and_is_named(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(SettingsError, match=f"{name} cannot be '{value}'"):
        read_settings()


def test_tokens_are_separated_by_commas(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GATE_TOKENS", "first-token, second-token\n")
    assert [token.get_secret_value() for token in read_settings().tokens] == ["first-token", "second-token"]


@pytest.mark.parametrize("value", ["", ",", "first-secret,", "first-secret,,other", "first secret", "secr\u00e9t"])
def test_tokens_that_cannot_be_sent_stop_the_start_without_being_shown(
    monkeypatch: pytest.MonkeyPatch, value: str
) -> None:
    monkeypatch.setenv("GATE_TOKENS", value)
    with pytest.raises(SettingsError, match="GATE_TOKENS cannot be used") as caught:
        read_settings()
    assert "secr" not in str(caught.value)
    assert caught.value.__suppress_context__, "a traceback would show them"


def test_tokens_do_not_show_in_the_settings() -> None:
    assert "secret" not in repr(Settings(tokens="first-secret"))


def test_a_short_token_is_warned_of(make_client: Callable[..., TestClient], capsys: pytest.CaptureFixture[str]) -> None:
    make_client(tokens="secret", log_level="warning")
    logged = capsys.readouterr().err
    assert "GATE_TOKENS is short" in logged
    assert "secret" not in logged


def test_formats_are_chosen_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GATE_FORMATS", " jpeg, PNG,avif ,png")
    assert read_settings().formats == ("JPEG", "PNG", "AVIF")
    for wrong in ("jpg", "", "png;gif"):
        monkeypatch.setenv("GATE_FORMATS", wrong)
        with pytest.raises(SettingsError, match="GATE_FORMATS takes names out of png"):
            read_settings()


def test_heic_among_the_formats_needs_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "HEIC" not in Settings().formats
    monkeypatch.setenv("GATE_FORMATS", "png,heic")
    monkeypatch.setattr("app.settings.is_heic_installed", lambda: True)
    assert read_settings().formats == ("PNG", "HEIC")
    monkeypatch.setattr("app.settings.is_heic_installed", lambda: False)
    with pytest.raises(SettingsError, match=r"GATE_FORMATS names heic\. .*pip install 'imagegate\[heic\]'"):
        read_settings()
