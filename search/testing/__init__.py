"""Testing aids for the search and for what is built on it: fakes of every part, delays, and a check of trees."""
