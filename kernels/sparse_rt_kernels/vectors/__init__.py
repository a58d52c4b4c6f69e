"""Operations on vector registers, each beside its meaning in NumPy."""
