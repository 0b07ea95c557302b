"""The tests, a folder for each package; `checked` decorates every function while they run."""

import beartype

# An int will do for a float.
checked = beartype.beartype(conf=beartype.BeartypeConf(is_pep484_tower=True))
