"""The toy objects, one file per family of classes.

The modules below them, from the bottom up: `dice` (random decisions), `colors` and `textures`,
`outlines` and `solids`, `builder` (assembly), `parts` (shared by several classes).
"""
