"""Scenes: from posed frames and labeled points to the rows of a store."""
