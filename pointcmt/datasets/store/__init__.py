"""View stores: the contract (`schema`), making, reading, checking and streaming them."""
