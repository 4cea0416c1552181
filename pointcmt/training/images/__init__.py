"""2D networks: their descriptions, weights, blocks and features."""
