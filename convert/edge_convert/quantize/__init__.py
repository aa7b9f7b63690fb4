"""int8 that loses nothing: which pictures set the ranges, where the error arises, and what mends it."""
