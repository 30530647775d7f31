"""Serving parts: a broken part makes the server unready and is named until it works again."""

import pytest

from server.parts.fakes import fake_parts, opening
from server.parts.serving import Part
from tests.server.serving import serve


@pytest.mark.parametrize("part", list(Part))
async def test_readiness_names_a_broken_part_until_it_works(part: Part) -> None:
    faults: dict[Part, str] = {}
    async with serve(opening(fake_parts(faults=faults))) as served:
        faults[part] = "out of processes"
        broken = await served.client.get("/readyz")
        refused = await served.client.post("/solve", json={"problem": "1+2"})
        faults.clear()
        again = await served.client.get("/readyz")
    assert (broken.status_code, refused.status_code, again.status_code) == (503, 503, 200)
    states = broken.json()["parts"]
    assert states == {**dict.fromkeys(map(str, Part), "ready"), str(part): "out of processes"}
    assert "out of processes" in refused.json()["detail"]
    assert again.json()["ready"]
