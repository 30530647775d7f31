"""The models that ship with the server, as package data: folders `policy` and `ppm` beside this file."""
