"""The networks that are trained here."""
