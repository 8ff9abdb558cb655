"""The page of `recsys demo`."""
