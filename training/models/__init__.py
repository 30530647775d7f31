"""Models: the policy and the reward models, and how they are trained."""
