"""How a bar of progress reads where its units do not cost alike: what is done of how much, and the
time that took. The time that is left would be a guess, and is not said."""

COUNTED = "{desc}|{bar}| {n_fmt}/{total_fmt} {unit} [{elapsed}]"
