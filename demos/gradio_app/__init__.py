"""The page of `recsys demo`: what a bundle answers, to look at and to try."""
