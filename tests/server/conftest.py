# pyright: basic
"""Model folders with random weights, for tests with real models: their text is nonsense, but they can be served."""

from pathlib import Path

import pytest

from server.bundle.folders import ModelFolders


@pytest.fixture(scope="session")
def model_folders(tmp_path_factory: pytest.TempPathFactory) -> ModelFolders:
    """As training writes them."""
    import torch
    from transformers import Qwen2ForSequenceClassification

    from server.engines.rendering import END_OF_TEXT
    from training.models.folders import save_for_serving
    from training.models.policy_model import PolicyShape, new_policy, train_tokenizer

    root: Path = tmp_path_factory.mktemp("models")
    folders = ModelFolders(policy=root / "policy", ppm=root / "ppm")
    tokenizer = train_tokenizer(["# Add the numbers\ntotal = 12 + 30\nprint(total)"], vocabulary=300)
    shape = PolicyShape(vocabulary=300, hidden=32, layers=1, heads=2, key_value_heads=1, intermediate=32, context=512)
    policy = new_policy(shape, seed=1, end_of_text=tokenizer.token_to_id(END_OF_TEXT) or 0)
    torch.manual_seed(2)
    policy.config.num_labels = 1
    ppm = Qwen2ForSequenceClassification(policy.config)
    for model, folder in ((policy, folders.policy), (ppm, folders.ppm)):
        save_for_serving(model, folder)
        tokenizer.save(str(folder / "tokenizer.json"))
    return folders
