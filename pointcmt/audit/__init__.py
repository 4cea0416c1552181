"""Audit a store: does anything in it tell the class that should not, or make its scores unfair?

`measurement` reads each shape once. `leaks`, `duplicates` and `judgment` judge what was measured;
`run` puts them together, and `page` shows what was found.
"""
