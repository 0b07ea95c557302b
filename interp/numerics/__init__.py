"""What numbers in floating point are worth: distances in ULP, bounds before anything is computed,
intervals."""
