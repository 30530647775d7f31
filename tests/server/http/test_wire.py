"""Wire: bytes out, events back in."""

import json

import pytest

from server.http.wire import HEARTBEAT, ServerEvent, frame, json_bytes, json_bytes_by_pieces, read_frames


def test_events_survive_the_way_out_and_back_in() -> None:
    events = [
        ServerEvent("node", {"text": "".join(map(chr, range(0x3000))), "score": None}),
        ServerEvent("done", {"answer": "½ × π", "confidence": 0.25}),
    ]
    stream = HEARTBEAT + frame(events[0]) + HEARTBEAT + frame(events[1])
    assert list(read_frames(stream.decode().split("\n"))) == events
    assert list(read_frames(stream.decode().splitlines())) == events


def test_a_frame_is_one_event_line_one_data_line_and_an_empty_one() -> None:
    assert frame(ServerEvent("node", {"text": "a\nb"})) == b'event: node\ndata: {"text": "a\\nb"}\n\n'


def test_half_a_surrogate_pair_does_not_break_the_output() -> None:
    assert json.loads(json_bytes({"output": "a\ud800b"})) == {"output": "a?b"}


@pytest.mark.parametrize(
    "payload",
    [{}, {"answer": "½\u2028", "steps": [], "tree": [{"node_id": 0, "text": "a\ud800b", "path": [1, [2]]}, None, 1.5]}],
)
def test_made_by_pieces_the_bytes_are_the_same(payload: dict[str, object]) -> None:
    assert json_bytes_by_pieces(payload) == json_bytes(payload)


def test_a_number_that_json_cannot_say_is_an_error_here_and_not_at_the_client() -> None:
    with pytest.raises(ValueError, match="JSON"):
        json_bytes({"score": float("nan")})
