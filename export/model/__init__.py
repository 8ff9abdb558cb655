"""A fitted model as plain arrays that know their arithmetic."""
