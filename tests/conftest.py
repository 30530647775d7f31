"""For all tests: how many examples a property is tried on. `make unit` takes few, `make test` many."""

from hypothesis import settings

settings.register_profile("few", max_examples=10, deadline=None)
settings.register_profile("many", max_examples=60, deadline=None)
settings.load_profile("many")
