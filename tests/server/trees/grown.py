"""Trees for tests: grown by hand, of any size."""

from search import Tree
from search.testing.trees import add_trajectory


def grown_tree(trajectories: int = 2, *, problem: str = "1+2") -> Tree:
    """A tree with so many trajectories, each with a step of its own."""
    tree = Tree(problem)
    for number in range(trajectories):
        add_trajectory(tree, [f"# Add\ntotal = {number} + 3", "print(total)"], f"{number + 3}", is_right=number == 0)
    return tree
