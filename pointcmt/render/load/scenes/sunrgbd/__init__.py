"""SUN RGB-D: single frames from the release or from VoteNet's extraction."""
