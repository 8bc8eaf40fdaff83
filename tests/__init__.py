"""The tests: `python3 -m unittest` in the folder above; the standard library is enough."""
