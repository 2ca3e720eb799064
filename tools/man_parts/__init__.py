"""What tools/man is made of."""
