"""The shapes of the built-in data set `toy`, one file per class.

From the bottom up: `dice` decides; `palettes`, `canvas`, `textures`, `patterns` and `finishes`
colour; `outlines`, `loft`, `solid` and `solids` shape; `assembly` puts together. A class's file
has PARTS, its part names, and `build`, which makes one shape from dice.
"""
