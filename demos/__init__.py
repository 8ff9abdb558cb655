"""Shows what a bundle can do: users of serve and of the bundle, nothing else."""
