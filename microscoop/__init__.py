"""microscoop: `futures.map` over processes here and on other machines; imported in every process, keeps no state.

Parses on old Pythons too, so that __main__.py can name the one that is needed. See __main__.py, then cli.py.
"""
__version__ = "1.0.0"
