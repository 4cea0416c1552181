"""The configurations of all recipes: sections, defaults and how they are read from files."""
