"""What `import pointcmt` offers, by subject; `pointcmt/__init__.py` loads it on first use.

Only here, and in the commands, rendering and training meet.
"""
