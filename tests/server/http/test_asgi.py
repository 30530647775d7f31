"""ASGI: what the layers keep in a scope, and find in it again."""

from server.http.asgi import (
    Scope,
    address_of,
    client_of,
    headers_of,
    keep_client,
    keep_request_id,
    request_id_of,
    status_of,
)


def test_ids_and_clients_are_found_where_they_were_kept_and_a_shared_state_is_left_alone() -> None:
    shared: dict[str, object] = {"of the server": 1}
    scope: Scope = {"type": "http", "state": shared, "client": ("10.0.0.1", 5)}
    assert client_of(scope) == address_of(scope) == "10.0.0.1"
    keep_request_id(scope, "r1")
    keep_client(scope, "alice")
    assert (request_id_of(scope), client_of(scope)) == ("r1", "alice")
    assert shared == {"of the server": 1}


def test_a_connection_without_an_address_has_a_name_all_the_same() -> None:
    assert address_of({"type": "http", "client": None}) == "unknown"


def test_headers_and_status_of_the_beginning_of_a_response() -> None:
    start: Scope = {"type": "http.response.start", "status": 204}
    assert (headers_of(start), status_of(start)) == ([], 204)
    assert status_of({"type": "http.response.body", "body": b""}) is None
