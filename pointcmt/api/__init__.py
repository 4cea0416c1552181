"""The public API by subject; `pointcmt/__init__.py` loads it on first use.

Only this package and the commands import both rendering and training.
"""
