"""The paper "Interpretability in the Wild" (Wang et al. 2022) as one command: every measurement of
it, on any model.

published.py: what the paper says. lab.py: the prompts and runs that the measurements share.
mechanism.py, behaviour.py and criteria.py: the measurements, a function each. study.py: all of them
in order. view.py, page.py: how they are shown.
"""

from interp.ioi.study import Study, study

__all__ = ["Study", "study"]
