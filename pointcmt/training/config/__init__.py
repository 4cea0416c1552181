"""The configurations of all recipes: sections, defaults and the files they come from."""
