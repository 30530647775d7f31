# pyright: basic
"""The Qwen2 forward pass against transformers' own, through the path encoder and the decoding batch."""

import random
from pathlib import Path as FilePath

import pytest
import torch
from torch import Tensor

from server.engines.stats import EngineCounters
from server.engines.torch.checkpoint import load_policy
from server.engines.torch.decode_batch import DecodeBatch
from server.engines.torch.matrices import Precision
from server.engines.torch.path_encoder import PathEncoder
from server.engines.torch.qwen2 import Qwen2

SHAPES = [
    {},
    {"num_key_value_heads": 1},
    {"num_key_value_heads": 4},
    {"head_dim": 16, "tie_word_embeddings": False},
    {"max_position_embeddings": 64},
]


class Reference:
    """Both models of one folder."""

    def __init__(self, folder: FilePath) -> None:
        import transformers

        checkpoint = load_policy(folder)
        self.model = Qwen2(checkpoint.shape, checkpoint.weights, precision=Precision.FLOAT32)
        self.head = self.model.product(checkpoint.head)
        self.counters = EngineCounters()
        self.encoder = PathEncoder(self.model, cache_bytes=1 << 20, counters=self.counters)
        self._reference = transformers.Qwen2ForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()

    def logits(self, hidden: Tensor) -> Tensor:
        return self.head(hidden.view(-1, hidden.shape[-1])).view(*hidden.shape[:-1], -1)

    @torch.inference_mode()
    def expected(self, ids: tuple[int, ...]) -> Tensor:
        return self._reference(torch.tensor([ids])).logits[0, -1]


@pytest.fixture(scope="module")
def reference(policy_folder: FilePath) -> Reference:
    return Reference(policy_folder)


def tokens(count: int, *, seed: int) -> tuple[int, ...]:
    rng = random.Random(seed)
    return tuple(rng.randrange(290) for _ in range(count))


@pytest.mark.parametrize("changes", SHAPES)
@torch.inference_mode()
def test_logits_are_those_of_transformers(make_folder, tmp_path: FilePath, changes: dict[str, object]) -> None:
    reference = Reference(make_folder(tmp_path / "model", "Qwen2ForCausalLM", seed=7, **changes))
    ids = tokens(60, seed=1)
    (node,) = reference.encoder.encode([(ids,)])
    torch.testing.assert_close(reference.logits(node.hidden), reference.expected(ids), atol=1e-4, rtol=0)


@torch.inference_mode()
def test_cuts_and_company_do_not_change_a_path(reference: Reference) -> None:
    root, other = tokens(30, seed=2), tokens(11, seed=3)
    steps = [tokens(length, seed=length) for length in (1, 5, 17, 4)]
    paths = [
        (root,),
        (root, steps[0]),
        (root, steps[1]),
        (root, steps[1]),
        (root, steps[1], steps[2], steps[3]),
        (other, steps[0], steps[2]),
        (other,),
    ]
    nodes = reference.encoder.encode(paths)
    for path, node in zip(paths, nodes, strict=True):
        ids = tuple(token for segment in path for token in segment)
        assert node.length == len(ids)
        torch.testing.assert_close(reference.logits(node.hidden), reference.expected(ids), atol=1e-4, rtol=0)


@torch.inference_mode()
def test_only_the_new_step_of_a_child_is_computed(reference: Reference) -> None:
    root, step, sibling = tokens(40, seed=21), tokens(6, seed=22), tokens(8, seed=23)
    reference.encoder.encode([(root, step)])
    before = reference.counters.tokens_encoded
    reference.encoder.encode([(root, sibling), (root, step, sibling), (root, step)])
    assert reference.counters.tokens_encoded - before == 2 * len(sibling)


@torch.inference_mode()
def test_a_path_larger_than_the_cache_is_still_right(policy_folder: FilePath) -> None:
    reference = Reference(policy_folder)
    reference.encoder = PathEncoder(reference.model, cache_bytes=1, counters=EngineCounters())
    path = (tokens(50, seed=4), tokens(5, seed=5), tokens(6, seed=6))
    ids = tuple(token for segment in path for token in segment)
    for _ in range(2):
        (node,) = reference.encoder.encode([path])
        torch.testing.assert_close(reference.logits(node.hidden), reference.expected(ids), atol=1e-4, rtol=0)


@torch.inference_mode()
def test_rows_that_come_and_go_keep_their_own_context(reference: Reference) -> None:
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
