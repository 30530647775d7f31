"""API keys: reading the list, and finding the owner of a key."""

import pytest

from server.settings.api_keys import MIN_KEY_CHARS, read_api_keys

ALICE = "alice-0123456789"
BOB = "bob-0123456789ab"


def test_keys_are_split_at_commas_and_lines_and_may_be_named() -> None:
    keys = read_api_keys(f" alice={ALICE} ,\n{BOB}\r\n\n")
    assert keys.owner_of(ALICE) == "alice"
    assert keys.owner_of(BOB) == "key-2"


def test_a_key_of_base64_may_end_in_equals_signs() -> None:
    padded = "QUJDREVGR0hJSktMTQ=="
    assert read_api_keys(padded).owner_of(padded) == "key-1"
    assert read_api_keys(f"a={padded}").owner_of(padded) == "a"
    assert read_api_keys(padded[:-1]).owner_of(padded[:-1]) == "key-1"


@pytest.mark.parametrize("shown", ["", ALICE[:-1], ALICE + "x", ALICE.upper(), f"alice={ALICE}", "ü", f" {ALICE}"])
def test_nothing_but_the_key_itself_is_the_key(shown: str) -> None:
    assert read_api_keys(f"alice={ALICE}").owner_of(shown) is None


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "there is no API key in it"),
        (" ,\n", "there is no API key in it"),
        (f"{ALICE},x={BOB[: MIN_KEY_CHARS - 1]}", "API key 2 has 15 characters; at least 16 are needed"),
        (f"a={ALICE},a={BOB}", "two API keys have the name a"),
        (f"key-2={ALICE},{BOB}", "two API keys have the name key-2"),
        (f"a={ALICE},{ALICE}", "a and key-2 are the same API key"),
        ("with a space in it", "API key 1 holds a character that no header can carry"),
        ("schlüssel-0123456789", "API key 1 holds a character that no header can carry"),
    ],
)
def test_a_bad_list_is_refused_without_quoting_a_key(text: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason) as refused:
        read_api_keys(text)
    assert ALICE not in str(refused.value)
    assert BOB[:12] not in str(refused.value)


def test_a_key_never_shows_in_what_is_kept() -> None:
    assert ALICE not in str(vars(read_api_keys(ALICE)))
