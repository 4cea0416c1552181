"""Names of files in models: around the model, and of UDIM tiles."""
