"""Recipes: those that ship can be read, and mistakes are named."""

from pathlib import Path

import pytest

from search import Values
from training.recipe import RECIPES, RecipeError, read_recipe

NAMES = sorted(path.stem for path in RECIPES.glob("*.toml"))


def changed(folder: Path, before: str, after: str) -> str:
    text = (RECIPES / "smoke.toml").read_text()
    assert before in text
    file = folder / "changed.toml"
    file.write_text(text.replace(before, after, 1))
    return str(file)


@pytest.mark.parametrize("name", NAMES)
def test_every_shipped_recipe_has_the_rounds_of_the_paper(name: str) -> None:
    recipe = read_recipe(name)
    assert recipe.name == name
    guided = [Values.TERMINAL_GUIDED] * 2 + [Values.PPM] * 2
    assert [settings.values for settings in recipe.rounds] == guided
    only = [[one.only for one in settings.passes] for settings in recipe.rounds]
    assert only == [["all"], ["all", "unsolved"], ["all", "unsolved"], ["all", "unsolved", "unsolved"]]
    assert [settings.drop_doubtful for settings in recipe.rounds] == [False, False, False, True]
    assert recipe.rounds[3].passes[2].trees == 2


@pytest.mark.parametrize("name", ["paper", "smol"])
def test_rollouts_and_candidates_are_those_of_the_paper(name: str) -> None:
    recipe = read_recipe(name)
    budgets = [[one.trajectories for one in settings.passes] for settings in recipe.rounds]
    assert budgets == [[8], [16, 16], [16, 16], [16, 64, 128]]
    assert [settings.candidates for settings in recipe.rounds] == [5, 8, 8, 16]


def test_the_batches_of_the_paper_are_those_of_appendix_a() -> None:
    recipe = read_recipe("paper")
    sizes = [(settings.batch_examples or 0) * settings.accumulate for settings in (recipe.policy, recipe.ppm)]
    assert sizes == [128, 512]
    for settings in (recipe.policy, recipe.ppm):
        assert "--use_fsdp" in (settings.launch or ())


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        ("seed = 1", "sead = 1", "sead: Extra inputs are not permitted"),
        ("seed = 1", "seed = ", "no valid TOML"),
        ("candidates = 3", "candidates = 0", r"rounds\.0\.candidates: Input should be greater than 0"),
        ('values = "terminal_guided"', 'values = "ppm"', r"rounds\[0\] has values ppm, and there is no PPM"),
        ("batch_tokens = 2048", "", "exactly one of batch_tokens and batch_examples"),
        ('[bootstrap]\nkind = "start"', '[bootstrap]\nkind = "solutions"', "solutions needs training and file"),
        ('start = "bundle"', 'start = "scratch"', "start scratch needs a bootstrap of kind teacher"),
        (
            'base = "start"\n\n[bootstrap]\nkind = "start"',
            'base = "bootstrap"\n\n[bootstrap]\nkind = "few_shot"\nmodel = "m"',
            "few_shot needs base start",
        ),
        ("perturbed = 1", 'demonstrations = "unsolved"', "demonstrations unsolved needs a bootstrap of kind solutions"),
        (", count = 6", "", "families need a count"),
    ],
)
def test_a_mistake_is_named_by_its_place(tmp_path: Path, before: str, after: str, message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        read_recipe(changed(tmp_path, before, after))


def test_an_unknown_recipe_is_answered_with_the_known_ones() -> None:
    with pytest.raises(RecipeError, match="known are nano, paper, smoke, smol, or give the path"):
        read_recipe("nanno")
