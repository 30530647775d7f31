"""Testing aids for the search and the code built on it: fakes of every part, delays, and a check of trees."""
