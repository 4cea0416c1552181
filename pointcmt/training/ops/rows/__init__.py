"""Operations on rows [M, D], one for each point or neighbor of a batch."""
