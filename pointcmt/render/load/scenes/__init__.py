"""Loaders of scenes, one module per source: `load_<source>(record, root) -> SceneData`."""
