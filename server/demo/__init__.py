"""`make demo`: a server that solves two problems in view."""
