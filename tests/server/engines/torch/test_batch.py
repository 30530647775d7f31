# pyright: basic
"""The decoding batch against transformers."""

import random
from pathlib import Path as FilePath

import torch

from server.engines.torch.batch import DecodeBatch
from tests.server.engines.torch.reference import Reference, tokens


@torch.inference_mode()
def test_rows_that_come_and_go_keep_their_own_context(policy_folder: FilePath) -> None:
    reference = Reference(policy_folder)
    rng = random.Random(0)
    batch = DecodeBatch(reference.model)
    running: dict[object, tuple[int, ...]] = {}
    for turn in range(40):
        if turn % 3 == 0:
            prompt = tokens(rng.randrange(1, 90), seed=100 + turn)
            (node,) = reference.encoder.encode([(prompt,)])
            first = tokens(rng.randrange(1, 9), seed=200 + turn)
            rows = batch.join(node, first)
            running.update((row, (*prompt, token)) for row, token in zip(rows, first, strict=True))
        rows, hidden = batch.step()
        logits = reference.logits(hidden)
        assert set(rows) == set(running)
        checked = rng.randrange(len(rows))
        expected = reference.expected(running[rows[checked]])
        torch.testing.assert_close(logits[checked], expected, atol=1e-4, rtol=0)
        for row in rows:
            row.last_token = rng.randrange(290)
            running[row] = (*running[row], row.last_token)
        gone = rng.sample(rows, rng.randrange(0, max(1, len(rows) // 2)))
        batch.leave(gone)
        for row in gone:
            del running[row]
    assert len(batch) == len(running)
