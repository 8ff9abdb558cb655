"""Taking users out of a bundle."""
