"""Single objects, one file per family of classes.

From the bottom up: `dice` decides, `colors` and `textures` paint, `outlines` and `solids` shape,
`builder` puts together, `parts` has what several classes share.
"""
