"""Settings: what is refused, and with what sentence."""

from __future__ import annotations

import pytest

from sendtrace.runtime.settings import Settings, SettingsError, from_environment, to_environment


def test_they_go_to_a_child_and_back() -> None:
    settings = Settings(partitions=3, time_scale=50.0, deadlines="margin=2h", grace_seconds=1.5)
    assert from_environment(to_environment(settings)) == settings
    assert from_environment(to_environment(Settings())) == Settings()


@pytest.mark.parametrize(
    ("name", "value", "sentence"),
    [
        ("TIME_SCALE", "0", "SENDTRACE_TIME_SCALE: Expected `float` >= 1.0"),
        ("TIME_SCALE", "10001", "<= 10000.0"),
        ("TIME_SCALE", "nan", "SENDTRACE_TIME_SCALE"),
        ("TIME_SCALE", "fast", "SENDTRACE_TIME_SCALE: Expected `float`"),
        ("GRACE_SECONDS", "0", "SENDTRACE_GRACE_SECONDS: Expected `float` > 0.0"),
        ("GRACE_SECONDS", "1e9", "<= 86400.0"),
        ("RETRY_STEP_SECONDS", "-1", "SENDTRACE_RETRY_STEP_SECONDS"),
        ("WAREHOUSE_RETENTION_DAYS", "999999", "SENDTRACE_WAREHOUSE_RETENTION_DAYS"),
        ("DEFAULT_CURRENCY", "eur", "SENDTRACE_DEFAULT_CURRENCY"),
        ("DEFAULT_CURRENCY", "EURO", "SENDTRACE_DEFAULT_CURRENCY"),
        ("DEADLINES", "confirmation=0h", "in 'confirmation=0h': '0h' is not longer than nothing"),
    ],
)
def test_a_wrong_value_is_a_sentence(name: str, value: str, sentence: str) -> None:
    with pytest.raises(SettingsError) as caught:
        from_environment({f"SENDTRACE_{name}": value})
    assert sentence in str(caught.value)
    assert f"SENDTRACE_{name}" in str(caught.value)
