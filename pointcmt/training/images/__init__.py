"""2D networks: what is known of them, their weights, blocks and features."""
