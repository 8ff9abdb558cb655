"""Items that came after training, added to a bundle without training."""
